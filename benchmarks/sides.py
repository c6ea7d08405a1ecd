"""One side of a comparison, in a process of its own: a stage of a model, run when it is told to, ours or diffusers'.

    python benchmarks/sides.py SIDE MODEL STAGE FOLDER --device cpu --dtype bf16 --batch 1 [--memory auto] [--compile]

It says {"ready": true} when the folder is open, then reads numbers of steps from its input, a line each, and answers
each with {"first": seconds, "step": seconds}: what the first step took with all that a run needs once, and what each of
the others took. At the end of its input it says how much memory it held at most. `stages.py` is who talks to it.

Ours runs as the pipeline runs it, through its own sampler, watched from outside; of diffusers only the network is
called, as its pipeline calls it: what its pipeline does beside that is left out, which is in its favour.
"""

import functools
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measuring
import torch
from peer import NETWORKS, open_unclip
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.nets.movq import Movq, MovqConfig
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.glide import Asked, open_glide
from dallecli.pipelines.kandinsky import open_kandinsky
from dallecli.pipelines.karlo import KarloPainter, open_karlo
from dallecli.pipelines.latents import Autoencoder
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PaintSettings, PriorSettings, diffusion_dials
from dallecli.pipelines.stage import sample
from dallecli.pipelines.watch import Look, Watch
from dallecli.size import Size
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights.folder import Folder
from dallecli.weights.registry import find

PROMPT = "a big red frog on a green leaf"
STAGES = {
    "karlo": ("text", "prior", "decoder", "upsampler"),
    "kandinsky": ("decoder", "autoencoder"),
    "glide": ("decoder", "upsampler"),
}
WHOLE = "whole"
"""Beside the stages of a model: all of it, from words to pictures."""

SPACE = "random"
Go = Callable[[int], "Times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be run: a stage of a model folder for `batch` pictures.

    `memory` and `compiled` are for whole pictures of ours.
    """

    model: str
    stage: str
    folder: Path
    device: torch.device
    kind: str
    batch: int
    memory: str
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The type in which networks compute."""
        return measuring.DTYPES[self.kind]

    def settings(self, stage: str) -> DiffusionSettings:
        """As the model is published."""
        return replace(diffusion_dials(find(self.model).stages)[stage], sampler="ancestral")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of the first step of a run, with all that a run needs once, and of each step behind it."""

    first: float
    step: float


def called(work: Callable[[], object]) -> Go:
    """A stage whose steps are calls of one function."""

    def go(steps: int) -> Times:
        first = measuring.seconds_of(work)
        rest = measuring.seconds_of(lambda: [work() for _ in range(steps - 1)]) if steps > 1 else None
        return Times(first=first, step=rest / (steps - 1) if rest is not None else first)

    return go


# ----------------------------------------------------------------------------------------------------------------------
# Ours.


class Enough(Exception):
    """Ends a run from within, where its steps have been counted."""


def watched(run: Callable[[Watch], object]) -> Go:
    """A stage that a pipeline runs: timed by what it reports, and left after so many steps."""

    def go(steps: int) -> Times:
        marks = [measuring.now()]

        def watch(_: str, done: int, __: int, /, look: Look | None = None) -> None:
            if done in (1, steps):
                marks.append(measuring.now())
            if done == steps:
                raise Enough

        with suppress(Enough), torch.inference_mode():
            run(watch)
        first = marks[1] - marks[0]
        return Times(first=first, step=(marks[2] - marks[1]) / (steps - 1) if steps > 1 else first)

    return go


def ours(case: Case) -> Go:
    """A stage, or all, of this project's."""
    if case.stage == WHOLE:
        engine = LocalEngine(case.memory, case.batch, compiled=case.compiled)
        ask = Generate(
            prompt=PROMPT,
            model=str(case.folder),
            seed=1,
            count=case.batch,
            device=str(case.device),
            dtype=case.kind,
            prior_candidates=1,
        )
        recipe = engine.resolve(ask)
        return called(lambda: list(engine.paint(recipe, lambda _: None)))
    folder = Folder(case.folder)
    once = {"text_encoder"} if case.stage != "text" else set()  # what is read with it is read before the first step
    parts = Parts(folder, case.device, case.dtype, set(folder.networks) - once)
    return {"karlo": _ours_of_karlo, "kandinsky": _ours_of_kandinsky, "glide": _ours_of_glide}[case.model](case, parts)


def _ours_of_karlo(case: Case, parts: Parts) -> Go:
    model = open_karlo(parts, SPACE).parts
    if case.stage == "text":
        return called(lambda: model.embedder.read([PROMPT]))
    words, settings = model.embedder.read([PROMPT]), case.settings(case.stage)
    seeds = range(case.batch)
    if case.stage == "prior":
        return watched(
            lambda watch: model.embedder.imagine(
                words, Noise(seeds), PriorSettings(dials=settings, candidates=1), watch
            )
        )
    if case.stage == "decoder":
        width = parts.folder.width()
        embedding = Embedding(vector=torch.randn(case.batch, width), space=SPACE)
        size, stages = Size.square(parts.folder.sizes()[0]), {"decoder": settings}
        return watched(
            lambda watch: model.painter.decode(
                embedding, words, Noise(seeds), PaintSettings(dials=stages, size=size), watch
            )
        )
    low = torch.rand(case.batch, 3, *parts.folder.sizes()[:1] * 2, device=case.device) * 2 - 1

    def upsample(watch: Watch) -> Tensor:
        # Not through `decode`, which would have to run the decoder first.
        size = Size.square(parts.folder.sizes()[1])
        diffusion = KarloPainter(parts, SPACE)._upsampler("upsampler", size, low)
        return sample(parts, diffusion, settings, Noise(seeds), watch)

    return watched(upsample)


def _ours_of_kandinsky(case: Case, parts: Parts) -> Go:
    size = Size.square(parts.folder.sizes()[0])
    if case.stage == "autoencoder":
        autoencoder = Autoencoder(parts=parts, part="movq", build=lambda json: Movq(MovqConfig.from_config(json)))
        latents = torch.randn(case.batch, *parts.folder.noise_shape(size), device=case.device, dtype=case.dtype)

        def decode() -> Tensor:
            with torch.inference_mode():
                return autoencoder.decode(latents)

        return called(decode)
    model = open_kandinsky(parts, SPACE).parts
    vector, away = torch.randn(2, case.batch, parts.folder.width())
    embedding = Embedding(vector=vector, space=SPACE, away=away)
    stages = {"decoder": case.settings("decoder")}
    words: Any = None  # its decoder reads none
    seeds = range(case.batch)
    return watched(
        lambda watch: model.painter.decode(
            embedding, words, Noise(seeds), PaintSettings(dials=stages, size=size), watch
        )
    )


def _ours_of_glide(case: Case, parts: Parts) -> Go:
    model, settings, seeds = open_glide(parts), case.settings(case.stage), range(case.batch)
    side, larger = parts.folder.sizes()
    size = Size.square(side if case.stage == "decoder" else larger)
    asked = Asked(prompts=[PROMPT], negative="", dials={case.stage: settings}, size=size)
    low = None if case.stage == "decoder" else torch.rand(case.batch, 3, side, side, device=case.device) * 2 - 1

    def paint(watch: Watch) -> Tensor:
        return sample(parts, model.stage(asked, case.stage, case.batch, low), settings, Noise(seeds), watch)

    return watched(paint)


# ----------------------------------------------------------------------------------------------------------------------
# diffusers'.


def theirs(case: Case) -> Go:
    """A stage, or all, of diffusers'."""
    if case.stage == WHOLE:
        pipeline = open_unclip(case.folder, case.device, case.dtype)
        return called(lambda: pipeline(PROMPT, num_images_per_prompt=case.batch))
    network = NETWORKS[case.model, case.stage]
    net = network.open(case.folder, case.device, case.dtype)
    some = functools.partial(torch.randn, device=case.device, dtype=case.dtype)
    ones = functools.partial(torch.ones, device=case.device)
    return called(torch.no_grad()(network.prepare(net, case.batch, some, ones)))


# ----------------------------------------------------------------------------------------------------------------------

OPENERS = {"ours": ours, "diffusers": theirs}


def main() -> None:
    """Open, run as told, and say how long it took."""
    parser = measuring.parser(__doc__)
    parser.add_argument("side", choices=OPENERS)
    parser.add_argument("model", choices=STAGES)
    parser.add_argument("stage")
    parser.add_argument("folder", type=Path)
    measuring.add_place(parser)
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    case = Case(
        model=options.model,
        stage=options.stage,
        folder=options.folder,
        device=options.device,
        kind=options.dtype,
        batch=options.batch,
        memory=options.memory,
        compiled=options.compile,
    )
    with os.fdopen(os.dup(1), "w") as answers:  # libraries may print
        os.dup2(2, 1)
        go = OPENERS[options.side](case)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            times = go(int(line))
            print(json.dumps({"first": times.first, "step": times.step}), file=answers, flush=True)
        print(json.dumps({"memory": measuring.most_memory(case.device)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
