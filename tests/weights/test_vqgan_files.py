"""A published VQGAN becomes a model, or nothing does."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import vqgan_oracle as oracle
from dalle_mini_oracle import msgpack
from safetensors.torch import load_file

from dallecli.errors import BadFile, BadFolder, DalleError, LayoutMismatch
from dallecli.nets.vqgan import VqganConfig
from dallecli.pipelines.vqgan import check_tensors
from dallecli.weights.folder import Folder
from dallecli.weights.layouts import published_in
from dallecli.weights.vqgan import FILES, LEVELS, SYMMETRIC, convert_vqgan


@pytest.mark.long
def test_a_checkpoint_of_older_torch_becomes_a_folder_of_both_halves(tmp_path: Path) -> None:
    source = oracle.write_published(tmp_path / "files", "last.ckpt", _use_new_zipfile_serialization=False)
    made = convert_vqgan(source, tmp_path / "vqgan")
    folder = Folder(tmp_path / "vqgan")
    halves = ("encoder", "decoder")
    assert made == [(source / "last.ckpt", folder.path / half / "model.safetensors") for half in halves]
    assert (folder.tasks, folder.sizes(), folder.cell()) == (("encode", "decode"), (256,), 2)
    config = VqganConfig.from_config(folder.config("decoder"))
    assert (config.pixel_range, config.block_out_channels) == (SYMMETRIC, oracle.CHANNELS)
    written = load_file(folder.weights_file("decoder"))
    assert torch.equal(written["quantize.embedding.weight"], oracle.table()["quantize.embedding.weight"])
    assert not list(tmp_path.glob("vqgan.*"))


def test_of_a_decoder_alone_a_model_is_made_that_decodes(tmp_path: Path) -> None:
    assert FILES["detoker.pt"] == LEVELS
    folder = Folder(oracle.write(tmp_path / "vqgan", oracle.decoder_alone(oracle.table()), LEVELS))
    check_tensors(folder)
    assert (folder.tasks, folder.networks) == (("decode",), ("decoder",))


def test_flaxs_file_becomes_the_same_folder_with_the_range_of_dalle_mini(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    arrays = {name: tensor.numpy() for name, tensor in oracle.in_flax(oracle.table()).items()}
    (tmp_path / "files" / "flax_model.msgpack").write_bytes(msgpack(arrays))
    family = published_in(tmp_path / "files")
    assert family is not None
    assert family.pipeline == "VQModel"
    convert_vqgan(tmp_path / "files", tmp_path / "flax")
    torch_folder, flax = Folder(oracle.write(tmp_path / "torch", oracle.table(), LEVELS)), Folder(tmp_path / "flax")
    for half in ("encoder", "decoder"):
        assert flax.config(half) == torch_folder.config(half)
        found, wanted = (load_file(folder.weights_file(half)) for folder in (flax, torch_folder))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    (tmp_path / "files" / "vocab.json").write_text("{}")
    mini = published_in(tmp_path / "files")
    assert mini is not None
    assert mini.pipeline == "DalleMiniPipeline"


def test_dalle_minis_own_file_without_its_vocabulary_is_said_to_be_it(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "flax_model.msgpack").write_bytes(msgpack({"model/decoder/x": np.ones(2, np.float32)}))
    with pytest.raises(BadFile, match="like DALL-E Mini"):
        convert_vqgan(tmp_path / "files", tmp_path / "flax")


def incomplete(files: Path) -> None:
    tensors = oracle.table()
    del tensors["encoder.conv_in.bias"]
    torch.save({"state_dict": tensors}, files / "last.ckpt")


def truncated(files: Path) -> None:
    data = (files / "last.ckpt").read_bytes()
    (files / "last.ckpt").write_bytes(data[: len(data) // 2])


BAD: dict[str, tuple[Callable[[Path], object], type[DalleError], str]] = {
    "cut short": (truncated, BadFile, "damaged|cannot be read"),
    "two models": (lambda files: torch.save({}, files / "detoker.pt"), BadFolder, "several models here: last.ckpt, "),
    "half an encoder": (incomplete, LayoutMismatch, "encoder.conv_in.bias"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.long
def test_a_file_that_is_not_what_it_says_makes_nothing(tmp_path: Path, what: str) -> None:
    change, error, words = BAD[what]
    change(oracle.write_published(tmp_path / "files", "last.ckpt"))
    with pytest.raises(error, match=words) as raised:
        convert_vqgan(tmp_path / "files", tmp_path / "vqgan")
    assert len(raised.value.lines()) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


def test_tensors_of_another_network_are_refused_with_the_name_of_the_published_file(tmp_path: Path) -> None:
    tensors = oracle.table() | {"w": torch.ones(2)}
    with pytest.raises(BadFile, match="this is not a VQGAN: it has a tensor w"):
        oracle.write(tmp_path / "vqgan", tensors, SYMMETRIC)


def test_halves_of_two_models_are_refused(tmp_path: Path) -> None:
    folder = oracle.write(tmp_path / "vqgan", oracle.table(), SYMMETRIC)
    config = folder / "encoder" / "config.json"
    config.write_text(config.read_text().replace("[-1, 1]", "[0, 1]"))
    with pytest.raises(BadFolder, match=r"the range of pixels is \[0, 1\] in the encoder and \[-1, 1\] in the decoder"):
        check_tensors(Folder(folder))
    shutil.rmtree(folder / "encoder")
    check_tensors(Folder(folder))
