"""guided-diffusion's published files become a model, by hand or by a pull, or nothing does."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import adm_oracle as oracle
import pytest
import torch
from fewer import fewer
from hub import Hub
from safetensors.torch import load_file

from dallecli.errors import BadFile, BadFolder, LayoutMismatch
from dallecli.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from dallecli.nets.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from dallecli.pipelines.adm import check_tensors
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights import registry
from dallecli.weights.adm import CHECKPOINTS, convert_adm, network_of
from dallecli.weights.fetch.pull import pull
from dallecli.weights.folder import Folder
from dallecli.weights.hub import Patience
from dallecli.weights.known import read_classes
from dallecli.weights.lock import home, read_lock

KEYS = json.loads((Path(__file__).parents[1] / "nets" / "published_keys" / "adm.json").read_text())
HERE = ("64x64_diffusion.pt", "64x64_classifier.pt", "64_256_upsampler.pt")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_published_checkpoints_fill_the_networks_at_full_size(name: str) -> None:
    shapes = {key: tuple(shape) for key, shape in KEYS[name]["state_dict"].items()}
    found = network_of(shapes, name)
    config = {**found.config, "sample_size": CHECKPOINTS[name].side}
    with torch.device("meta"):
        if name.endswith("classifier.pt"):
            net: torch.nn.Module = NoisedClassifier(NoisedClassifierConfig.from_config(config))
        else:
            net = GuidedUNet(GuidedUNetConfig.from_config(config))
    filled = {target: shape for move in found.moves for target, shape in move.shapes(shapes)}
    assert filled == {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    assert sorted(move.source for move in found.moves) == sorted(shapes)
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == KEYS[name]["num_parameters"]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_no_shape_tells_is_as_in_the_published_commands(name: str) -> None:
    flags, checkpoint = KEYS[name]["config"], CHECKPOINTS[name]
    if name.endswith("classifier.pt"):
        assert (flags["image_size"], flags["classifier_depth"]) == (checkpoint.side, checkpoint.layers)
        return
    assert checkpoint.by_heads == (not flags.get("use_new_attention_order", False))
    width = flags["num_head_channels"]
    assert checkpoint.head_width == (None if width == -1 else width)
    assert checkpoint.head_width is not None or checkpoint.heads == flags["num_heads"]
    assert checkpoint.schedule == flags["noise_schedule"]
    assert checkpoint.side == flags.get("large_size", flags.get("image_size"))
    assert checkpoint.low == flags.get("small_size")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_no_checkpoint_is_taken_for_another(name: str) -> None:
    shapes = {key: tuple(shape) for key, shape in KEYS[name]["state_dict"].items()}
    taken = []
    for other in CHECKPOINTS:
        try:
            network_of(shapes, other)
        except ValueError:
            continue
        taken.append(other)
    assert taken == [name]


# Small files with the published widths of heads, groups and classes.

SMALL = oracle.Shape(
    side=64, widths=(32, 64, 64, 64), layers=1, attends=(False, True, True, True), head=64, groups=32, classes=1000
)
SHAPES = {
    "64x64_diffusion.pt": replace(SMALL, legacy=False),
    "64x64_classifier.pt": replace(SMALL, layers=4),
    "64_256_upsampler.pt": replace(
        SMALL, widths=(32, 32, 32, 64, 64, 64), attends=(False,) * 3 + (True,) * 3, channels=6, head=None
    ),
}


def table(name: str) -> oracle.Table:
    make = oracle.classifier_table if "classifier" in name else oracle.table
    return make(SHAPES[name], list(SHAPES).index(name))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "files"
    folder.mkdir()
    for name in SHAPES:
        torch.save(table(name), folder / name)
    return folder


@pytest.fixture
def files(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published, tmp_path / "files")


def converted_to(files: Path) -> Folder:
    convert_adm(files, files.parent / "adm")
    return Folder(files.parent / "adm")


@pytest.mark.long
def test_a_classifier_and_an_upsampler_may_be_missing(files: Path) -> None:
    for name in HERE[1:]:
        (files / name).unlink()
    halves = {name: tensor.half() for name, tensor in table("64x64_diffusion.pt").items()}
    torch.save(halves, files / "64x64_diffusion.pt", _use_new_zipfile_serialization=False)
    folder = converted_to(files)
    assert (folder.networks, folder.sizes()) == (("decoder",), (64,))
    assert registry.find(str(folder.path)).stages["decoder"] == DiffusionSettings(
        sampler="ancestral", steps=250, guidance=1.0
    )
    assert not list(files.parent.glob("adm.*"))
    assert {tensor.dtype for tensor in load_file(folder.weights_file("decoder")).values()} == {torch.half}


BAD: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "nothing that paints": (lambda files: (files / HERE[0]).unlink(), BadFolder, "64x64_diffusion.pt is missing"),
    "two models": (
        lambda files: shutil.copy(files / HERE[0], files / "128x128_diffusion.pt"),
        BadFolder,
        "several models",
    ),
    "another's classifier": (
        lambda files: (files / HERE[1]).rename(files / "256x256_classifier.pt"),
        BadFolder,
        "256x256_classifier.pt does not belong to 64x64_diffusion.pt",
    ),
    "a web page": (lambda files: (files / HERE[0]).write_text("<html>"), BadFile, "a web page, not a checkpoint"),
    "an upsampler": (lambda files: shutil.copy(files / HERE[2], files / HERE[0]), BadFile, "it sees 6 channels"),
}


@pytest.mark.parametrize("what", fewer(BAD, each=4))
@pytest.mark.long
def test_files_that_are_not_what_they_say_make_nothing(files: Path, what: str) -> None:
    change, error, words = BAD[what]
    change(files)
    with pytest.raises(error, match=words):
        convert_adm(files, files.parent / "adm")
    assert [path.name for path in files.parent.iterdir()] == ["files"]


def test_tensors_are_compared_with_the_networks(tmp_path: Path) -> None:
    folder = oracle.write(tmp_path / "tiny")
    config = folder / "classifier" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layers_per_block": 1}))
    with pytest.raises(LayoutMismatch, match="unexpected"):
        check_tensors(Folder(folder))


@pytest.mark.long
def test_a_pull_makes_the_model_and_locks_what_came(hub: Hub, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = hub.add("org/adm", published)
    spec = registry.registry()["adm-64"]
    moved = tuple(
        replace(file, url=f"{hub.cdn}/cdn/org/adm/{repository.commit}/{file.name}", sha256=None) for file in spec.files
    )
    known = {**registry.registry(), "adm-64": replace(spec, files=moved)}
    monkeypatch.setattr(registry, "_registered", lambda: known)
    settings: dict[str, Any] = {"agree": lambda plan: None, "report": lambda step: None}
    hub.trouble("64x64_classifier.pt", replace=b"<html>" * 1000)
    with pytest.raises(BadFile, match="a web page, not a checkpoint"):
        pull("adm-64", **settings, patience=Patience(tries=2, unit=0.0))
    assert read_lock("adm-64") is None
    assert not list((home() / "converted").glob("*"))
    hub.heal()
    made = pull("adm-64", **settings, patience=Patience(tries=2, unit=0.0))
    assert made.fetched == sum(path.stat().st_size for path in published.iterdir())
    folder = registry.locate(registry.find("adm-64"))
    assert (folder.tasks, folder.sizes()) == (("generate",), (64, 256))
    q = load_file(folder.weights_file("decoder"))["mid_block.attentions.0.to_q.weight"]
    assert torch.equal(q, table("64x64_diffusion.pt")["middle_block.1.qkv.weight"][:64, :, 0])
    rows = table("64_256_upsampler.pt")["middle_block.1.qkv.weight"][:, :, 0].unflatten(0, (4, 3, 16))
    k = load_file(folder.weights_file("super_res"))["mid_block.attentions.0.to_k.weight"]
    assert torch.equal(k, rows[:, 1].flatten(0, 1))
    classes = read_classes(folder.path)
    assert classes is not None and classes.number("golden retriever") == 207
    assert all(file.sha256 for file in made.lock.files)
    assert pull("adm-64", **settings, patience=Patience(tries=2, unit=0.0)).fetched == 0
