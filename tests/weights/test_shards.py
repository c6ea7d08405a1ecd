"""Weights that are split into several files: written by huggingface_hub, read whole; refused where an index lies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

import dallecli
from dallecli.errors import BadFile, BadFolder, LayoutMismatch
from dallecli.limits import SHARDS, TENSORS
from dallecli.weights.convert import convert_folder
from dallecli.weights.folder import Folder
from dallecli.weights.header import read_header
from dallecli.weights.load import load_net
from dallecli.weights.registry import find, locate
from dallecli.weights.shards import files_of, headers_of
from dallecli.weights.twins import share

CPU = torch.device("cpu")
INDEX = "model.safetensors.index.json"


class Layers(nn.Module):
    """A network that is large enough to be split."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(5)])


def split(file: Path, size: str | int = "20KB") -> Path:
    """Split a file of weights, as huggingface_hub does it, and return the index."""
    tensors = load_file(file)
    file.unlink()
    pattern = file.name.replace(".safetensors", "{suffix}.safetensors")
    save_torch_state_dict(tensors, file.parent, filename_pattern=pattern, max_shard_size=size)
    return file.with_name(f"{file.name}.index.json")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    torch.manual_seed(0)
    save_file(Layers().state_dict(), tmp_path / "part" / "model.safetensors")
    return split(tmp_path / "part" / "model.safetensors", 600)


def change(index: Path, changed: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(index.read_text())
    changed(content)
    index.write_text(json.dumps(content))


def test_every_tensor_arrives_from_whatever_file(index: Path) -> None:
    torch.manual_seed(0)
    wanted = Layers().state_dict()
    assert len(files_of(index)) == 4
    net = load_net(Layers, index, torch.float32, CPU)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in net.state_dict().items())
    assert headers_of(index).keys() == wanted.keys()


@pytest.fixture
def whole_starter(tmp_path: Path) -> Path:
    """The starter without a list of hashes, which would not be that of its files any more."""
    folder = Path(shutil.copytree(locate(find("starter")).path, tmp_path / "whole"))
    (folder / "SHA256SUMS").unlink()
    return folder


@pytest.mark.long
def test_a_model_of_split_parts_paints_what_it_paints_whole(whole_starter: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole_starter, tmp_path / "split"))
    for part in Folder(whole_starter).networks:
        if (folder / part / "diffusion_pytorch_model.safetensors").exists():
            split(folder / part / "diffusion_pytorch_model.safetensors")
        elif (folder / part / "model.safetensors").exists():
            split(folder / part / "model.safetensors")
    assert not list(folder.rglob("*model.safetensors"))
    assert Folder(folder).parameters() == Folder(whole_starter).parameters()
    for prior in ("diffusion", "autoregressive"):
        pictures = []
        for place in (whole_starter, folder):
            model = dallecli.open(str(place), device="cpu", dtype="fp32")
            pictures += model.generate("a red dog", prior=prior, seed=3, steps=2, size=16)
        assert pictures[0].image.tobytes() == pictures[1].image.tobytes()


@pytest.mark.long
def test_the_digest_covers_every_file(index: Path, whole_starter: Path) -> None:
    file = whole_starter / "prior" / "diffusion_pytorch_model.safetensors"
    shards = files_of(split(file, "200KB"))
    before = Folder(whole_starter).digest()
    assert len(shards) > 3
    for shard in shards:
        data = shard.read_bytes()
        shard.write_bytes(data + b" " if shard.suffix == ".json" else data[:-1] + bytes([data[-1] ^ 1]))
        assert Folder(whole_starter).digest() != before
        shard.write_bytes(data)
    assert Folder(whole_starter).digest() == before


def test_half_precision_is_found_under_the_names_of_both_libraries(whole_starter: Path) -> None:
    file = whole_starter / "prior" / "diffusion_pytorch_model.safetensors"
    index = split(file, "200KB")
    for ending in (".safetensors.index.fp16.json", ".fp16.safetensors.index.json"):
        name = f"diffusion_pytorch_model{ending}"
        assert Folder(whole_starter).weights_file("prior") == index
        half = index.rename(index.with_name(name))
        assert Folder(whole_starter).weights_file("prior") == half
        assert Folder(whole_starter).parameters_of("prior") > 0
        half.rename(index)


def test_twins_of_split_weights_are_stored_once_and_copied_whole(whole_starter: Path, tmp_path: Path) -> None:
    split(whole_starter / "super_res_first" / "diffusion_pytorch_model.safetensors", "200KB")
    convert_folder(whole_starter, tmp_path / "both")
    names = sorted(path.name for path in (tmp_path / "both" / "super_res_first").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "both" / "super_res_last").iterdir())
    assert Folder(tmp_path / "both").digest() == Folder(whole_starter).digest()
    assert share(tmp_path / "both") == ["super_res_last", "super_res_2_last"]
    assert [path.name for path in (tmp_path / "both" / "super_res_last").iterdir()] == ["config.json"]


@pytest.mark.long
def test_split_pickles_are_converted_with_their_index(whole_starter: Path, tmp_path: Path) -> None:
    part = whole_starter / "text_encoder"
    tensors = load_file(part / "model.safetensors")
    (part / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"00001": names[: len(names) // 2], "00002": names[len(names) // 2 :]}
    for number, some in halves.items():
        torch.save({name: tensors[name] for name in some}, part / f"pytorch_model-{number}-of-00002.bin")
    places = {name: f"pytorch_model-{number}-of-00002.bin" for number, some in halves.items() for name in some}
    (part / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    convert_folder(whole_starter, tmp_path / "converted")
    folder = Folder(tmp_path / "converted")
    assert folder.weights_file("text_encoder").name == INDEX
    assert headers_of(folder.weights_file("text_encoder")).keys() == tensors.keys()


def lie(name: str, place: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["weight_map"].update({name: place})


def swap(content: dict[str, Any]) -> None:
    """Say of two tensors in two files that each is in the other one's."""
    places = content["weight_map"]
    first, last = "layers.0.weight", "layers.4.weight"
    places[first], places[last] = places[last], places[first]


def many(content: dict[str, Any]) -> None:
    content["weight_map"] = {f"t{number}": f"s{number}.safetensors" for number in range(SHARDS + 1)}


def countless(content: dict[str, Any]) -> None:
    content["weight_map"] = {f"t{number}": "s.safetensors" for number in range(TENSORS + 1)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (swap, r"layers\.\d\.weight is .* model-0000\d-of-00003\.safetensors, which"),
        (lie("more", "model-00001-of-00003.safetensors"), "more is said to be in .*, which does not hold it"),
        (lambda content: content["weight_map"].pop("layers.2.bias"), r"layers\.2\.bias is in .*index does not say"),
        (lie("more", "gone.safetensors"), "missing: gone.safetensors"),
        (lie("more", "../part/model-00001-of-00003.safetensors"), "none beside it"),
        (lie("more", "/etc/passwd"), "none beside it"),
        (lie("more", "/etc/passwd.safetensors"), "none beside it"),
        (lie("more", "..\\model.safetensors"), "none beside it"),
        (lie("more", "sub/model.safetensors"), "none beside it"),
        (lie("more", ".safetensors"), "none beside it"),
        (lie("more", "model.bin"), "none beside it"),
        (lie("more", "model.safetensors\n"), "none beside it"),
        (lie("more", 7), "none beside it"),
        (lie("more", None), "none beside it"),
        (lie("a\x1b[31mb", "model-00001-of-00003.safetensors"), "a name that no network uses"),
        (lie("n" * 600, "model-00001-of-00003.safetensors"), "a name that no network uses"),
        (many, "split into 257 files, the limit is 256"),
        (countless, "20001 tensors, the limit is 20000"),
        (lambda content: content.pop("weight_map"), "no weight_map"),
        (lambda content: content.update(weight_map={}), "no weight_map"),
        (lambda content: content.update(weight_map=[]), "no weight_map"),
    ],
)
def test_an_index_that_lies_is_refused_before_a_tensor_is_read(index: Path, changed: Any, said: str) -> None:
    change(index, changed)
    for look in (headers_of, lambda path: load_net(Layers, path, torch.float32, CPU)):
        with pytest.raises(BadFile, match=said) as raised:
            look(index)
        assert raised.value.exit_code == 3 and len(raised.value.lines()) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{" * 3000, '{"weight_map": 1}'])
def test_an_index_that_is_none_is_refused(index: Path, content: str) -> None:
    index.write_text(content)
    with pytest.raises(BadFile, match="the index of the weights"):
        headers_of(index)


def pipe(path: Path) -> None:
    import os

    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "missing: model-00002"),
        (lambda path: (path.unlink(), path.symlink_to("gone")), "missing: model-00002"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "cannot be read"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "a device"),
        (pipe, "a pipe"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read|no file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-8]), "cut short"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    ],
)
def test_a_file_that_is_missing_or_no_file_is_named(index: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(index.with_name("model-00002-of-00003.safetensors"))
    with pytest.raises(BadFile, match=said) as raised:
        headers_of(index)
    assert raised.value.exit_code == 3 and len(raised.value.lines()) == 3


def test_a_file_may_be_a_link_as_in_the_folder_of_a_pulled_model(index: Path, tmp_path: Path) -> None:
    shard = index.with_name("model-00002-of-00003.safetensors")
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert load_net(Layers, index, torch.float32, CPU).layers[0].weight.shape == (8, 8)


def test_files_that_changed_places_are_found(index: Path) -> None:
    first, second = (index.with_name(f"model-0000{number}-of-00003.safetensors") for number in (1, 2))
    first.rename(first.with_name("x"))
    second.rename(first)
    first.with_name("x").rename(second)
    with pytest.raises(BadFile, match="the index is wrong"):
        headers_of(index)


def test_what_the_network_lacks_is_reported_by_the_index(index: Path) -> None:
    with pytest.raises(LayoutMismatch, match="10 unexpected") as raised:
        load_net(lambda: nn.Sequential(nn.Linear(8, 8)), index, torch.float32, CPU)
    assert raised.value.where == str(index)


def test_a_file_beside_the_index_that_it_does_not_name_is_not_read(index: Path) -> None:
    index.with_name("model-00004-of-00004.safetensors").write_bytes(b"anything")
    assert len(headers_of(index)) == 10


def test_split_weights_without_an_index_are_no_weights(whole_starter: Path) -> None:
    split(whole_starter / "prior" / "diffusion_pytorch_model.safetensors", "200KB").unlink()
    with pytest.raises(BadFile, match="their index is missing"):
        Folder(whole_starter).weights_file("prior")


def test_one_file_is_its_own_only_file(tmp_path: Path) -> None:
    save_file(Layers().state_dict(), tmp_path / "model.safetensors")
    assert files_of(tmp_path / "model.safetensors") == (tmp_path / "model.safetensors",)
    assert headers_of(tmp_path / "model.safetensors") == read_header(tmp_path / "model.safetensors")


class Twice(nn.Module):
    """A network with the embedding of T5."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Embedding(6, 4)


@pytest.mark.parametrize("names", [["shared"], ["encoder.embed_tokens"], ["shared", "encoder.embed_tokens"]])
def test_t5s_embedding_may_be_stored_under_either_name_or_both(tmp_path: Path, names: list[str]) -> None:
    tensor = torch.arange(24.0).view(6, 4)
    save_file({f"{name}.weight": tensor.clone() for name in names}, tmp_path / "model.safetensors")
    assert torch.equal(load_net(Twice, tmp_path / "model.safetensors", torch.float32, CPU).shared.weight, tensor)


def test_a_copy_of_another_shape_is_none(tmp_path: Path) -> None:
    tensors = {"shared.weight": torch.ones(6, 4), "encoder.embed_tokens.weight": torch.ones(5, 4)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(LayoutMismatch, match="1 unexpected"):
        load_net(Twice, tmp_path / "model.safetensors", torch.float32, CPU)


def test_what_would_overflow_stays_in_float32_beside_float16_and_nowhere_else(tmp_path: Path) -> None:
    save_file(Layers().state_dict() | {"layers.1.weight": torch.full((8, 8), 1e6)}, tmp_path / "model.safetensors")

    def kinds(dtype: torch.dtype) -> set[tuple[str, torch.dtype]]:
        net = load_net(Layers, tmp_path / "model.safetensors", dtype, CPU, "1.weight")
        return {(name, tensor.dtype) for name, tensor in net.state_dict().items() if tensor.dtype != dtype}

    assert kinds(torch.float16) == {("layers.1.weight", torch.float32)}
    assert kinds(torch.bfloat16) == kinds(torch.float32) == set()


def test_a_folder_must_not_name_its_parts_files_elsewhere(whole_starter: Path) -> None:
    """The whole way: a model is refused when it is found, with the code of broken weights."""
    index = split(whole_starter / "prior" / "diffusion_pytorch_model.safetensors", "200KB")
    change(index, lie("more", "../decoder/diffusion_pytorch_model.safetensors"))
    with pytest.raises((BadFile, BadFolder), match="none beside it"):
        Folder(whole_starter).parameters()
