"""How a picture was made: a request with nothing left open, as frozen data, to JSON and back.

Pictures carry it (picture.py), `dalle show` prints it. The JSON is plain ASCII, so that neither a terminal nor a
metadata reader can be talked into anything by a prompt.
"""

import base64
import hashlib
import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Final, Protocol, TypeVar, cast, get_args

from dallecli import __version__
from dallecli.errors import BadRecipe, BadSetting, BadSize, PromptTooLong, TaskNotSupported
from dallecli.request import (
    INVERSION,
    STAGES,
    TASKS,
    Ask,
    Box,
    Edges,
    Edit,
    Generate,
    Inpaint,
    Interpolate,
    Mask,
    MaskMode,
    Noise,
    Request,
    Stage,
    StageSettings,
    Vary,
)
from dallecli.source import STDIN, Kind, Source

FORMAT = "dalle-recipe/2"
OLD_FORMATS = ("dalle-recipe/1",)
"""Formats that are still read. The first knew `generate` only, so it had no inputs, settings and scores."""

INVERTING: Final = StageSettings(sampler="ddim", steps=25, guidance=1.0)
"""How pictures are inverted if nothing is asked. What paints from inverted noise takes the same steps backwards."""

FAST_SAMPLER: Final = "dpm++"
"""The decoder's sampler for the effort "fast", as the best of few steps. docs/starter.md has what it costs."""
FAST_STEPS: Final = 10
"""The most steps that a stage takes then."""
BEST: Final = 2
"""How many times a model's own steps, and its own prior candidates, are taken for the effort "best"."""
EFFORTLESS: Final = ("upsampler", "upsampler_2")
"""Stages that take the model's own steps at any effort, unless they follow an inversion: the network of their last step
was trained for that many."""

EMBEDDED_BYTES: Final = 8192
"""An embedding in a file no larger than this travels inside the recipe; with its noise it is larger."""

STRENGTH: Final = 0.4
INIT_STRENGTH: Final = 0.3
"""How much of a picture is painted over if nothing is asked, as in diffusers' KandinskyV22Img2ImgPipeline."""

INPAINTING_RIVALS: Final = 4
"""So many times a model's own number of prior candidates are drawn for an inpainting: the best of them is to fit the
words and the picture around the hole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generating:
    """The settings of `generate`. `kept` are the seeds of the pictures that the best of `best_of` turned out to be.

    `negative` is "" where nothing is to be avoided. `strength` says how much of the one input is painted over; it is
    None where there is no input.
    """

    best_of: int | None = None
    kept: tuple[int, ...] | None = None
    negative: str = ""
    strength: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Varying:
    """The settings of `vary`: see `request.Vary`."""

    fidelity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolating:
    """The settings of `interpolate`: where each frame stands from 0 to 1, or the weight of each end (the sum is 1)."""

    positions: tuple[float, ...] | None
    weights: tuple[float, ...] | None
    noise: Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Inpainting:
    """The settings of `inpaint`: see `request.Inpaint`."""

    mask: Mask | None
    resample: int
    expand: Edges
    negative: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Editing:
    """The settings of `edit`: the two sentences, and how far each picture goes."""

    before: str
    after: str
    strengths: tuple[float, ...]


Settings = Generating | Varying | Interpolating | Inpainting | Editing


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How the frames of an animation follow each other: see `animation.Tempo`."""

    fps: float
    bounce: bool
    hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One task with every dial set.

    `prompt` is "" where a task was given none. `dropped` are the words at the end of a sentence that the model did not
    read. `inputs` are the pictures, embeddings or words that it starts from; the files of a mask are in `settings`.
    `stages` holds the stages that run, keyed as in `request.STAGES`, and `request.INVERSION` where pictures are
    inverted. `digest` (sha256 of the weights, hex), `device` and `dtype` are None, or as asked, until an engine has
    opened the model; the recipe of a finished picture states what was used, and its `scores`, and that of an animation
    its `motion`. `warnings` are for whoever asked, and for nobody afterwards: they are in no file.
    """

    task: str
    prompt: str
    dropped: tuple[str, ...]
    inputs: tuple[Source, ...] = ()
    settings: Settings = field(default_factory=Generating)
    model: str
    digest: str | None
    seed: int
    count: int
    size: int
    stages: Mapping[str, StageSettings]
    prior_candidates: int
    device: str | None
    dtype: str | None
    versions: Mapping[str, str]
    scores: Mapping[str, float] = field(default_factory=dict)
    motion: Motion | None = None
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def single(self, k: int) -> "Recipe":
        """The recipe of picture k alone, from 0: it paints exactly that picture.

        Raises: IndexError outside of the count; ValueError for a best-of that has not been painted, where nobody knows
        yet which picture that is.
        """
        if not 0 <= k < self.count:
            raise IndexError(f"picture {k} of {self.count}")
        settings = self.settings
        if isinstance(settings, Generating) and settings.best_of is not None:
            if settings.kept is None:
                raise ValueError("which pictures are the best is known when all are painted")
            one = replace(settings, best_of=None, kept=None)
            return replace(self, seed=settings.kept[k], count=1, settings=one)
        if self.count == 1:
            return self
        if isinstance(settings, Interpolating) and settings.positions is not None and len(settings.positions) > 1:
            return replace(self, count=1, settings=replace(settings, positions=(settings.positions[k],)))
        if isinstance(settings, Editing) and len(settings.strengths) > 1:
            return replace(self, count=1, settings=replace(settings, strengths=(settings.strengths[k],)))
        return replace(self, seed=self.seed + k, count=1)

    def rest(self, first: int) -> "Recipe":
        """The recipe of picture `first` and all after it: what is left to do when the ones before are done."""
        settings = self.settings
        left = self.count - first
        if isinstance(settings, Interpolating) and settings.positions is not None and len(settings.positions) > 1:
            return replace(self, count=left, settings=replace(settings, positions=settings.positions[first:]))
        if isinstance(settings, Editing) and len(settings.strengths) > 1:
            return replace(self, count=left, settings=replace(settings, strengths=settings.strengths[first:]))
        return replace(self, seed=self.seed + first, count=left)

    def candidates(self) -> "Recipe":
        """Of a best-of the recipe of all pictures that are painted; any other recipe is that already."""
        if not isinstance(self.settings, Generating) or self.settings.best_of is None:
            return self
        everything = replace(self.settings, best_of=None, kept=None)
        return replace(self, count=self.settings.best_of, settings=everything)

    def keeping(self, seeds: tuple[int, ...]) -> "Recipe":
        """A best-of that knows its outcome, best first; any other recipe as it is."""
        if not isinstance(self.settings, Generating) or self.settings.best_of is None:
            return self
        return replace(self, settings=replace(self.settings, kept=seeds))

    @property
    def alike(self) -> "Recipe | None":
        """What recipes have in common that can be painted at once: all but the prompt and the seed.

        None for tasks and numbers of pictures where that cannot be.
        """
        generating = isinstance(self.settings, Generating) and self.settings.best_of is None
        if self.count != 1 or self.inputs or not generating:
            return None
        return replace(self, prompt="", dropped=(), seed=0, warnings=())

    @property
    def sources(self) -> tuple[Source, ...]:
        """Everything that has to be there to paint this: the inputs, and the files of the mask."""
        masked = isinstance(self.settings, Inpainting) and self.settings.mask is not None
        return (*self.inputs, *(self.settings.mask.files if masked else ()))  # type: ignore[union-attr]

    def with_sources(self, change: Callable[[Source], Source]) -> "Recipe":
        """The same with every source changed, for example into one that has its bytes."""
        settings = self.settings
        if isinstance(settings, Inpainting) and settings.mask is not None:
            mask = replace(settings.mask, files=tuple(change(file) for file in settings.mask.files))
            settings = replace(settings, mask=mask)
        return replace(self, inputs=tuple(change(source) for source in self.inputs), settings=settings)

    @property
    def position(self) -> float | None:
        """Where a single picture stands: between the ends, or towards the other sentence. None for other tasks."""
        if isinstance(self.settings, Interpolating) and self.settings.positions is not None:
            return self.settings.positions[0]
        return self.settings.strengths[0] if isinstance(self.settings, Editing) else None

    @property
    def title(self) -> str:
        """A few words for a file's name and a progress bar: the prompt, or what was done to which input."""
        if isinstance(self.settings, Generating):
            return self.prompt
        names = [_title(source) for source in self.inputs]
        if isinstance(self.settings, Interpolating):
            return " to ".join([names[0], names[-1]] if len(names) > 2 else names)
        if isinstance(self.settings, Editing):
            return f"{names[0]} to {self.settings.after}"
        return f"{names[0]} {self.prompt if self.prompt else self.task}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in the order in which a person wants to read it."""
        return {
            "format": FORMAT,
            "task": self.task,
            "prompt": self.prompt,
            "dropped": list(self.dropped),
            "inputs": [_source_to_dict(source) for source in self.inputs],
            "settings": _settings_to_dict(self.settings),
            "model": self.model,
            "digest": self.digest,
            "seed": self.seed,
            "count": self.count,
            "size": self.size,
            "stages": {
                name: {"sampler": stage.sampler, "steps": stage.steps, "guidance": stage.guidance}
                for name, stage in self.stages.items()
            },
            "prior_candidates": self.prior_candidates,
            "device": self.device,
            "dtype": self.dtype,
            "versions": dict(self.versions),
            "scores": dict(self.scores),
            "motion": None
            if self.motion is None
            else {"fps": self.motion.fps, "bounce": self.motion.bounce, "hold": self.motion.hold},
        }

    def to_json(self) -> str:
        """One line of ASCII."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read what `to_json` wrote, or an older version did.

        What is read is well-formed, not yet possible: `request_of` checks that. Raises BadRecipe for anything else:
        unknown, missing, doubled or mistyped keys.
        """
        try:
            data = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            raise BadRecipe(f"the recipe is not JSON: {error}") from error
        reader = _Reader(data, "recipe")
        written = reader.take("format", str)
        if written not in (FORMAT, *OLD_FORMATS):
            raise BadRecipe(f"the recipe is written as {written!r}", hint=f"this version reads {FORMAT!r}")
        old = written != FORMAT
        task = reader.take_choice("task", ("generate",) if old else tuple(TASKS.values()))
        recipe = Recipe(
            task=task,
            prompt=reader.take("prompt", str),
            dropped=reader.take_words("dropped"),
            inputs=() if old else reader.take_sources("inputs"),
            settings=Generating() if old else _SETTINGS[task](reader.take_object("settings")),
            model=reader.take("model", str),
            digest=reader.take_optional("digest"),
            seed=reader.take("seed", int),
            count=reader.take("count", int),
            size=reader.take("size", int),
            stages=reader.take_stages(),
            prior_candidates=reader.take("prior_candidates", int),
            device=reader.take_optional("device"),
            dtype=reader.take_optional("dtype"),
            versions=reader.take_texts("versions"),
            scores={} if old else reader.take_scores(),
            motion=None if old or reader.take_null("motion") else _read_motion(reader.take_object("motion")),
        )
        reader.finish()
        return recipe


class Defaults(Protocol):
    """What `fill` needs to know of a model; a `ModelSpec` of the registry is one.

    `sizes` ascend. The last is what the whole chain paints, and each one before it stops an upsampler earlier. Where
    `largest` is given, the decoder paints any size up to that. `resample` is how often each step is taken in
    inpainting: once, if the model was trained for it.
    """

    @property
    def name(self) -> str: ...
    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def stages(self) -> Mapping[str, StageSettings]: ...
    @property
    def prior_candidates(self) -> int: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def largest(self) -> int | None: ...
    @property
    def resample(self) -> int: ...


def random_seed() -> int:
    """A seed for somebody who gave none: below 2^32, short enough to be typed again."""
    return secrets.randbelow(2**32)


def fill(request: Request, spec: Defaults, dropped: str, seed: int) -> Recipe:
    """Close every dial that the request left open.

    `dropped` is the end of its sentences that the model will not read, or "".

    Raises: TaskNotSupported, BadSize, BadSetting, PromptTooLong (strict requests only).
    """
    task = TASKS[type(request)]
    if task not in spec.tasks:
        raise TaskNotSupported(f"{spec.name} cannot {task}", hint=f"it can {', '.join(spec.tasks)}")
    if request.strict and dropped:
        raise PromptTooLong(
            f"{spec.name} would not read the end of this prompt: {dropped}", hint="shorten it, or leave out --strict"
        )
    size = settle_size(request, spec)
    prompt = getattr(request, "prompt", None)
    settings, count = _settings(request, spec)
    return Recipe(
        task=task,
        prompt=prompt if prompt is not None else "",
        dropped=tuple(dropped.split()),
        inputs=_inputs(request),
        settings=settings,
        model=spec.name,
        digest=None,
        seed=seed,
        count=count,
        size=size,
        stages=fill_stages(request, spec, size),
        prior_candidates=settle_candidates(request, spec),
        device=request.device,
        dtype=request.dtype,
        versions={"dallecli": __version__},
    )


def settle_candidates(request: Ask, spec: Defaults) -> int:
    """How many embeddings the prior draws for each picture of a request."""
    if request.prior_candidates is not None:
        return request.prior_candidates
    more = INPAINTING_RIVALS if isinstance(request, Inpaint) else 1
    return spec.prior_candidates * more * (BEST if request.effort == "best" else 1)


def settle_size(request: Ask, spec: Defaults) -> int:
    """The side in pixels of what a request paints. Raises BadSize for one that the model cannot paint."""
    size = request.size if request.size is not None else spec.sizes[-1]
    if spec.largest is not None:
        if size > spec.largest:
            raise BadSize(f"{spec.name} does not paint {size} pixels", hint=f"it paints up to {spec.largest}")
    elif size not in spec.sizes:
        raise BadSize(f"{spec.name} does not paint {size} pixels", hint=f"it paints {', '.join(map(str, spec.sizes))}")
    return size


def fill_stages(request: Ask, spec: Defaults, size: int) -> dict[str, StageSettings]:
    """The stages that a request runs to paint (or to invert) pictures of `size`, with every dial set.

    Raises: BadSetting for a sampler that does not go both ways.
    """
    unused = 0 if spec.largest is not None else len(spec.sizes) - 1 - spec.sizes.index(size)
    names = [name for name in STAGES if name in spec.stages]
    asked = {
        "prior": request.prior,
        "decoder": request.decoder,
        "upsampler": request.upsampler,
        "upsampler_2": request.upsampler,
    }
    defaults = {name: _at_effort(request.effort, name, own) for name, own in spec.stages.items()}
    stages = {}
    if request.inversion is not None:
        stages[INVERSION] = _settle(request.inversion, _at_effort(request.effort, INVERSION, INVERTING))
        if request.decoder.sampler not in (None, INVERTING.sampler):
            what = f"inverted noise cannot be painted with the sampler {request.decoder.sampler!r}"
            raise BadSetting(what, hint=f"leave --sampler out: it is {INVERTING.sampler}")
        # Steps are undone by the same steps, so what paints from inverted noise follows the inversion.
        defaults |= {name: stages[INVERSION] for name in names if name != "prior"}
    for name in names[: len(names) - unused]:
        if name != "prior" or request.imagines:
            stages[name] = _settle(asked[name], defaults[name])
    return {name: stages[name] for name in _RECIPE_STAGES if name in stages}


def request_of(recipe: Recipe) -> Request:
    """The request that a recipe answers, as far as a request can say it.

    The upsamplers' dials are left out, and of a sweep only the last picture is asked for.

    A recipe that was read from a file is checked by this. Raises BadRecipe, and what the requests raise.
    """
    stages = {name: Stage(sampler=s.sampler, steps=s.steps, guidance=s.guidance) for name, s in recipe.stages.items()}
    common: dict[str, Any] = {
        "model": recipe.model,
        "seed": recipe.seed,
        "count": recipe.count,
        "size": recipe.size,
        "prior": stages.get("prior", Stage()),
        "decoder": stages.get("decoder", Stage()),
        "prior_candidates": recipe.prior_candidates,
        "device": recipe.device,
        "dtype": recipe.dtype,
    }
    inverting = stages.get(INVERSION, Stage())
    prompt = recipe.prompt if recipe.prompt else None
    settings = recipe.settings
    if isinstance(settings, Generating):
        if settings.kept is not None and len(settings.kept) != recipe.count:
            raise BadRecipe(f"the recipe has {recipe.count} pictures and {len(settings.kept)} seeds")
        if len(recipe.inputs) != (0 if settings.strength is None else 1):
            raise BadRecipe(f"the recipe has {len(recipe.inputs)} inputs and the strength {settings.strength}")
        return Generate(
            prompt=recipe.prompt,
            best_of=settings.best_of,
            negative=settings.negative if settings.negative else None,
            init=recipe.inputs[0] if recipe.inputs else None,
            strength=settings.strength,
            **common,
        )
    if not recipe.inputs:
        raise BadRecipe(f"the recipe says {recipe.task}, and not what")
    image = recipe.inputs[0]
    if isinstance(settings, Varying):
        return Vary(image=image, prompt=prompt, fidelity=settings.fidelity, inverting=inverting, **common)
    if isinstance(settings, Inpainting):
        negative = settings.negative if settings.negative else None
        how: dict[str, Any] = {"mask": settings.mask, "resample": settings.resample, "expand": settings.expand}
        return Inpaint(image=image, prompt=prompt, negative=negative, **how, **common)
    path = settings.positions if isinstance(settings, Interpolating) else settings.strengths
    if path is not None and len(path) > 1:
        if len(path) != recipe.count:
            raise BadRecipe(f"the recipe has {recipe.count} pictures and {len(path)} places for them")
        common["count"] = 1
    if isinstance(settings, Interpolating):
        where = {"positions": settings.positions, "weights": settings.weights, "noise": settings.noise}
        return Interpolate(ends=recipe.inputs, inverting=inverting, **cast(Any, where), **common)
    words: dict[str, Any] = {"before": settings.before, "after": settings.after}
    edits = [
        Edit(image=image, strength=strength, inverting=inverting, **words, **common) for strength in settings.strengths
    ]
    if not edits:
        raise BadRecipe("the recipe says edit, and not how far")
    return edits[-1]


_RECIPE_STAGES: Final = ("prior", INVERSION, *STAGES[1:])


def _inputs(request: Request) -> tuple[Source, ...]:
    if isinstance(request, Generate):
        return () if request.init is None else (request.init.recorded(),)
    if isinstance(request, Interpolate):
        return tuple(end.recorded() for end in request.ends)
    return (request.image.recorded(),)


def _settings(request: Request, spec: Defaults) -> tuple[Settings, int]:
    """The settings of a request's task, and the number of its pictures."""
    if isinstance(request, Generate):
        strength = request.strength if request.strength is not None or request.init is None else INIT_STRENGTH
        return Generating(best_of=request.best_of, negative=_said(request.negative), strength=strength), request.count
    if isinstance(request, Vary):
        return Varying(fidelity=request.fidelity), request.count
    if isinstance(request, Inpaint):
        mask = request.mask
        if mask is not None:
            mask = replace(mask, files=tuple(file.recorded() for file in mask.files))
        resample = request.resample if request.resample is not None else spec.resample
        negative = _said(request.negative)
        return Inpainting(mask=mask, resample=resample, expand=request.expand, negative=negative), request.count
    if isinstance(request, Edit):
        strength = request.strength if request.strength is not None else STRENGTH
        strengths = (strength,) if request.sweep is None else tuple(strength * t for t in _evenly(request.sweep))
        return Editing(before=request.before, after=request.after, strengths=strengths), max(
            request.count, len(strengths)
        )
    positions = request.positions if request.frames is None else _evenly(request.frames)
    weights = request.weights
    if weights is not None:
        weights = tuple(weight / math.fsum(weights) for weight in weights)
    settings = Interpolating(positions=positions, weights=weights, noise=request.noise)
    return settings, max(request.count, len(positions) if positions is not None else 1)


def _said(text: str | None) -> str:
    return text if text is not None else ""


def _evenly(count: int) -> tuple[float, ...]:
    """`count` numbers from 0 to 1, both of them among these."""
    return tuple(k / (count - 1) for k in range(count))


def _title(source: Source) -> str:
    if source.kind == "text":
        return source.name
    return "stdin" if source.name == STDIN else PurePath(source.name).stem


def _at_effort(effort: str | None, stage: str, own: StageSettings) -> StageSettings:
    """A model's own dials of a stage, changed by how much effort is asked for."""
    if effort is None or stage in EFFORTLESS:
        return own
    if effort == "best":
        return replace(own, steps=BEST * own.steps)
    sampler = FAST_SAMPLER if stage == "decoder" else own.sampler
    return replace(own, sampler=sampler, steps=min(FAST_STEPS, own.steps))


def _settle(asked: Stage, default: StageSettings) -> StageSettings:
    return StageSettings(
        sampler=asked.sampler if asked.sampler is not None else default.sampler,
        steps=asked.steps if asked.steps is not None else default.steps,
        guidance=asked.guidance if asked.guidance is not None else default.guidance,
    )


def _source_to_dict(source: Source) -> dict[str, Any]:
    facts = {"kind": source.kind, "name": source.name, "sha256": source.sha256}
    # What comes out of a pipe is nowhere to be found again.
    if source.kind == "embedding" and source.data is not None and len(source.data) <= EMBEDDED_BYTES:
        facts["data"] = base64.b64encode(source.data).decode("ascii")
    return facts


def _settings_to_dict(settings: Settings) -> dict[str, Any]:
    if isinstance(settings, Generating):
        kept = None if settings.kept is None else list(settings.kept)
        facts: dict[str, Any] = {"best_of": settings.best_of, "kept": kept}
        if settings.negative:
            facts["negative"] = settings.negative
        return facts if settings.strength is None else facts | {"strength": settings.strength}
    if isinstance(settings, Varying):
        return {"fidelity": settings.fidelity}
    if isinstance(settings, Interpolating):
        positions = None if settings.positions is None else list(settings.positions)
        weights = None if settings.weights is None else list(settings.weights)
        return {"positions": positions, "weights": weights, "noise": settings.noise}
    if isinstance(settings, Inpainting):
        mask, edges = settings.mask, settings.expand
        return {
            "mask": None
            if mask is None
            else {
                "files": [_source_to_dict(file) for file in mask.files],
                "boxes": [list(box) for box in mask.boxes],
                "mode": mask.mode,
                "invert": mask.invert,
            },
            "resample": settings.resample,
            "expand": {"left": edges.left, "top": edges.top, "right": edges.right, "bottom": edges.bottom},
            **({"negative": settings.negative} if settings.negative else {}),
        }
    return {"before": settings.before, "after": settings.after, "strengths": list(settings.strengths)}


def _read_generating(reader: "_Reader") -> Generating:
    kept = reader.take_list("kept", int, optional=True)
    settings = Generating(
        best_of=reader.take_whole("best_of"),
        kept=kept,
        negative=reader.take_if_there("negative"),
        strength=reader.take_number("strength") if "strength" in reader.data else None,
    )
    reader.finish()
    return settings


def _read_varying(reader: "_Reader") -> Varying:
    settings = Varying(fidelity=None if reader.take_null("fidelity") else reader.take_number("fidelity"))
    reader.finish()
    return settings


def _read_interpolating(reader: "_Reader") -> Interpolating:
    settings = Interpolating(
        positions=reader.take_list("positions", float, optional=True),
        weights=reader.take_list("weights", float, optional=True),
        noise=cast(Noise, reader.take_choice("noise", get_args(Noise))),
    )
    reader.finish()
    return settings


def _read_inpainting(reader: "_Reader") -> Inpainting:
    mask = None if reader.take_null("mask") else _read_mask(reader.take_object("mask"))
    edges = reader.take_object("expand")
    expand = Edges(**{name: edges.take(name, int) for name in ("left", "top", "right", "bottom")})
    edges.finish()
    resample, negative = reader.take("resample", int), reader.take_if_there("negative")
    settings = Inpainting(mask=mask, resample=resample, expand=expand, negative=negative)
    reader.finish()
    return settings


def _read_mask(reader: "_Reader") -> Mask:
    boxes = []
    for box in reader.take("boxes", list):
        if not (isinstance(box, list) and len(box) == 4 and all(type(number) is int for number in box)):
            raise BadRecipe("a box in the recipe is not four whole numbers")
        boxes.append(cast(Box, tuple(box)))
    mask = Mask(
        files=reader.take_sources("files"),
        boxes=tuple(boxes),
        mode=cast(MaskMode, reader.take_choice("mode", get_args(MaskMode))),
        invert=reader.take_flag("invert"),
    )
    reader.finish()
    return mask


def _read_motion(reader: "_Reader") -> Motion:
    motion = Motion(fps=reader.take_number("fps"), bounce=reader.take_flag("bounce"), hold=reader.take_number("hold"))
    reader.finish()
    return motion


def _read_editing(reader: "_Reader") -> Editing:
    strengths = reader.take_list("strengths", float, optional=False)
    settings = Editing(
        before=reader.take("before", str),
        after=reader.take("after", str),
        strengths=strengths if strengths is not None else (),
    )
    reader.finish()
    return settings


_SETTINGS: Final[Mapping[str, Callable[["_Reader"], Settings]]] = {
    "generate": _read_generating,
    "vary": _read_varying,
    "interpolate": _read_interpolating,
    "inpaint": _read_inpainting,
    "edit": _read_editing,
}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key appears twice")
    return dict(pairs)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


T = TypeVar("T")
N = TypeVar("N", int, float)


class _Reader:
    """Takes the known keys out of one JSON object, each of one type, and notices what is left over."""

    def __init__(self, data: object, where: str) -> None:
        if not isinstance(data, dict):
            raise BadRecipe(f"the {where} is not a JSON object")
        self.data: dict[str, object] = dict(data)
        self.where = where

    def take(self, key: str, kind: type[T]) -> T:
        if key not in self.data:
            raise BadRecipe(f"the {self.where} has no {key!r}")
        value = self.data.pop(key)
        # bool is an int in Python, but `"seed": true` is a mistake.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise BadRecipe(f"{key!r} in the {self.where} is {type(value).__name__}, not {kind.__name__}")
        return value

    def take_optional(self, key: str) -> str | None:
        if key in self.data and self.data[key] is None:
            del self.data[key]
            return None
        return self.take(key, str)

    def take_if_there(self, key: str) -> str:
        """A text, "" if there is none: for what was added after files had been written without it."""
        return self.take(key, str) if key in self.data else ""

    def take_number(self, key: str) -> float:
        return float(self.take(key, int) if isinstance(self.data.get(key), int) else self.take(key, float))

    def take_words(self, key: str) -> tuple[str, ...]:
        words = self.take(key, list)
        if not all(isinstance(word, str) for word in words):
            raise BadRecipe(f"{key!r} in the {self.where} holds something that is not text")
        return tuple(words)

    def take_texts(self, key: str) -> dict[str, str]:
        inner = _Reader(self.take(key, dict), key)
        return {name: inner.take(name, str) for name in list(inner.data)}

    def take_null(self, key: str) -> bool:
        """Whether the value is null; if so, it is taken."""
        if key in self.data and self.data[key] is None:
            del self.data[key]
            return True
        return False

    def take_whole(self, key: str) -> int | None:
        return None if self.take_null(key) else self.take(key, int)

    def take_flag(self, key: str) -> bool:
        if not isinstance(self.data.get(key), bool):
            raise BadRecipe(f"{key!r} in the {self.where} is not true or false")
        return bool(self.data.pop(key))

    def take_choice(self, key: str, known: tuple[str, ...]) -> str:
        value = self.take(key, str)
        if value not in known:
            raise BadRecipe(f"{key!r} in the {self.where} is {value!r}", hint=f"this version knows {', '.join(known)}")
        return value

    def take_list(self, key: str, kind: type[N], *, optional: bool) -> tuple[N, ...] | None:
        if optional and self.take_null(key):
            return None
        values = self.take(key, list)
        # A whole number is a number, but not the other way round.
        kinds = (int, float) if kind is float else (int,)
        if not all(type(value) in kinds for value in values):
            raise BadRecipe(f"{key!r} in the {self.where} holds something that is not a number")
        return tuple(kind(value) for value in values)

    def take_bytes(self, key: str, sha256: str | None) -> bytes:
        try:
            data = base64.b64decode(self.take(key, str), validate=True)
        except ValueError as error:
            raise BadRecipe(f"{key!r} in the {self.where} is not base64") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BadRecipe(f"{key!r} in the {self.where} is not what its sha256 says")
        return data

    def take_object(self, key: str) -> "_Reader":
        return _Reader(self.take(key, dict), key)

    def take_sources(self, key: str) -> tuple[Source, ...]:
        return tuple(self._source(entry, key) for entry in self.take(key, list))

    @staticmethod
    def _source(entry: object, where: str) -> Source:
        reader = _Reader(entry, f"entry of {where}")
        kind = cast(Kind, reader.take_choice("kind", get_args(Kind)))
        source = Source(kind=kind, name=reader.take("name", str), sha256=reader.take_optional("sha256"))
        if (source.sha256 is None) != (kind == "text"):
            raise BadRecipe(f"a {kind} in the recipe's {where} has {'no' if source.sha256 is None else 'a'} sha256")
        if kind == "embedding" and "data" in reader.data:
            source = replace(source, data=reader.take_bytes("data", source.sha256))
        reader.finish()
        return source

    def take_scores(self) -> dict[str, float]:
        inner = self.take_object("scores")
        return {name: inner.take_number(name) for name in list(inner.data)}

    def take_stages(self) -> dict[str, StageSettings]:
        stages = _Reader(self.take("stages", dict), "stages")
        found = {}
        for name in [name for name in _RECIPE_STAGES if name in stages.data]:
            stage = _Reader(stages.take(name, dict), f"{name} stage")
            found[name] = StageSettings(
                sampler=stage.take("sampler", str),
                steps=stage.take("steps", int),
                guidance=stage.take_number("guidance"),
            )
            stage.finish()
        stages.finish()
        return found

    def finish(self) -> None:
        if self.data:
            raise BadRecipe(f"the {self.where} holds what no recipe holds: {', '.join(sorted(self.data))}")
