"""Steps that are compiled: once for each network, for all runs, with the same pictures.

The compiler's last stage, which makes code for a GPU, is left out: what torch has traced is run as it is.
"""

import logging
import sys
from pathlib import Path
from typing import Any
from weakref import ref

import adm_oracle
import glide_oracle
import if_oracle
import pytest
import stable_oracle
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.errors import BadSetting
from dallecli.nets import threads
from dallecli.pipelines import compiled
from dallecli.pipelines import parts as parts_module
from dallecli.pipelines.karlo import KarloPainter, open_karlo
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.stable_unclip import open_stable_unclip
from dallecli.size import Size
from dallecli.studio.engine import LocalEngine
from dallecli.studio.models import Models
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import DiffusionSettings
from dallecli.tasks.task import Dials
from dallecli.weights.folder import Folder

CPU = torch.device("cpu")
PIPELINES = {"karlo": open_karlo, "stable": open_stable_unclip}
WITHOUT_CLIP: dict[str, tuple[Any, dict[str, str]]] = {
    "glide": (glide_oracle, {"prompt": "a red cat"}),
    "deepfloyd-if": (if_oracle, {"prompt": "a red cat"}),
    "adm": (adm_oracle, {"class_name": "1"}),
}
"""Families whose decoder and upsampler are told in another way: who writes one, and what is asked."""


@pytest.fixture(autouse=True)
def traced_only(monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    # Prepacked weights are of a kind that can't be traced; on a GPU there are none.
    monkeypatch.setattr(parts_module, "can_prepack", lambda: False)
    # Nor is what is traced divided into whole vectors of a processor; without AVX-512 the last bits show it.
    monkeypatch.setattr(threads, "GRAIN", sys.maxsize)
    monkeypatch.setattr(threads, "VECTORS", 1)
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model_folder) -> dict[str, Path]:
    stable = stable_oracle.write(tmp_path_factory.mktemp("models") / "stable", words=True)
    return {"karlo": model_folder("starter"), "stable": stable}


def settings(guidance: float) -> DiffusionSettings:
    return DiffusionSettings(sampler="ancestral", steps=4, guidance=guidance)


def ignore(*progress: Any) -> None:
    """No progress bar."""


def open_model(family: str, folder: Path, *, is_compiled: bool, kept: Any = None) -> Any:
    parts = Parts(Folder(folder), CPU, torch.float32, kept, is_compiled)
    return PIPELINES[family](parts, "tiny").parts


def paint(model: Any, prompt: str, pictures: int = 1) -> Tensor:
    """Pictures of a prompt, from words to pixels."""
    words, noise = model.embedder.read([prompt] * pictures, "a bear"), Noise(range(pictures))
    embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=settings(4.0), candidates=2), ignore)
    stages = {"decoder": settings(4.0)}
    if isinstance(model.painter, KarloPainter):
        stages["upsampler"] = settings(OFF)
    pixels: Tensor = model.painter.decode(
        embedding,
        words,
        noise,
        PaintSettings(dials=stages, size=Size.square(model.painter.parts.folder.sizes()[-1])),
        ignore,
    )
    return pixels


def graphs_made() -> int:
    return int(counters["stats"]["unique_graphs"])


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.slow  # tracing takes most of a minute
@pytest.mark.parametrize(("family", "compiled_networks"), [("karlo", 3), ("stable", 2)])
def test_each_network_is_compiled_once_for_one_number_of_pictures_and_paints_the_same(
    family, compiled_networks, folders
):
    plain = open_model(family, folders[family], is_compiled=False)
    model = open_model(family, folders[family], is_compiled=True)
    for prompt, pictures in (("a red cat", 1), ("a dog", 1), ("a dog", 2)):
        assert torch.equal(paint(model, prompt, pictures), paint(plain, prompt, pictures))
        assert graphs_made() == compiled_networks


@pytest.mark.slow  # tracing three families takes a minute
@pytest.mark.parametrize("family", WITHOUT_CLIP)
def test_networks_that_are_told_without_an_embedding_are_compiled_as_well(family, tmp_path):
    oracle, asked = WITHOUT_CLIP[family]
    folder = oracle.write(tmp_path / family)
    few = {"decoder": Dials(steps=4), "upsampler": Dials(steps=4)}
    recipe = LocalEngine().resolve(Generate(model=str(folder), seed=1, device="cpu", dtype="fp32", **few, **asked))
    found, pictures = Models().find(str(folder), "generate"), []
    for is_compiled in (False, True):
        model = found.open(Parts(Folder(folder), CPU, torch.float32, None, is_compiled))
        pictures.append([picture.image.tobytes() for picture in model.paint(recipe, ignore, 1)])
    assert pictures[0] == pictures[1]
    assert graphs_made() == 2


@pytest.mark.slow
def test_only_networks_that_stay_are_compiled_and_they_go_when_the_model_goes(folders):
    model = open_model("stable", folders["stable"], is_compiled=True, kept={"decoder"})
    paint(model, "a red cat")
    assert graphs_made() == 1
    decoder = ref(model.painter.parts._nets["decoder", torch.float32])
    assert decoder() is not None
    del model
    assert decoder() is None


@pytest.mark.slow
def test_where_nothing_can_be_compiled_that_is_said_and_nothing_else_changes(folders, monkeypatch, caplog):
    def no_compiler(*given: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation\nand many more lines")

    monkeypatch.setattr(compiled, "BACKEND", no_compiler)
    plain = open_model("stable", folders["stable"], is_compiled=False)
    model = open_model("stable", folders["stable"], is_compiled=True)
    assert torch.equal(paint(model, "a red cat"), paint(plain, "a red cat"))
    paint(model, "a dog")
    said = warnings(caplog)
    assert len(said) == 2
    assert all("is not compiled" in line and "triton" in line and "\n" not in line for line in said)


def test_on_a_processor_nothing_is_compiled_and_that_is_said(folders, caplog):
    ask = Generate(prompt="a red cat", model=str(folders["karlo"]), seed=1, device="cpu", dtype="fp32")
    pictures = []
    for engine in (LocalEngine(), LocalEngine(compiled=True)):
        (picture,) = engine.paint(engine.resolve(ask), ignore)
        pictures.append(picture.image.tobytes())
    assert pictures[0] == pictures[1]
    assert graphs_made() == 0
    assert warnings(caplog) == ["networks are compiled for CUDA devices only, and this is cpu"]


def test_networks_that_leave_memory_are_not_asked_to_be_compiled():
    with pytest.raises(BadSetting, match="not compiled"):
        LocalEngine(memory="low", compiled=True)
