"""A step is what a CUDA graph can hold: kernels that depend on the sample and the step's place alone, and no waiting.

A trace holds a step in the same way, on any device: operations on memory that stays, without the Python around them.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import if_oracle
import kandinsky_oracle
import numpy as np
import pytest
import stable_oracle
import torch
from fewer import fewer
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS
from dallecli.nets.conditions import AHEAD, Place
from dallecli.pipelines import deepfloyd, graphs
from dallecli.pipelines import parts as parts_module
from dallecli.pipelines.deepfloyd import open_deepfloyd
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.given import Beginning, Hole
from dallecli.pipelines.graphs import Graphs, Net
from dallecli.pipelines.kandinsky import open_kandinsky
from dallecli.pipelines.karlo import open_karlo
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.stable_unclip import open_stable_unclip
from dallecli.pipelines.stage import Diffusion, sample
from dallecli.size import Size
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights.folder import Folder
from dallecli.weights.unread import Unread

CPU, META = torch.device("cpu"), torch.device("meta")
STEPS = 5


def settings(guidance: float, sampler: str = "ancestral") -> DiffusionSettings:
    return DiffusionSettings(sampler=sampler, steps=STEPS, guidance=guidance)


def ignore(*progress: Any) -> None:
    """No progress bar."""


class Traces(Graphs):
    """Traces instead of graphs, made of every second step. `replays` counts how often one was used."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.possible = True
        self.replays = 0

    def timed(self, net: Net, x: Tensor, place: Place) -> tuple[Tensor, bool]:
        return net(x, place), True

    def capture(self, net: Net, x: Tensor, place: Place) -> Net:
        trace = make_fx(net)(x.clone(), torch.zeros(1, dtype=torch.int64))

        def replay(x: Tensor, place: Place) -> Tensor:
            self.replays += 1
            replayed: Tensor = trace(x, torch.tensor([place]))
            return replayed

        return replay


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model_folder) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        "karlo": model_folder("starter"),
        "kandinsky": kandinsky_oracle.write(place / "kandinsky"),
        "stable": stable_oracle.write(place / "stable", words=True),
        "if": if_oracle.write(place / "if"),
    }


PIPELINES = {"karlo": open_karlo, "kandinsky": open_kandinsky, "stable": open_stable_unclip}


def paint(
    family: str, folder: Path, sampler: str, maker: Graphs, kept: Any = None, saving: dict[str, Any] | None = None
) -> Tensor:
    """A picture of each of two prompts, from words to pixels; `saving` are dials of the decoder."""
    parts = Parts(Folder(folder), CPU, torch.float32, kept)
    parts.graphs = maker
    model: Any = PIPELINES[family](parts, "tiny").parts
    words, noise = model.embedder.read(["a red cat", "a dog"], "a bear"), Noise([1, 2])
    embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=settings(4.0), candidates=2), ignore)
    stages = {"decoder": replace(settings(4.0, sampler), **(saving or {}))}
    if family == "karlo":
        stages |= {"upsampler": settings(OFF), "upsampler_2": settings(OFF)}
    size = parts.folder.sizes()[-1]
    pixels: Tensor = model.painter.decode(
        embedding, words, noise, PaintSettings(dials=stages, size=Size.square(size)), ignore
    )
    return pixels


@pytest.mark.parametrize(
    ("family", "sampler"),
    fewer(product(PIPELINES, ["ancestral", "dpm++"]), ("karlo", "ancestral"), ("stable", "dpm++")),
)
@pytest.mark.long
def test_a_step_that_is_recorded_once_paints_every_step(family, sampler, folders, monkeypatch):
    # Prepacked weights are of a kind that can't be traced; on a GPU there are none.
    monkeypatch.setattr(parts_module, "can_prepack", lambda: False)
    traces = Traces()
    recorded = paint(family, folders[family], sampler, traces)
    assert traces.replays >= 2 * (STEPS - 2)
    assert torch.equal(recorded, paint(family, folders[family], sampler, Graphs(CPU)))


@pytest.mark.long
def test_networks_may_leave_when_their_steps_are_recorded(folders, monkeypatch):
    monkeypatch.setattr(parts_module, "can_prepack", lambda: False)
    frugal = paint("karlo", folders["karlo"], "ancestral", Traces(), kept=())
    assert torch.equal(frugal, paint("karlo", folders["karlo"], "ancestral", Graphs(CPU)))


@pytest.mark.parametrize("interval", [{"guidance_stop": 0.5}, {"guidance_start": 0.3, "guidance_stop": 0.7}], ids=str)
@pytest.mark.long
def test_recorded_steps_reuse_deep_features_where_other_recorded_steps_write_them(interval, folders, monkeypatch):
    monkeypatch.setattr(parts_module, "can_prepack", lambda: False)
    saving, traces = {"steps": 16, "reuse": 2, **interval}, Traces()
    recorded = paint("karlo", folders["karlo"], "ancestral", traces, saving=saving)
    assert torch.equal(recorded, paint("karlo", folders["karlo"], "ancestral", Graphs(CPU), saving=saving))
    # Of the decoder's four kinds of step, each is recorded when it is taken for the second time.
    assert traces.replays >= 4 * 2


def double(x: Tensor, place: Place) -> Tensor:
    return 2 * x + place


def calls(graphs: Graphs) -> None:
    """A run of `double`, whose results are right."""
    net, x = graphs.of(double, STEPS), torch.randn(3)
    for place in range(STEPS):
        assert torch.equal(net(x, place), double(x, place))


def test_a_graph_that_is_forgotten_is_not_used_again():
    traces = Traces()
    net, x = traces.of(double, STEPS), torch.randn(3)
    for place in range(3):
        net(x, place)
    assert traces.replays == 2  # once to compare, once instead of the third step
    traces.forget()
    assert torch.equal(net(x, 3), double(x, 3))
    assert traces.replays == 2


def test_a_graph_of_something_else_is_left_out_and_said_to_be(caplog):
    class Wrong(Traces):
        def capture(self, net: Net, x: Tensor, place: Place) -> Net:
            return super().capture(lambda x, place: net(x, place) + 1, x, place)

    wrong = Wrong()
    calls(wrong)
    calls(wrong)
    assert wrong.replays == 1
    (record,) = caplog.records
    assert record.message == "CUDA graphs are left out: a graph computed something else"


def test_where_no_graph_can_be_made_nothing_else_changes(caplog):
    class Impossible(Traces):
        def capture(self, net: Net, x: Tensor, place: Place) -> Net:
            raise RuntimeError("operation not permitted when stream is capturing")

    impossible = Impossible()
    calls(impossible)
    calls(impossible)
    assert len(caplog.records) == 1
    assert "not permitted" in caplog.records[0].message


def test_a_device_that_does_not_wait_for_launches_gets_no_graph():
    class Busy(Traces):
        def timed(self, net: Net, x: Tensor, place: Place) -> tuple[Tensor, bool]:
            return net(x, place), False

    busy = Busy()
    calls(busy)
    assert busy.replays == 0


@pytest.fixture
def nowhere(monkeypatch) -> Callable[[Path], Parts]:
    """Open folders on a device that knows shapes but no numbers: whoever waits for a number fails."""

    def load(build: Callable[[], Any], file: Path, dtype: torch.dtype, *others: object) -> Any:
        with META:
            return build().to(dtype).requires_grad_(False).eval(), Unread({}, ExitStack())

    monkeypatch.setattr(parts_module, "open_net", load)
    # The one look at the flags is at the end of a stage.
    monkeypatch.setattr(Parts, "finite", lambda self, stage, noise, run: run(self.dtype)[0])
    return lambda folder: Parts(Folder(folder), META, torch.bfloat16)


def hole_of(size: int) -> Hole:
    """All of a picture, on the device that knows no numbers."""
    unknown = torch.ones(1, 1, size, size, dtype=torch.bool, device=META)
    return Hole(pixels=torch.empty(1, 3, size, size, device=META), unknown=unknown, resample=2)


def test_waiting_for_a_number_fails_on_such_a_device():
    with pytest.raises(RuntimeError, match="meta"):
        torch.empty(3, device=META).sum().item()
    with pytest.raises(NotImplementedError, match="meta"):
        torch.empty(3, device=META).cpu()


@pytest.mark.parametrize("sampler", fewer(SAMPLERS, "ancestral"))
@pytest.mark.parametrize("inpainting", [False, True])
@torch.inference_mode()
@pytest.mark.long
def test_no_step_of_karlo_waits_for_the_device(sampler, inpainting, folders, nowhere):
    parts = nowhere(folders["karlo"])
    model = open_karlo(parts, "tiny").parts
    words, noise, wanted = model.embedder.read(["a red cat"], "a bear"), Noise([1, 2]), settings(4.0, sampler)
    assert words.hidden.device == META
    embedding, _ = model.embedder.imagine(
        words, noise, PriorSettings(dials=settings(4.0, sampler), candidates=2), ignore
    )
    decoder = model.painter._decoder(Size.square(parts.folder.sizes()[0]), embedding.vector, words)
    low = sample(parts, decoder, wanted, noise, ignore, hole=hole_of(decoder.shape[-1]) if inpainting else None)
    assert low.shape == (2, *decoder.shape)
    # What is enlarged comes from the processor, once a stage.
    larger = Size.square(parts.folder.sizes()[1])
    upsampler = model.painter._upsampler("upsampler", larger, torch.zeros(low.shape))
    hole = hole_of(upsampler.shape[-1]) if inpainting else None
    pixels = sample(parts, upsampler, settings(OFF, sampler), noise, ignore, hole=hole)
    assert pixels.shape == (2, *upsampler.shape)


def kandinskys_decoder(parts: Parts) -> Diffusion:
    model, vector = open_kandinsky(parts, "tiny").parts, torch.empty(2, parts.folder.width(), device=META)
    embedding = Embedding(vector=vector, space="tiny", away=vector)
    return model.painter._decoder("", embedding, 2, model.painter._frame(Size.square(parts.folder.sizes()[0])), None)


def stables_decoder(parts: Parts) -> Diffusion:
    model, vector = open_stable_unclip(parts, "tiny").parts, torch.empty(2, parts.folder.width(), device=META)
    words, frame = (
        model.embedder.read(["a red cat"], "a bear"),
        model.painter._frame(Size.square(parts.folder.sizes()[0])),
    )
    return model.painter._decoder(Embedding(vector=vector, space="tiny"), words, 2, Noise([1, 2]), frame)


@pytest.mark.parametrize("sampler", fewer(SAMPLERS, "ancestral"))
@pytest.mark.parametrize(("family", "open_decoder"), [("kandinsky", kandinskys_decoder), ("stable", stables_decoder)])
@torch.inference_mode()
def test_no_step_in_latents_waits_for_the_device(sampler, family, open_decoder, folders, nowhere):
    parts = nowhere(folders[family])
    decoder = open_decoder(parts)
    beginning = Beginning(pixels=torch.empty(1, *decoder.shape, device=META), strength=0.7)
    for begun in (None, beginning):
        latents = sample(parts, decoder, settings(4.0, sampler), Noise([1, 2]), ignore, beginning=begun)
        assert latents.shape == (2, *decoder.shape)


@pytest.mark.parametrize("sampler", fewer(SAMPLERS, "ancestral"))
@pytest.mark.parametrize("inpainting", [False, True])
@torch.inference_mode()
def test_no_step_of_if_waits_for_the_device(sampler, inpainting, folders, nowhere):
    parts = nowhere(folders["if"])
    model, wanted = open_deepfloyd(parts), settings(4.0, sampler)
    dials = {"decoder": wanted, "upsampler": wanted}
    states, size = torch.empty(2, 7, if_oracle.TEXT, device=META), Size.square(parts.folder.sizes()[-1])
    asked = deepfloyd._Asked(states=states, leads=True, dials=dials, size=size)
    for name, low in (("decoder", None), ("upsampler", torch.empty(2, 3, 32, 32, device=META))):
        stage = model._stage(asked, name, 2, low)
        beginning = Beginning(pixels=torch.empty(1, *stage.shape, device=META), strength=0.7)
        hole = replace(hole_of(stage.shape[-1]), clean=True) if inpainting else None
        begun = beginning if inpainting else None
        pixels = sample(parts, stage, wanted, Noise([1, 2]), ignore, hole=hole, beginning=begun)
        assert pixels.shape == (2, *stage.shape)


def test_without_cuda_and_beyond_what_the_device_looks_up_a_net_stays_as_it_is():
    def net(x: Tensor, place: Place) -> Tensor:
        return x

    assert Graphs(CPU).of(net, 10) is net
    assert Graphs(torch.device("cuda")).of(net, AHEAD + 1) is net
    assert Graphs(torch.device("cuda")).of(net, AHEAD) is not net


def pictures(dtype: str, device: str, engine: LocalEngine | None = None) -> np.ndarray[Any, Any]:
    """Two of the starter's, in levels."""
    engine = engine if engine is not None else LocalEngine()
    recipe = engine.resolve(Generate(prompt="a red fox", model="starter", seed=1, count=2, dtype=dtype, device=device))
    return np.stack([np.asarray(picture.image).astype(int) for picture in engine.paint(recipe, lambda _: None)])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_steps_are_replayed_and_paint_the_same(dtype, monkeypatch, caplog):
    monkeypatch.setattr(graphs, "WORTH", float("inf"))  # also where launching is not what takes time
    replays: list[None] = []
    capture = Graphs.capture

    def counted(*given: Any) -> Net:
        replay = capture(*given)

        def call(x: Tensor, place: Place) -> Tensor:
            replays.append(None)
            return replay(x, place)

        return call

    monkeypatch.setattr(Graphs, "capture", counted)
    replayed = pictures(dtype, "cuda")
    assert len(replays) > 20
    assert not caplog.records
    monkeypatch.setattr(Graphs, "of", lambda self, net, steps: net)
    # Of a step's sums some may be split in another way; what bf16 makes of that is visible in single pixels.
    assert np.abs(replayed - pictures(dtype, "cuda")).mean() < 2


@pytest.mark.gpu
def test_on_a_gpu_pictures_are_those_of_the_processor():
    assert np.abs(pictures("fp32", "cuda") - pictures("fp32", "cpu")).mean() < 2  # convolutions may be in TF32


@pytest.mark.gpu
def test_on_a_gpu_compiled_steps_paint_the_same_and_are_replayed(monkeypatch, caplog):
    monkeypatch.setattr(graphs, "WORTH", float("inf"))
    compiled = pictures("bf16", "cuda", LocalEngine(compiled=True))
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert np.abs(compiled - pictures("bf16", "cuda", LocalEngine())).mean() < 2
