"""One side of a comparison, in a process of its own: a stage of a model, run when it is told to, ours or diffusers'.

    python benchmarks/sides.py SIDE MODEL STAGE FOLDER --device cpu --dtype bf16 --batch 1 [--memory auto] [--once]

It says {"tflop": …} when the networks are there (null where the other side counts), then reads numbers of steps from
its input, a line each, and answers each with {"first": seconds, "step": seconds}: what the first step took with all
that a run needs once, and what each of the others took. At the end of its input it says how much memory it held at
most. `--once` runs one step and ends. `stages.py` is who talks to it.

Ours runs as the pipeline runs it, through its own sampler, watched from outside; of diffusers only the network is
called, as its pipeline calls it: what its pipeline does beside that is left out, which is in its favour.
"""

import argparse
import functools
import json
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import measuring
import torch
from torch import Tensor

from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.nets.movq import Movq, MovqConfig
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.kandinsky import KandinskyPipeline
from dallecli.pipelines.karlo import KarloPipeline
from dallecli.pipelines.model import Watch
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import sample
from dallecli.request import Generate, StageSettings
from dallecli.studio import LocalEngine
from dallecli.weights.folder import Folder
from dallecli.weights.registry import find

PROMPT = "a big red frog on a green leaf"
STAGES = {"karlo": ("text", "prior", "decoder", "upsampler"), "kandinsky": ("decoder", "autoencoder")}
WHOLE = "whole"
"""Beside the stages of a model: all of it, from words to pictures."""

SPACE = "random"
Go = Callable[[int], "Times"]
Step = Callable[[], object]
Make = Callable[..., Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be run: a stage of a model folder for `batch` pictures. `memory` is for whole pictures of ours."""

    model: str
    stage: str
    folder: Path
    device: torch.device
    kind: str
    batch: int
    memory: str

    @property
    def dtype(self) -> torch.dtype:
        """The type in which networks compute."""
        return measuring.DTYPES[self.kind]

    def settings(self, stage: str) -> StageSettings:
        """As the model is published."""
        return replace(find(self.model).stages[stage], sampler="ancestral")


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

        def watch(_: str, done: int, __: int) -> None:
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
        engine = LocalEngine(case.memory, case.batch)
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
    return _ours_of_karlo(case, parts) if case.model == "karlo" else _ours_of_kandinsky(case, parts)


def _ours_of_karlo(case: Case, parts: Parts) -> Go:
    pipeline = KarloPipeline(parts, SPACE)
    if case.stage == "text":
        return called(lambda: pipeline.read([PROMPT]))
    words, settings = pipeline.read([PROMPT]), case.settings(case.stage)
    seeds = range(case.batch)
    if case.stage == "prior":
        return watched(lambda watch: pipeline.imagine(words, Noise(seeds), settings, 1, watch))
    if case.stage == "decoder":
        width = parts.folder.width()
        embedding = Embedding(vector=torch.randn(case.batch, width), space=SPACE)
        size, stages = parts.folder.sizes()[0], {"decoder": settings}
        return watched(lambda watch: pipeline.decode(embedding, words, Noise(seeds), stages, watch, size=size))
    low = torch.rand(case.batch, 3, *parts.folder.sizes()[:1] * 2, device=case.device) * 2 - 1

    def upsample(watch: Watch) -> Tensor:
        # Not through `decode`, which would have to run the decoder first.
        diffusion = pipeline._upsampler("upsampler", low, OFF)
        return sample(parts, diffusion, settings, Noise(seeds), watch)

    return watched(upsample)


def _ours_of_kandinsky(case: Case, parts: Parts) -> Go:
    size = parts.folder.sizes()[0]
    if case.stage == "autoencoder":
        net = parts.net("movq", lambda json: Movq(MovqConfig.from_config(json)), case.dtype)
        latents = torch.randn(case.batch, *parts.folder.noise_shape(size), device=case.device, dtype=case.dtype)

        def decode() -> Tensor:
            with torch.inference_mode():
                return net.decode(latents)

        return called(decode)
    pipeline = KandinskyPipeline(parts, SPACE)
    vector, away = torch.randn(2, case.batch, parts.folder.width())
    embedding = Embedding(vector=vector, space=SPACE, away=away)
    stages = {"decoder": case.settings("decoder")}
    words: Any = None  # its decoder reads none
    seeds = range(case.batch)
    return watched(lambda watch: pipeline.decode(embedding, words, Noise(seeds), stages, watch, size=size))


# ----------------------------------------------------------------------------------------------------------------------
# diffusers.


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network of diffusers' or transformers': its class, its place in the folder, and one step of its stage.

    `prepare` takes the network, how many pictures, and who makes random numbers and ones of a shape.
    """

    library: Literal["diffusers", "transformers"]
    kind: str
    place: str
    prepare: Callable[[Any, int, Make, Make], Step]

    def open(self, case: Case) -> Any:
        """The network with its weights."""
        kind: Any = getattr(_library(self.library), self.kind)
        return kind.from_pretrained(case.folder / self.place, dtype=case.dtype).to(case.device).eval()

    def tflop(self, case: Case) -> float:
        """The work of a step as torch counts it, found on the meta device, where attention is counted as well."""
        config = json.loads((case.folder / self.place / "config.json").read_text(encoding="utf-8"))
        library = _library(self.library)
        kind: Any = getattr(library, self.kind)
        with torch.device("meta"), torch.no_grad():
            net = kind.from_config(config) if self.library == "diffusers" else kind(kind.config_class(**config))
            return measuring.flops_of(self.prepare(net.eval(), case.batch, torch.empty, torch.ones)) / 1e12


def _text(net: Any, count: int, some: Make, ones: Make) -> Step:
    """The sentence and the empty one, one after the other, as its pipeline reads them; once for all pictures."""
    ids = ones(1, 77, dtype=torch.long)
    return lambda: (net(ids), net(ids))


def _prior(net: Any, count: int, some: Make, ones: Make) -> Step:
    b, width, t = 2 * count, net.config.embedding_dim, ones((), dtype=torch.long)
    x, text, states = some(b, width), some(b, width), some(b, 77, width)
    mask = ones(b, 77, dtype=torch.bool)
    return lambda: net(x, t, proj_embedding=text, encoder_hidden_states=states, attention_mask=mask)


def _decoder(net: Any, count: int, some: Make, ones: Make) -> Step:
    b, side, t = 2 * count, net.config.sample_size, ones((), dtype=torch.long)
    x, context = some(b, 3, side, side), some(b, 81, net.config.cross_attention_dim)
    time, mask = some(b, 4 * net.config.block_out_channels[0]), ones(b, 81, dtype=torch.bool)
    return lambda: net(x, t, context, class_labels=time, attention_mask=mask)


def _upsampler(net: Any, count: int, some: Make, ones: Make) -> Step:
    side, t = net.config.sample_size, ones((), dtype=torch.long)
    x = some(count, 6, side, side)
    return lambda: net(x, t)


def _latents(net: Any, count: int, some: Make, ones: Make) -> Step:
    b, side, t = 2 * count, net.config.sample_size, ones((), dtype=torch.long)
    x, seen = some(b, 4, side, side), {"image_embeds": some(b, net.config.encoder_hid_dim)}
    return lambda: net(x, t, None, added_cond_kwargs=seen)


def _to_pixels(net: Any, count: int, some: Make, ones: Make) -> Step:
    latents = some(count, 4, 64, 64)  # of 512 pixels
    return lambda: net.decode(latents, force_not_quantize=True)


KANDINSKY = "kandinsky-2-2-decoder"
NETWORKS: dict[tuple[str, str], Network] = {
    ("karlo", "text"): Network(
        library="transformers", kind="CLIPTextModelWithProjection", place="text_encoder", prepare=_text
    ),
    ("karlo", "prior"): Network(library="diffusers", kind="PriorTransformer", place="prior", prepare=_prior),
    ("karlo", "decoder"): Network(library="diffusers", kind="UNet2DConditionModel", place="decoder", prepare=_decoder),
    ("karlo", "upsampler"): Network(
        library="diffusers", kind="UNet2DModel", place="super_res_first", prepare=_upsampler
    ),
    ("kandinsky", "decoder"): Network(
        library="diffusers", kind="UNet2DConditionModel", place=f"{KANDINSKY}/unet", prepare=_latents
    ),
    ("kandinsky", "autoencoder"): Network(
        library="diffusers", kind="VQModel", place=f"{KANDINSKY}/movq", prepare=_to_pixels
    ),
}


def theirs(case: Case) -> Go:
    """A stage, or all, of diffusers'."""
    if case.stage == WHOLE:
        pipeline = open_unclip(case.folder, case.dtype).to(case.device)
        return called(lambda: pipeline(PROMPT, num_images_per_prompt=case.batch))
    network = NETWORKS[case.model, case.stage]
    net = network.open(case)
    some = functools.partial(torch.randn, device=case.device, dtype=case.dtype)
    ones = functools.partial(torch.ones, device=case.device)
    return called(torch.no_grad()(network.prepare(net, case.batch, some, ones)))


def open_unclip(folder: Path, dtype: torch.dtype) -> Any:
    """diffusers' UnCLIPPipeline on a folder as it is published, with the two repairs that it needs to run at all."""
    import diffusers
    from diffusers.pipelines.deprecated import unclip
    from diffusers.pipelines.deprecated.unclip import pipeline_unclip

    pipelines: Any = diffusers.pipelines
    pipelines.unclip = unclip  # where published folders look for it
    functional = torch.nn.functional

    @functools.wraps(functional.interpolate)  # its parameters are looked at
    def in_single(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return functional.interpolate(x.float(), *args, **options).to(x.dtype)

    repaired: Any = pipeline_unclip
    repaired.F = types.SimpleNamespace(**{**vars(functional), "interpolate": in_single})  # no bicubic in bf16
    opened: Any = diffusers.UnCLIPPipeline
    pipeline = opened.from_pretrained(str(folder), dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _library(name: str) -> Any:
    if name == "diffusers":
        import diffusers

        return diffusers
    import transformers

    return transformers


# ----------------------------------------------------------------------------------------------------------------------

SIDES = {"ours": ours, "diffusers": theirs}


def main() -> None:
    """Open, run as told, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("model", choices=STAGES)
    parser.add_argument("stage")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--dtype", choices=measuring.DTYPES, default="bf16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    case = Case(
        model=options.model,
        stage=options.stage,
        folder=options.folder,
        device=options.device,
        kind=options.dtype,
        batch=options.batch,
        memory=options.memory,
    )
    with os.fdopen(os.dup(1), "w") as answers:  # libraries may print
        os.dup2(2, 1)
        go = SIDES[options.side](case)
        if options.once:
            go(1)
            return
        network = NETWORKS.get((case.model, case.stage)) if options.side == "diffusers" else None
        print(json.dumps({"tflop": network.tflop(case) if network is not None else None}), file=answers, flush=True)
        for line in sys.stdin:
            times = go(int(line))
            print(json.dumps({"first": times.first, "step": times.step}), file=answers, flush=True)
        print(json.dumps({"memory": measuring.most_memory(case.device)}), file=answers, flush=True)


if __name__ == "__main__":
    main()
