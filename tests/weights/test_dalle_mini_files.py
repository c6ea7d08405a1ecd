"""DALL·E Mini's published files become a model, from PyTorch or from flax, or nothing does."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dalle_mini_oracle as oracle
import numpy as np
import pytest
import torch
from dalle_mini_oracle import tables
from hub import Hub
from safetensors.torch import load_file

from dallecli.errors import BadFile, BadFolder, DalleError, LayoutMismatch
from dallecli.weights import flax, registry
from dallecli.weights.convert import convert_file
from dallecli.weights.dalle_mini import config_of, convert_dalle_mini
from dallecli.weights.fetch.pull import pull
from dallecli.weights.flax import read_flax
from dallecli.weights.folder import Folder
from dallecli.weights.hub import Patience
from dallecli.weights.layouts import published_in


def files_of_flax(folder: Path, *, chunk: int | None = None) -> Path:
    folder.mkdir()
    oracle.write_words(folder)
    arrays = oracle.flax_arrays(tables())
    (folder / "flax_model.msgpack").write_bytes(oracle.msgpack(arrays, chunk=chunk))
    (folder / "vqgan").mkdir()
    (folder / "vqgan" / "flax_model.msgpack").write_bytes(oracle.msgpack(oracle.flax_vqgan()))
    return folder


@pytest.fixture(scope="module")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.write_pt(tmp_path_factory.mktemp("torch") / "files", tables())


@pytest.mark.long
def test_min_dalles_files_become_a_folder_with_the_same_numbers_in_their_own_type(from_torch: Path, tmp_path: Path):
    made = convert_dalle_mini(from_torch, tmp_path / "mini")
    folder = Folder(tmp_path / "mini")
    assert (folder.layout, folder.tasks, folder.sizes(), folder.largest()) == ("dalle-mini", ("generate",), (8,), None)
    for half, part in (("encoder", "text_encoder"), ("decoder", "decoder")):
        found = load_file(folder.weights_file(part))
        assert found.keys() == tables()[half].keys()
        assert all(torch.equal(tensor, tables()[half][name].half()) for name, tensor in found.items())
        assert (from_torch / f"{half}_mini.pt", folder.path / part / "model.safetensors") in made
    assert folder.config("decoder")["decoder_start_token_id"] == oracle.CODES
    assert folder.config("vqgan")["pixel_range"] == "[0, 1]"
    assert folder.config("vqgan")["norm_eps"] == 1e-6  # min-dalle's port has 1e-5
    assert {path.name for path in (folder.path / "tokenizer").iterdir()} == {
        "vocab.json", "merges.txt", "tokenizer_config.json"
    }  # fmt: skip


@pytest.mark.parametrize("chunk", [None, 1000], ids=["whole", "in chunks"])
def test_flaxs_file_becomes_the_same_model(tmp_path: Path, chunk: int | None):
    source = files_of_flax(tmp_path / "files", chunk=chunk)
    convert_dalle_mini(source, tmp_path / "mini")
    folder = Folder(tmp_path / "mini")
    for half, part in (("encoder", "text_encoder"), ("decoder", "decoder")):
        found = load_file(folder.weights_file(part))
        assert found.keys() == tables()[half].keys()
        assert all(torch.equal(tensor, tables()[half][name]) for name, tensor in found.items())
    assert "vqgan_encoder" in folder.parts


def test_what_shapes_tell_of_the_published_models_is_what_their_configs_say():
    keys = Path(__file__).parents[1] / "nets" / "published_keys"
    for size in ("mini", "mega"):
        for half in ("encoder", "decoder"):
            published = json.loads((keys / f"dalle_{size}_{half}.json").read_text())
            shapes = {name: tuple(shape) for name, shape in published["state_dict"].items()}
            config = config_of(shapes, half)
            wanted = {name: value for name, value in published["config"].items() if name in config}
            assert {name: config[name] for name in wanted} == wanted
            assert len(wanted) >= 5


def saved(change: Callable[[dict[str, torch.Tensor]], object], half: str) -> Callable[[Path], None]:
    def write(files: Path) -> None:
        table = {name: tensor.half() for name, tensor in tables()[half].items()}
        change(table)
        torch.save(table, files / f"{half}_mini.pt")

    return write


BAD: dict[str, tuple[Callable[[Path], object], type[DalleError], str]] = {
    "a half is missing": (
        lambda files: (files / "decoder_mini.pt").unlink(),
        BadFolder,
        "decoder_mini.pt of DALL-E Mini",
    ),
    "no vocabulary": (lambda files: (files / "vocab_mini.json").unlink(), BadFolder, "vocab_mini.json of DALL-E Mini"),
    "no VQGAN": (lambda files: (files / "detoker.pt").unlink(), BadFolder, "the VQGAN of DALL-E Mini is missing"),
    "two models": (
        lambda files: (files / "encoder.pt").touch(),
        BadFolder,
        "two models here: DALL-E Mini and DALL-E M",
    ),
    "a web page": (lambda files: (files / "encoder_mini.pt").write_text("<html>"), BadFile, "a web page"),
    "the halves exchanged": (
        lambda files: shutil.copy(files / "decoder_mini.pt", files / "encoder_mini.pt"),
        BadFile,
        "this is no encoder of DALL-E Mini: it looks like the decoder",
    ),
    "a scale that is not in the published file": (
        saved(lambda table: table.update({"final_ln.weight": torch.ones(128)}), "encoder"),
        LayoutMismatch,
        "1 unexpected .final_ln.weight",
    ),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.long
def test_a_file_that_is_not_what_it_says_makes_nothing(from_torch: Path, tmp_path: Path, what: str):
    change, error, words = BAD[what]
    change(Path(shutil.copytree(from_torch, tmp_path / "files")))
    with pytest.raises(error, match=words) as raised:
        convert_dalle_mini(tmp_path / "files", tmp_path / "mini")
    assert len(raised.value.lines()) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["files"]


# flax's format


ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


def head(names: int) -> bytes:
    return bytes([0x80 | names])


def named(name: str, value: bytes) -> bytes:
    return oracle.text(name) + value


def deep(levels: int) -> bytes:
    return (head(1) + oracle.text("a")) * levels + oracle.array(ONE)


FINE = head(1) + named("a", oracle.array(ONE))
BROKEN: dict[str, tuple[bytes, str]] = {
    "cut short": (FINE[:-1], "cut short"),
    "only a head": (head(1), "cut short"),
    "longer": (FINE + b"\0", "1 bytes too many"),
    "no map": (oracle.array(ONE), "a map was expected"),
    "a number": (head(1) + named("a", b"\x07"), "something else than an array"),
    "a name twice": (head(2) + named("a", oracle.array(ONE)) * 2, "appears twice"),
    "whole numbers": (head(1) + named("a", oracle.array(ONE, "int32")), "of the kind int32"),
    "too few bytes": (
        head(1) + named("a", oracle.array(ONE).replace(b"\x92\x02\x03", b"\x92\x02\x04")),
        "than its shape",
    ),
    "too deep": (deep(17), "16 maps deep"),
    "another extension": (head(1) + named("a", oracle.array(ONE).replace(b"\x01\x93", b"\x02\x93")), "no array"),
    "a slash in a name": (head(1) + named("a/b", oracle.array(ONE)), "is none"),
    "no UTF-8": (head(1) + b"\xa1\xff" + oracle.array(ONE), "utf-8"),
    "chunks that do not fit": (
        oracle.msgpack({"a": ONE}, chunk=4).replace(b"shape\x82\xa10\x02", b"shape\x82\xa10\x03"),
        "than its shape",
    ),
    "nothing": (head(0), "no arrays"),
    "a safetensors file": (b"\x40\0\0\0\0\0\0\0{}", "a map was expected"),
    "a pickle": (b"\x80\x04\x95", "bytes too many"),
    "a web page": (b"<!doctype html>", "a map was expected"),
    "empty": (b"", "cut short"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_msgpack_is_refused_in_words(tmp_path: Path, what: str):
    data, words = BROKEN[what]
    (tmp_path / "flax_model.msgpack").write_bytes(data)
    with pytest.raises(BadFile, match=words) as raised:
        read_flax(tmp_path / "flax_model.msgpack")
    assert len(raised.value.lines()) <= 3


def test_every_end_and_every_flipped_byte_of_a_msgpack_is_read_or_refused(tmp_path: Path):
    data, file = oracle.msgpack({"a/b": ONE, "c": ONE}, chunk=4), tmp_path / "flax_model.msgpack"
    for end in range(len(data)):
        file.write_bytes(data[:end])
        with pytest.raises(BadFile):
            read_flax(file)
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            arrays = read_flax(file)
        except BadFile:
            continue
        assert all(0 <= start <= end <= len(data) for one in arrays.values() for start, end in one.pieces)


def test_an_array_is_found_where_its_bytes_are_and_copied_a_layer_at_a_time(tmp_path: Path):
    file = tmp_path / "flax_model.msgpack"
    stacked = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    half = stacked[0].view(np.uint16)
    data = head(2) + named("s", oracle.array(stacked)) + named("b", oracle.array(half, "bfloat16"))
    file.write_bytes(data)
    arrays = read_flax(file)
    ((start, end),) = arrays["s"].pieces
    assert data[start:end] == stacked.tobytes()
    copies = [flax.Copy(source="s", target=f"layers.{k}", layer=k, turned=True) for k in range(2)] + [
        flax.Copy(source="b", target="b", turned=True)
    ]
    flax.copy_flax(file, arrays, copies, tmp_path / "x.safetensors")
    made = load_file(tmp_path / "x.safetensors")
    assert all(np.array_equal(made[f"layers.{k}"].numpy(), stacked[k].T) for k in range(2))
    assert made["b"].dtype == torch.bfloat16
    assert np.array_equal(made["b"].view(torch.uint16).numpy(), half.T)


def test_a_vqgan_in_the_transformers_place_is_named(tmp_path: Path):
    source = files_of_flax(tmp_path / "files")
    shutil.copy(source / "vqgan" / "flax_model.msgpack", source / "flax_model.msgpack")
    assert published_in(source) is not None
    with pytest.raises(BadFile, match="it looks like the VQGAN's"):
        convert_dalle_mini(source, tmp_path / "mini")


def test_files_that_are_not_converted_yet_are_answered_by_the_command_that_does(from_torch: Path, tmp_path: Path):
    with pytest.raises(BadFolder, match="published files") as raised:
        Folder(from_torch)
    assert "dalle models convert" in str(raised.value.hint)
    source = files_of_flax(tmp_path / "files")
    with pytest.raises(BadFile, match="a file of flax") as raised_too:
        convert_file(source / "flax_model.msgpack", tmp_path / "x.safetensors")
    assert "convert the folder" in str(raised_too.value.hint)


# Pulls


@pytest.mark.long
def test_a_pull_makes_the_model_of_the_files_at_their_commit_and_checks_their_hashes(
    hub: Hub, from_torch: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = registry.registry()["dalle-mini"]
    hub.add("kuprel/min-dalle", from_torch)
    commit = spec.files[0].url.split("/")[-2]
    hub.pin("kuprel/min-dalle", commit)
    settings = {"agree": lambda plan: None, "report": lambda step: None, "patience": Patience(tries=2, unit=0.0)}
    with pytest.raises(BadFile, match="wrong bytes"):
        pull("dalle-mini", **settings)  # those here are not the published ones
    known = {**registry.registry()}
    known["dalle-mini"] = replace(spec, files=tuple(replace(file, sha256=None) for file in spec.files))
    monkeypatch.setattr(registry, "_registered", lambda: known)
    monkeypatch.setattr("dallecli.weights.dalle_mini.START", oracle.CODES)
    made = pull("dalle-mini", **settings)
    folder = registry.locate(registry.find("dalle-mini"))
    assert (folder.layout, folder.tasks) == ("dalle-mini", ("generate",))
    assert made.fetched > 0
    assert all(commit in request.path for request in hub.requests if "min-dalle" in request.path)
    assert pull("dalle-mini", **settings).fetched == 0
