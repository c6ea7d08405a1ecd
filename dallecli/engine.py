"""The seam between asking and painting: a request goes in, pictures come out as they are done.

Fronts (command line, batches, server) know `Engine` and nothing behind it. `FakeEngine` paints flat colours without
torch, which makes every front testable in milliseconds.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from dallecli.errors import BadSteps, UnknownModel, UnknownSampler
from dallecli.recipe import Recipe, fill, random_seed
from dallecli.request import Generate, StageSettings

if TYPE_CHECKING:
    from dallecli.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of one stage is done.

    `step` counts from 1 to `steps`. `picture` is the first picture, from 0, that the step worked on, of `pictures`: an
    engine may take them one by one or several at a time.
    """

    stage: str
    step: int
    steps: int
    picture: int
    pictures: int


class Engine(Protocol):
    """Turns requests into pictures."""

    def resolve(self, request: Generate) -> Recipe:
        """Close what the request left open, and refuse what the model cannot do: quickly, before weights are read."""
        ...

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        """Yield the pictures of a recipe in order, each with `recipe.single(k)` completed by what was really used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _FakeModel:
    """Defaults of a model that does not exist, shaped like the starter."""

    name: str
    tasks: tuple[str, ...] = ("generate",)
    prior_candidates: int = 2
    sizes: tuple[int, ...] = (16, 64, 256)

    @property
    def stages(self) -> Mapping[str, StageSettings]:
        return {
            "prior": StageSettings(sampler="ancestral", steps=10, guidance=4.0),
            "decoder": StageSettings(sampler="ancestral", steps=25, guidance=4.0),
            "upsampler": StageSettings(sampler="ancestral", steps=7, guidance=1.0),
            "upsampler_2": StageSettings(sampler="ancestral", steps=7, guidance=1.0),
        }


class FakeEngine:
    """An engine for tests: the whole contract, flat colours from the seed, no weights.

    It knows the models "starter" and "fake", the samplers "ancestral", "ddim" and "dpm++", up to 1000 steps, and reads
    32 words of a prompt. Each step sleeps `seconds_per_step`, so that progress can be looked at.
    """

    MODELS = ("starter", "fake")
    SAMPLERS = ("ancestral", "ddim", "dpm++")
    STEPS = 1000
    WORDS = 32

    def __init__(self, seconds_per_step: float = 0.0) -> None:
        self.seconds_per_step = seconds_per_step

    def resolve(self, request: Generate) -> Recipe:
        if request.model not in self.MODELS:
            raise UnknownModel(f"no model is called {request.model!r}", hint=f"one of {', '.join(self.MODELS)}")
        dropped = " ".join(request.prompt.split()[self.WORDS :])
        seed = request.seed if request.seed is not None else random_seed()
        recipe = fill(request, _FakeModel(name=request.model), dropped, seed)
        for name, stage in recipe.stages.items():
            if stage.sampler not in self.SAMPLERS:
                raise UnknownSampler(
                    f"no sampler is called {stage.sampler!r}", hint=f"one of {', '.join(self.SAMPLERS)}"
                )
            if stage.steps > self.STEPS:
                raise BadSteps(f"the {name} was trained on {self.STEPS} steps, not {stage.steps}")
        return recipe

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        from PIL import Image

        from dallecli.picture import Picture

        used = replace(recipe, digest="0" * 64, device="cpu", dtype="fp32")
        for k in range(recipe.count):
            start = time.perf_counter()
            for name, stage in recipe.stages.items():
                for step in range(1, stage.steps + 1):
                    if self.seconds_per_step > 0:
                        time.sleep(self.seconds_per_step)
                    progress(Progress(stage=name, step=step, steps=stage.steps, picture=k, pictures=recipe.count))
            single = used.single(k)
            red, green, blue, match = hashlib.sha256(str(single.seed).encode()).digest()[:4]
            image = Image.new("RGB", (recipe.size, recipe.size), (red, green, blue))
            yield Picture(
                image=image, recipe=single, seconds=time.perf_counter() - start, scores={"prior": match / 255}
            )
