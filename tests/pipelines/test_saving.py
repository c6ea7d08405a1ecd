"""The dials that leave out work: guidance within an interval of noise, and steps that reuse deep features."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import WRITERS
from PIL import Image
from torch import Tensor

from dallecli.diffusion.denoiser import Denoiser, Guess
from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.nets.deep_features import DeepFeatures
from dallecli.pipelines.karlo import open_karlo
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.stage import Diffusion
from dallecli.size import Size
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights.folder import Folder

STEPS = 6
TOLERANCE = 1e-4
"""Of guesses from samples of deviation 1: a batch of another size is summed in another order."""


def paint(family: str, folder: str, place: Path, **dials: Any) -> None:
    """A picture of a family, by all of its stages; what it is made of is written to a folder."""
    Image.linear_gradient("L").convert("RGB").save(place / "seen.png")
    values: dict[str, Any] = {"model": folder, "seed": 1, "device": "cpu", "dtype": "fp32", "steps": STEPS}
    task, told = {
        "adm": ("generate", {"class": 1}),
        "stable-unclip": ("vary", {"image": str(place / "seen.png"), "prompt": "a red cat"}),
    }.get(family, ("generate", {"prompt": "a red cat"}))
    values |= {"upsampler_steps": STEPS} if family in ("glide", "if", "adm") else {}
    engine = LocalEngine(memory="high")
    list(engine.paint(engine.resolve(build_request(task, {**values, **told, **dials})), lambda progress: None))


def distance(one: Guess, other: Guess) -> float:
    return (one.x0 - other.x0).abs().max().item()


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, bool]]:
    """Every step of a stage that is guided in an interval: its stage, its timestep, and whether guidance is on.

    Each is compared with the same step where guidance is on in all steps, or off in all.
    """
    found: list[tuple[str, int, bool]] = []
    denoiser = Diffusion.denoiser

    def compared(self: Diffusion, settings: DiffusionSettings, *others: Any) -> Denoiser:
        ours = denoiser(self, settings, *others)
        if (settings.guidance_start, settings.guidance_stop) == (0.0, 1.0):
            return ours
        on = denoiser(self, replace(settings, guidance_start=0.0, guidance_stop=1.0), *others)
        off = denoiser(replace(self, guided=False, lead=None), settings, *others)

        def denoise(x: Tensor, step: Step) -> Guess:
            guided = settings.guidance_start <= 1 - (step.t + 1) / 1000 < settings.guidance_stop
            guess, same, other = ours(x, step), on(x, step), off(x, step)
            same, other = (same, other) if guided else (other, same)
            assert distance(guess, same) < TOLERANCE < distance(guess, other)
            found.append((self.stage, step.t, guided))
            return guess

        return denoise

    monkeypatch.setattr(Diffusion, "denoiser", compared)
    return found


@pytest.mark.parametrize("family", WRITERS)
def test_guidance_is_on_within_its_interval_and_nowhere_else(family, family_folder, tmp_path, within):
    dials = {"guidance": 100 if family == "adm" else 5, "guidance_start": 0.3, "guidance_stop": 0.7}
    guided_stages = {"decoder"}
    if family == "if":
        dials |= {"upsampler_guidance": 5, "upsampler_guidance_start": 0.3, "upsampler_guidance_stop": 0.7}
        guided_stages |= {"upsampler"}
    paint(family, family_folder(family), tmp_path, **dials)
    for stage in guided_stages:
        steps = {t: guided for name, t, guided in within if name == stage}  # PLMS makes two guesses from one of them
        assert len(steps) == STEPS
        assert 1 <= sum(steps.values()) <= STEPS - 2
        assert steps[max(steps)] is steps[min(steps)] is False


def test_a_share_of_the_timesteps_lies_behind_each_step():
    schedule = Schedule.from_config({})
    behind = [schedule.behind(step) for step in schedule.steps(5)]
    assert behind == pytest.approx([0, 0.25, 0.5, 0.75, 0.999], abs=2e-3)
    assert behind[0] == 0


def karlo(folder: Any, **dials: Any) -> tuple[Any, Tensor]:
    """Two pictures of a Karlo at 32 px, and the model; the dials are the decoder's."""
    parts = Parts(Folder(folder), torch.device("cpu"), torch.float32)
    model = open_karlo(parts, "tiny").parts
    return model, repaint(model, **dials)


def repaint(model: Any, **dials: Any) -> Tensor:
    words, noise = model.embedder.read(["a red cat", "a dog"], ""), Noise([1, 2])
    prior = DiffusionSettings(sampler="ancestral", steps=3, guidance=4.0)
    embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=prior, candidates=1), lambda *_: None)
    own: dict[str, Any] = {"sampler": "ancestral", "steps": STEPS, "guidance": 3.0}
    stages = {
        "decoder": DiffusionSettings(**{**own, **dials}),
        "upsampler": DiffusionSettings(sampler="ancestral", steps=4, guidance=OFF, reuse=dials.get("reuse", 1)),
    }
    size = Size.square(model.painter.parts.folder.sizes()[1])
    pixels: Tensor = model.painter.decode(
        embedding, words, noise, PaintSettings(dials=stages, size=size), lambda *_: None
    )
    return pixels


def counted(model: Any, part: str, layer: str) -> list[int]:
    """How many samples a layer of a network gets, from now on, each time."""
    rows: list[int] = []
    net = model.painter.parts._nets[part, torch.float32]
    net.get_submodule(layer).register_forward_hook(lambda layer, given, output: rows.append(len(given[0])))
    return rows


def test_steps_without_guidance_are_of_half_as_many_samples(model_folder):
    model, _ = karlo(model_folder("starter"))
    rows = counted(model, "decoder", "conv_in")
    repaint(model, guidance_start=0.3, guidance_stop=0.7)  # the timesteps are 999, 799, 599, 400, 200 and 0
    assert rows == [2, 2, 4, 4, 2, 2]


def test_an_interval_without_steps_paints_what_no_guidance_paints(model_folder):
    model, off = karlo(model_folder("starter"), guidance=OFF)
    nowhere = repaint(model, guidance_start=0.01, guidance_stop=0.02)
    assert (nowhere - off).abs().max() < TOLERANCE
    assert (repaint(model) - off).abs().max() > 0.01


@pytest.mark.parametrize(
    ("dials", "whole"),
    [
        ({"reuse": 1}, [4, 4, 4, 4, 4, 4]),
        ({"reuse": 2}, [4, 4, 4]),
        ({"reuse": 3}, [4, 4]),
        ({"reuse": 9}, [4]),
        # Where guidance begins or ends, what is known is of another number of samples.
        ({"reuse": 9, "guidance_stop": 0.3}, [4, 2]),
        ({"reuse": 9, "guidance_start": 0.3}, [2, 4]),
    ],
)
def test_of_so_many_steps_one_computes_the_whole_network(dials: dict[str, Any], whole: Sequence[int], model_folder):
    model, exact = karlo(model_folder("starter"))
    upper, lower = counted(model, "decoder", "conv_out"), counted(model, "decoder", "mid_block")
    enlarged, enlarged_below = (
        counted(model, "super_res_first", "conv_in"),
        counted(model, "super_res_first", "mid_block"),
    )
    last = counted(model, "super_res_last", "mid_block")
    pixels = repaint(model, **dials)
    assert lower == whole
    assert len(upper) == STEPS
    assert len(enlarged) == 3
    assert len(enlarged_below) == math.ceil(3 / dials["reuse"])
    assert last == [2]  # a network of its own, which is asked once
    assert torch.equal(pixels, exact) is (dials == {"reuse": 1})


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose first two steps were the same step, and gave the same."""
    found: list[str] = []
    denoiser = Diffusion.denoiser

    def compared(self: Diffusion, settings: DiffusionSettings, *others: Any) -> Denoiser:
        ours = denoiser(self, settings, *others)
        if settings.reuse == 1:
            return ours
        paced = denoiser(self, settings, *others)

        def denoise(x: Tensor, step: Step) -> Guess:
            if self.stage not in found:
                first, again = paced(x, step), paced(x, step)
                assert torch.equal(first.x0, again.x0)
                found.append(self.stage)
            return ours(x, step)

        return denoise

    monkeypatch.setattr(Diffusion, "denoiser", compared)
    return found


@pytest.mark.parametrize("family", WRITERS)
def test_what_is_reused_is_what_would_be_computed_where_nothing_has_changed(family, family_folder, tmp_path, twice):
    paint(family, family_folder(family), tmp_path, reuse=2)
    assert twice == ["decoder"]


def test_deep_features_that_nobody_computed_are_not_reused():
    deep = DeepFeatures()
    for samples in (2, 1):
        with pytest.raises(ValueError, match=f"of {samples} samples"):
            deep.of(samples)
        deep.keep(torch.full((samples, 3, 4, 4), float(samples)))
    kept = deep.of(2)
    assert deep.of(1).unique() == 1
    deep.keep(torch.full((2, 3, 4, 4), 7.0))
    assert deep.of(2) is kept and kept.unique() == 7
