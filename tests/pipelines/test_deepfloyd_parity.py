"""DeepFloyd IF's chain against diffusers' six pipelines: every step, and the random draws.

Bounds and their reasons are those of `test_parity`. Prompts are plain words, which nobody's cleaning changes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import if_oracle as oracle
import numpy as np
import pytest
import torch
from diffusers.pipelines.deepfloyd_if import timesteps as published
from oracle import difference
from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS, free
from dallecli.pictures.canvas import lay_out
from dallecli.pictures.picture import Picture
from dallecli.pipelines.deepfloyd import NOISE_LEVEL, open_deepfloyd
from dallecli.pipelines.parts import Parts
from dallecli.size import Size
from dallecli.source import Source, read_source
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.inpaint import Inpaint, Inpainting
from dallecli.tasks.mask import Mask
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import Request
from dallecli.weights.folder import Folder

from .test_parity import DOUBLE, LEVEL, SINGLE
from .test_parity import recorded as their_steps

STEPS = 4
SEED = 5
GUIDANCE = {"decoder": 7.0, "upsampler": 4.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return oracle.write(tmp_path_factory.mktemp("models") / "if")


@dataclass
class Ours:
    """What one run left behind."""

    steps: list[Tensor] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    noise: Noise | None = None

    @property
    def generator(self) -> Tensor:
        assert self.noise is not None
        return self.noise.state()[0]


@contextmanager
def recorded(into: Ours) -> Iterator[None]:
    """Keep the sample of every step of all samplers, and their noise."""
    before = dict(SAMPLERS)

    def recording(sampler: Any) -> Any:
        @wraps(sampler)
        def run(denoise: Any, x: Tensor, steps: Any, noise: Any, progress: Any, constrain: Any = free) -> Tensor:
            def record(x: Tensor, step: Any) -> Tensor:
                x = constrain(x, step)
                into.steps.append(x)
                return x

            into.noise = noise
            return sampler(denoise, x, steps, noise, progress, record)

        return run

    SAMPLERS.update({name: recording(getattr(sampler, "func", sampler)) for name, sampler in before.items()})
    try:
        yield
    finally:
        SAMPLERS.update(before)


def painted(folder: Path, request: Request, dtype: torch.dtype = torch.float32) -> Ours:
    recipe = LocalEngine().resolve(request)
    model = open_deepfloyd(Parts(Folder(folder), torch.device("cpu"), dtype))
    ours = Ours()
    with recorded(ours):
        ours.pictures = list(model.paint(recipe, lambda progress: None, 1))
    return ours


def dials(count: int = STEPS, **others: Any) -> dict[str, Dials]:
    return {"decoder": Dials(steps=count, **others), "upsampler": Dials(steps=count)}


def assert_steps(ours: Ours, truth: list[Tensor], tolerance: float = SINGLE) -> None:
    assert len(ours.steps) == len(truth)
    assert max(difference(a, b) for a, b in zip(ours.steps, truth, strict=True)) < tolerance


def assert_picture(image: Image.Image, truth: Tensor) -> None:
    ours = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert (ours - (truth[0] / 2 + 0.5).clamp(0, 1)).abs().max() <= LEVEL


@dataclass
class Theirs:
    """diffusers' two stages, run one after the other."""

    folder: Path
    way: str = ""
    dtype: torch.dtype = torch.float32
    steps: list[Tensor] = field(default_factory=list)
    drawing: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(SEED))

    def run(self, prompt: str, first: dict[str, Any], second: dict[str, Any] | None, negative: str = "") -> Tensor:
        small, large = oracle.open_pipelines(self.folder, self.way, self.dtype)
        common = {"negative_prompt": negative, "generator": self.drawing, "output_type": "pt", "clean_caption": False}
        with self.recorded(small):
            low = small(prompt=prompt, guidance_scale=GUIDANCE["decoder"], **{**common, **first}).images
        if second is None:
            return low
        with self.recorded(large):
            return large(prompt=prompt, image=low, guidance_scale=GUIDANCE["upsampler"], **{**common, **second}).images

    def recorded(self, pipeline: Any) -> Any:
        return their_steps(pipeline.scheduler, self.steps)


@torch.no_grad()
@pytest.mark.parametrize(("small", "large"), [(None, None), (Size(24, 16), Size(48, 32))], ids=str)
def test_pictures_of_words_equal_the_oracles(folder: Path, small: Size | None, large: Size | None) -> None:
    asked = {"num_inference_steps": STEPS}
    first, second = ({} if size is None else {"height": size.height, "width": size.width} for size in (small, large))
    theirs = Theirs(folder)
    truth = theirs.run("a red corgi", asked | first, asked | second | {"noise_level": NOISE_LEVEL}, "a dog")
    request = Generate(model=str(folder), prompt="a red corgi", negative="a dog", seed=SEED, size=large, **dials())
    ours = painted(folder, request)
    assert_steps(ours, theirs.steps)
    assert_picture(ours.pictures[0].image, truth)
    assert torch.equal(ours.generator, theirs.drawing.get_state())
    assert truth.std() > 0.1 and (truth.abs() >= 1).float().mean() < 0.5  # neither flat nor clipped


@torch.no_grad()
def test_pictures_of_words_equal_the_oracles_without_rounding(folder: Path) -> None:
    asked = {"num_inference_steps": STEPS}
    theirs = Theirs(folder, dtype=torch.float64)
    theirs.run("a corgi under an umbrella", asked, asked)
    request = Generate(model=str(folder), prompt="a corgi under an umbrella", seed=SEED, **dials())
    assert_steps(painted(folder, request, torch.float64), theirs.steps, DOUBLE)


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_neighbours(folder: Path) -> None:
    asked, theirs = {"num_inference_steps": 3}, Theirs(folder)
    truth = theirs.run("a red corgi", asked, asked)
    engine, model = LocalEngine(), open_deepfloyd(Parts(Folder(folder), torch.device("cpu"), torch.float32))
    several = Generate(model=str(folder), prompt="a red corgi", seed=SEED - 1, count=3, **dials(3))
    assert_picture(list(model.paint(engine.resolve(several), lambda progress: None, 3))[1].image, truth)
    mixed = [
        Generate(model=str(folder), prompt=words, seed=seed, **dials(3))
        for words, seed in (("a bicycle", 7), ("a red corgi", SEED))
    ]
    pictures = model.paint_together([engine.resolve(one) for one in mixed], lambda progress: None)
    assert_picture(pictures[1].image, truth)


@torch.no_grad()
def test_published_timesteps_equal_the_oracles(folder: Path) -> None:
    asked = {"timesteps": published.super27_timesteps}
    theirs = Theirs(folder)
    theirs.run("a red corgi", asked, None)
    request = Generate(model=str(folder), prompt="a red corgi", seed=SEED, size=16, decoder=Dials(steps="super27"))
    ours = painted(folder, request)
    assert_steps(ours, theirs.steps)
    assert torch.equal(ours.generator, theirs.drawing.get_state())


@pytest.fixture
def photo(tmp_path: Path) -> Source:
    levels = torch.randint(0, 256, (4, 4, 3), generator=torch.Generator().manual_seed(5)).byte().numpy()
    Image.fromarray(levels).resize((32, 32), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return read_source(str(tmp_path / "photo.png"))


@torch.no_grad()
def test_pictures_painted_over_equal_the_oracles(folder: Path, photo: Source) -> None:
    image = Image.open(photo.where)
    theirs, asked = Theirs(folder, "Img2Img"), {"num_inference_steps": STEPS}
    truth = theirs.run("a red corgi", asked | {"image": image, "strength": 0.7}, asked | {"original_image": image})
    request = Generate(
        model=str(folder), prompt="a red corgi", seed=SEED, init=photo, strength=0.7, **dials(guidance=7.0)
    )
    ours = painted(folder, request)
    assert_steps(ours, theirs.steps)
    assert_picture(ours.pictures[0].image, truth)
    assert torch.equal(ours.generator, theirs.drawing.get_state())


@torch.no_grad()
def test_repainted_pictures_equal_the_oracles(folder: Path, photo: Source) -> None:
    # The hole has the grid of the small stage, so nothing is scaled but to there.
    image, mask = picture_and_mask(folder, photo)
    theirs, asked = Theirs(folder, "Inpainting"), {"num_inference_steps": STEPS, "mask_image": mask}
    truth = theirs.run("a red corgi", asked | {"image": image}, asked | {"original_image": image})
    ours = painted(folder, repainting(folder, photo, **dials()))
    assert_kept_steps(ours, theirs)
    outside = np.array(mask) == 0
    # Around the hole the canvas lets the new part fade into the old one.
    inner = (slice(14, 18), slice(14, 18))
    levels = torch.from_numpy(np.array(ours.pictures[0].image)[inner]).permute(2, 0, 1) / 255
    assert (levels - (truth[0, :, *inner] / 2 + 0.5).clamp(0, 1)).abs().max() <= LEVEL
    assert np.array_equal(np.array(ours.pictures[0].image)[outside], np.array(Image.open(photo.where))[outside])
    assert torch.equal(ours.generator, theirs.drawing.get_state())


def repainting(folder: Path, photo: Source, **others: Any) -> Inpaint:
    mask = Mask(files=(), boxes=((8, 8, 16, 16),), mode="white", invert=False)
    return Inpaint(model=str(folder), image=photo, mask=mask, prompt="a red corgi", seed=SEED, **others)


def picture_and_mask(folder: Path, photo: Source) -> tuple[Image.Image, Image.Image]:
    """The picture as the chain gets it, with its hole filled from around it, and the hole in white."""
    recipe = LocalEngine().resolve(repainting(folder, photo))
    assert isinstance(recipe.settings, Inpainting)
    layout = lay_out(recipe.inputs[0], recipe.settings.mask, recipe.settings.expand, 32)
    [patch] = layout.patches
    image, mask = layout.canvas.cut(patch, 32)
    return image, mask


def assert_kept_steps(ours: Ours, theirs: Theirs) -> None:
    """Their steps are recorded before they put the known part back, so only the hole is compared."""
    assert len(ours.steps) == len(theirs.steps)
    for mine, other in zip(ours.steps, theirs.steps, strict=True):
        quarter = mine.shape[-1] // 4
        hole = (..., slice(quarter, 3 * quarter), slice(quarter, 3 * quarter))
        assert difference(mine[hole], other[hole]) < SINGLE


def test_a_plan_that_keeps_nothing_has_one_network_in_memory_and_lets_t5_go(folder: Path) -> None:
    parts = Parts(Folder(folder), torch.device("cpu"), torch.float32, kept=())
    model, loaded = open_deepfloyd(parts), []
    recipe = LocalEngine().resolve(Generate(model=str(folder), prompt="a red corgi", count=2, **dials(2)))
    list(model.paint(recipe, lambda progress: loaded.append((progress.stage, parts.loaded)), 1))
    assert loaded == [("decoder", ("decoder",))] * 2 + [("upsampler", ("super_res",))] * 2 + (
        [("decoder", ("decoder",))] * 2 + [("upsampler", ("super_res",))] * 2
    )
