"""The published files of DALL·E 1's autoencoder become a model, or nothing does; and none of their code runs."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dvae_oracle as oracle
import pytest
import torch
from hub import Hub
from safetensors.torch import load_file

from dallecli.errors import BadFile, BadFolder, DalleError, LayoutMismatch
from dallecli.pipelines.dvae import check_tensors
from dallecli.weights import registry
from dallecli.weights.dvae import config_of, convert_dvae
from dallecli.weights.fetch.pull import pull
from dallecli.weights.folder import Folder
from dallecli.weights.hub import Patience
from dallecli.weights.lock import home, read_lock
from dallecli.weights.pickled_modules import Stub, tensors_of


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.write_published(tmp_path_factory.mktemp("published") / "files")


@pytest.fixture
def files(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published, tmp_path / "files")


@pytest.mark.long
def test_the_modules_become_a_folder_with_the_same_tensors(files: Path) -> None:
    convert_dvae(files, files.parent / "dvae")
    folder = Folder(files.parent / "dvae")
    assert (folder.tasks, folder.sizes(), folder.cell(), folder.largest()) == (("encode", "decode"), (256,), 8, 2048)
    for part in oracle.KERNELS:
        found, wanted = load_file(folder.weights_file(part)), oracle.table(part)
        assert set(found) == set(wanted)
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert not list(files.parent.glob("dvae.*"))


class Hostile:
    """Runs a command when it is unpickled by anybody who is not careful."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def saved(change: Callable[[Any, Path], object], **options: Any) -> Callable[[Path], object]:
    """Let encoder.pkl be the module after a change."""

    def write(files: Path) -> None:
        with oracle.foreign_classes() as classes:
            module = oracle.module_of(oracle.table("encoder"), "encoder", classes)
            change(module, files)
            torch.save(module, files / "encoder.pkl", **options)

    return write


def truncated(files: Path) -> None:
    data = (files / "decoder.pkl").read_bytes()
    (files / "decoder.pkl").write_bytes(data[: len(data) // 2])


BAD: dict[str, tuple[Callable[[Path], object], type[DalleError], str]] = {
    "one is missing": (lambda files: (files / "decoder.pkl").unlink(), BadFolder, "decoder.pkl of DALL-E's"),
    "a web page": (lambda files: (files / "encoder.pkl").write_text("<html>"), BadFile, "a web page, not a checkpoint"),
    "cut short": (truncated, BadFile, "is damaged"),
    "torch's older form": (
        saved(lambda module, files: None, _use_new_zipfile_serialization=False), BadFile, "form from before 2020"
    ),
    "a module that runs a command": (
        saved(lambda module, files: module._modules.update(more=Hostile(files / "ran"))), BadFile, "could be a program"
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("what", BAD)
@pytest.mark.long
def test_files_that_are_not_what_they_say_make_nothing_and_run_nothing(files: Path, what: str) -> None:
    change, error, words = BAD[what]
    change(files)
    with pytest.raises(error, match=words) as raised:
        convert_dvae(files, files.parent / "dvae")
    assert len(raised.value.lines()) <= 3
    assert [path.name for path in files.parent.iterdir()] == ["files"]
    assert not (files / "ran").exists()


@pytest.mark.parametrize("part", oracle.KERNELS)
def test_tensors_of_another_network_are_refused(part: str) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in oracle.table(part).items()}
    other = next(name for name in oracle.KERNELS if name != part)
    with pytest.raises(ValueError, match=f"it looks like the {part}"):
        config_of(shapes, other)
    with pytest.raises(ValueError, match="other tensors"):
        config_of({"conv_in.weight": (8, 3, 3, 3)}, part)


def test_a_folder_whose_tensors_are_not_those_of_its_networks_is_refused(tmp_path: Path) -> None:
    tensors = oracle.table("encoder")
    del tensors["blocks.group_2.block_1.id_path.w"]
    folder = oracle.write(tmp_path / "model", encoder=tensors)
    with pytest.raises(LayoutMismatch, match=r"1 missing \(blocks.group_2.block_1.id_path.w\)"):
        check_tensors(Folder(folder))


def stub(**state: Any) -> Stub:
    made = Stub()
    made.__setstate__(state)
    return made


def circular() -> Stub:
    """A module that lies in itself."""
    module = stub()
    module.__setstate__({"_modules": {"again": module}})
    return module


def doubled() -> Stub:
    """Modules that lie in each other twice, forty times: more than anybody can walk through."""
    module = stub()
    for _ in range(40):
        module = stub(_modules={"a": module, "b": module})
    return module


STUBS: dict[str, tuple[Stub, str]] = {
    "within itself": (circular(), "deep in each other"),
    "without number": (doubled(), "modules and tensors"),
    "no module": (stub(_modules={"x": {}}), "x is no module"),
    "a module as a parameter": (stub(_parameters={"x": stub()}), "x is no parameter"),
    "no table": (stub(_modules=7), "no table of names"),
    "no name": (stub(_buffers={7: torch.ones(1)}), "no table of names"),
}


@pytest.mark.parametrize("what", STUBS)
def test_pickled_modules_that_are_no_tree_of_tensors_are_refused(what: str) -> None:
    module, words = STUBS[what]
    with pytest.raises(ValueError, match=words):
        tensors_of(module)


@pytest.mark.long
def test_a_pull_makes_the_model_locks_what_came_and_keeps_none_of_the_files(
    hub: Hub, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.add("org/dall-e", published)
    spec = registry.registry()["dvae"]
    assert [file.sha256 for file in spec.files] == [None, None]  # nobody states any
    address = f"{hub.cdn}/cdn/org/dall-e/{repository.commit}"
    moved = tuple(replace(file, url=f"{address}/{file.name}") for file in spec.files)
    known = {**registry.registry(), "dvae": replace(spec, files=moved)}
    monkeypatch.setattr(registry, "_registered", lambda: known)
    settings: dict[str, Any] = {
        "agree": lambda plan: None,
        "report": lambda step: None,
        "patience": Patience(tries=1, unit=0.0),
    }
    trouble = hub.trouble("decoder.pkl", replace=b"<html>" * 1000)
    with pytest.raises(BadFile, match="a web page, not a checkpoint"):
        pull("dvae", **settings)
    assert read_lock("dvae") is None
    trouble.times = 0
    made = pull("dvae", **settings)
    assert registry.locate(registry.find("dvae")).tasks == ("encode", "decode")
    assert all(len(file.etag) == len(file.sha256 or "") == 64 for file in made.lock.files)
    assert not [path for path in (home() / "downloads").rglob("*") if path.is_file()]


def test_the_size_in_the_registry_is_that_of_the_published_networks() -> None:
    assert registry.registry()["dvae"].parameters == 53_786_240 + 43_829_766
