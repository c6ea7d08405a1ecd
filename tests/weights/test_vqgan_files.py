"""A published VQGAN becomes a model, or nothing does."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import vqgan_oracle as oracle
from safetensors.torch import load_file

from dallecli.errors import BadFile, BadFolder, DalleError, LayoutMismatch
from dallecli.nets.vqgan import VqganConfig
from dallecli.pipelines.vqgan import check_tensors
from dallecli.weights.folder import Folder
from dallecli.weights.vqgan import FILES, SYMMETRIC, convert_vqgan


@pytest.mark.parametrize("name", ["last.ckpt", "detoker.pt"])
def test_a_checkpoint_becomes_a_folder_of_the_halves_that_it_has(tmp_path: Path, name: str) -> None:
    made = convert_vqgan(oracle.write_published(tmp_path / "files", name), tmp_path / "vqgan")
    folder = Folder(tmp_path / "vqgan")
    halves = ["decoder"] if name == "detoker.pt" else ["encoder", "decoder"]
    assert made == [(tmp_path / "files" / name, folder.path / half / "model.safetensors") for half in halves]
    assert (folder.tasks, folder.sizes(), folder.cell()) == (
        ("decode",) if name == "detoker.pt" else ("encode", "decode"), (256,), 2
    )  # fmt: skip
    config = VqganConfig.from_config(folder.config("decoder"))
    assert config.pixel_range == FILES[name]
    assert config.block_out_channels == oracle.CHANNELS
    written = load_file(folder.weights_file("decoder"))
    assert torch.equal(written["quantize.embedding.weight"], oracle.table()["quantize.embedding.weight"])
    assert not list(tmp_path.glob("vqgan.*"))


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
