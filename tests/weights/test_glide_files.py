"""GLIDE's published files become a model, by hand or by a pull, or nothing does."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import glide_oracle as oracle
import pytest
import torch
from fewer import fewer
from hub import Hub
from safetensors.torch import load_file

from dallecli.errors import BadFile, BadFolder, LayoutMismatch, NetworkError, NotDownloaded, TaskNotSupported
from dallecli.weights import registry
from dallecli.weights.fetch.made import Pulled
from dallecli.weights.fetch.pull import pull
from dallecli.weights.fetch.remove import remove
from dallecli.weights.fetch.verify import verify
from dallecli.weights.folder import Folder
from dallecli.weights.glide import CHECKPOINTS, convert_glide
from dallecli.weights.hub import Patience
from dallecli.weights.lock import converted, folder_path, home, read_lock

SMALL = oracle.Shape(
    side=64, widths=(32, 64), layers=1, attends=(False, True), channels=3, heads=1, head=64, groups=32, context=128
)
"""The smallest with published widths of heads, groups and contexts."""


def table(name: str) -> oracle.Table:
    checkpoint = CHECKPOINTS[name]
    return oracle.table(replace(SMALL, side=checkpoint.side, channels=checkpoint.channels), checkpoint.channels)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "files"
    oracle.write_vocabulary(folder)
    for name in CHECKPOINTS:
        torch.save(table(name), folder / name)
    return folder


@pytest.fixture
def files(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published, tmp_path / "files")


def converted_to(files: Path, name: str = "glide") -> Folder:
    convert_glide(files, files.parent / name)
    return Folder(files.parent / name)


@pytest.mark.long
def test_the_files_become_a_folder_with_every_task(files: Path) -> None:
    folder = converted_to(files)
    assert (folder.tasks, folder.sizes()) == (("generate", "inpaint"), (64, 256))
    q = load_file(folder.weights_file("decoder"))["mid_block.attentions.0.to_q.weight"]
    assert torch.equal(q, table("base.pt")["middle_block.1.qkv.weight"][:64, :, 0])
    assert not list(files.parent.glob("glide.*"))


@pytest.mark.slow
def test_half_precision_and_files_of_before_2020_are_read_and_stay_what_they_are(files: Path) -> None:
    halves = {name: tensor.half() for name, tensor in table("base.pt").items()}
    torch.save(halves, files / "base.pt", _use_new_zipfile_serialization=False)
    for name in ("base_inpaint.pt", "upsample_inpaint.pt"):
        (files / name).unlink()
    (files / "encoder.json").rename(files / "vocab.json")  # the names that the Hub has for these
    (files / "vocab.bpe").rename(files / "merges.txt")
    folder = converted_to(files)
    assert folder.tasks == ("generate",)
    assert {tensor.dtype for tensor in load_file(folder.weights_file("decoder")).values()} == {torch.half}


def spoil(what: str) -> Callable[[Path], object]:
    tensors = table("base.pt")
    match what:
        case "another":
            tensors = table("base_inpaint.pt")
        case "misshaped":
            tensors["out.0.weight"] = torch.ones(64)
            del tensors["middle_block.0.in_layers.2.weight"]
    return lambda files: torch.save(tensors, files / "base.pt")


BAD: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no upsampler": (lambda files: (files / "upsample.pt").unlink(), BadFolder, "upsample.pt of GLIDE is missing"),
    "half an inpainter": (lambda files: (files / "base_inpaint.pt").unlink(), BadFolder, "base_inpaint.pt of GLIDE"),
    "no vocabulary": (lambda files: (files / "vocab.bpe").unlink(), BadFolder, "GPT-2's vocabulary"),
    "a web page": (lambda files: (files / "base.pt").write_text("<html>"), BadFile, "a web page, not a checkpoint"),
    "another of the four": (spoil("another"), BadFile, "it looks like base_inpaint.pt"),
    "tensors missing and misshaped": (spoil("misshaped"), LayoutMismatch, "1 missing.*1 misshaped"),
    "another vocabulary": (lambda files: (files / "encoder.json").write_text("{}"), BadFile, "vocabulary is empty"),
}


@pytest.mark.parametrize("what", fewer(BAD, each=5))
@pytest.mark.long
def test_files_that_are_not_what_they_say_make_nothing(files: Path, what: str) -> None:
    change, error, words = BAD[what]
    change(files)
    with pytest.raises(error, match=words):
        convert_glide(files, files.parent / "glide")
    assert [path.name for path in files.parent.iterdir()] == ["files"]


# Pulls.


@pytest.fixture
def served(hub: Hub, published: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address under which a server has the published files; the registry names it."""
    repository = hub.add("org/glide", published)
    address = f"{hub.cdn}/cdn/org/glide/{repository.commit}"
    spec = registry.registry()["glide"]
    moved = tuple(replace(file, url=f"{address}/{file.name}", sha256=None) for file in spec.files)
    known = {**registry.registry(), "glide": replace(spec, files=moved)}
    monkeypatch.setattr(registry, "_registered", lambda: known)
    return address


def pulled(**more: Any) -> Pulled:
    settings = {"agree": lambda plan: None, "report": lambda step: None, "patience": Patience(tries=2, unit=0.0)}
    return pull("glide", **{**settings, **more})


def leftovers() -> list[Path]:
    return [path for path in (home() / "downloads").rglob("*") if path.is_file()]


@pytest.mark.long
def test_a_pull_makes_the_model_and_keeps_none_of_the_files(served: str, hub: Hub, published: Path) -> None:
    with pytest.raises(NotDownloaded, match="glide is not on this machine"):
        registry.locate(registry.find("glide"))
    made = pulled()
    assert registry.locate(registry.find("glide")).tasks == ("generate", "inpaint")
    assert made.fetched == sum(path.stat().st_size for path in published.iterdir())
    assert not leftovers()
    hub.heal()
    assert pulled().fetched == 0
    assert not hub.requests
    assert remove(made.lock) > 0
    assert not list(converted("x").parent.glob("*"))
    assert not folder_path("glide").exists()


@pytest.mark.slow
def test_a_pull_for_one_task_fetches_less_and_another_the_rest(
    served: str, hub: Hub, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pulled(tasks=["generate"])
    assert not any("Authorization" in request.headers for request in hub.requests)  # the server is not the Hub
    assert registry.locate(registry.find("glide")).tasks == ("generate",)
    assert not any("inpaint" in request.path for request in hub.requests)
    rest = pulled()
    assert rest.fetched == sum(path.stat().st_size for path in published.glob("*_inpaint.pt"))
    assert registry.locate(registry.find("glide")).tasks == ("generate", "inpaint")
    with pytest.raises(TaskNotSupported, match="glide cannot vary"):
        pulled(tasks=["vary"])


@pytest.mark.long
def test_an_interrupted_pull_goes_on_where_it_stopped(served: str, hub: Hub, published: Path) -> None:
    hub.trouble("upsample.pt", drop_at=20_000)
    with pytest.raises(NetworkError):
        pulled()
    assert read_lock("glide") is None
    hub.heal()
    size = sum(path.stat().st_size for path in published.iterdir())
    assert pulled().fetched < size - (published / "base.pt").stat().st_size


@pytest.mark.slow
def test_what_comes_again_has_to_be_what_was_locked(served: str, hub: Hub) -> None:
    lock = pulled().lock
    weights = lock.blob(next(file for file in lock.files if file.path == "decoder/diffusion_pytorch_model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert [file.path for file in verify(lock, lambda step: None)] == ["decoder/diffusion_pytorch_model.safetensors"]
    trouble = hub.trouble("base.pt", flip=50_000)
    with pytest.raises(BadFile, match="came with the wrong bytes"):
        pulled()
    trouble.times = 0
    assert pulled().lock == lock
    assert verify(lock, lambda step: None) == []


def test_a_file_that_is_no_checkpoint_leaves_nothing_behind(served: str, hub: Hub) -> None:
    hub.trouble("upsample.pt", replace=b"<html>" * 1000)
    with pytest.raises(BadFile, match="a web page, not a checkpoint"):
        pulled()
    assert read_lock("glide") is None
    assert not leftovers()
    assert not list((home() / "converted").glob("*"))


def test_a_file_that_is_not_there_is_named(served: str, hub: Hub) -> None:
    hub.trouble("base.pt", status=404)
    with pytest.raises(NetworkError, match="the server answers 404 for this file") as raised:
        pulled()
    assert str(raised.value.where).endswith("/base.pt")
