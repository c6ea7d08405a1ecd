"""The Python face: a model that is opened once and paints by calls, each of them a verb of the command line.

Keyword arguments are called as the options of the commands are (`from_` for `--from`, which Python keeps for itself).
Requests are built and painted as the command line does it: by `tasks.builder` and an engine.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, cast

from dallecli.engine import Engine, Progress
from dallecli.pictures.picture import Picture
from dallecli.recipe import Recipe
from dallecli.remote.choice import choose
from dallecli.source import Source, SourceKind
from dallecli.studio.choice import choose_engine
from dallecli.tasks.builder import build_coding, build_embed, build_request
from dallecli.tasks.values import dtype_of
from dallecli.unknown import unknown_notices

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.ranking import Score

    Given = str | os.PathLike[str] | Image.Image | Picture | Embedded | Source
    """A picture or an embedding: a file by its path, or one that is in memory."""

    Area = Given | tuple[int, int, int, int]
    """A part of a mask: a picture, or a box of x, y, width and height in pixels."""

OnStep = Callable[[Progress], None]


class Sampling(TypedDict, total=False):
    """What every painting call can be told; what is left out is the model's own."""

    seed: int
    size: int | str
    strict: bool
    fast: bool
    best: bool
    steps: int | str
    guidance: float
    guidance_start: float
    guidance_stop: float
    reuse: int
    upsampler_steps: int | str
    upsampler_guidance: float
    upsampler_guidance_start: float
    upsampler_guidance_stop: float
    upsampler_reuse: int


class SeveralOptions(Sampling, total=False):
    """... and those that paint several pictures with a seed each."""

    num: int
    sampler: str
    upsampler_sampler: str


class PriorOptions(SeveralOptions, total=False):
    """... and those in which the prior makes an embedding of words."""

    prior: str
    prior_steps: int | str
    prior_guidance: float
    prior_temperature: float
    prior_top_k: int
    prior_candidates: int


class GenerateOptions(PriorOptions, total=False):
    """What `generate` can be told."""

    class_: str | int
    best_of: int
    judge: str
    negative: str
    init: "Given"
    strength: float
    continue_: "Given"
    rows: int
    temperature: float
    top_k: int
    top_p: float


class VaryOptions(SeveralOptions, total=False):
    """What `vary` can be told."""

    prompt: str
    fidelity: float
    inversion_steps: int


class InterpolateOptions(PriorOptions, total=False):
    """What `interpolate` can be told."""

    frames: int
    at: Sequence[float]
    weights: Sequence[float]
    noise: str
    inversion_steps: int


class InpaintOptions(PriorOptions, total=False):
    """What `inpaint` can be told. `expand` is in pixels, as "64" or "left=64,top=32"."""

    mask: "Area | Sequence[Area]"
    mask_mode: str
    invert_mask: bool
    expand: str | int
    prompt: str
    negative: str
    resample: int


class EditOptions(Sampling, total=False):
    """What `edit` can be told."""

    strength: float
    sweep: int
    inversion_steps: int


class EmbedOptions(TypedDict, total=False):
    """What `embed` can be told."""

    minus: "Sequence[Given]"
    plus: "Sequence[Given]"
    imagine: bool
    invert: bool
    seed: int
    size: int | str
    strict: bool
    fast: bool
    best: bool
    prior: str
    prior_steps: int | str
    prior_guidance: float
    prior_temperature: float
    prior_top_k: int
    prior_candidates: int
    inversion_steps: int


class DalleWarning(UserWarning):
    """A picture may not be what was meant: words that the model did not read, a mask that marks nothing, …"""


def ignore(progress: Progress) -> None:
    """The progress that nobody watches."""


class Model:
    """A model that paints. Weights are read when the first picture is asked for, and stay for the next.

    name: as `--model`, a registered name or a folder. device, dtype, memory, batch, compile, server, token_file: as the
    options of these names; with a server, this process opens no model. rewrite, rewrite_with: likewise, for sentences
    that a language model rewrites before they are painted. engine: what paints, whatever all but these say.

    Every painting call checks the request at once, and returns an iterator that yields each picture when it is done.
    `progress` is called after every step. Nothing is written to the disk; `Picture.save` does that.

    Raises, in every call: DalleError, whose `what`, `where` and `hint` say what is wrong. Warns with DalleWarning.
    """

    def __init__(
        self,
        name: str = "starter",
        *,
        device: str | None = None,
        dtype: str | None = None,
        memory: str = "auto",
        batch: int | None = None,
        compile: bool = False,
        server: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        rewrite: Literal["required", "optional"] | None = None,
        rewrite_with: tuple[str, str] | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.dtype = dtype_of(dtype)
        if engine is None:
            file = None if token_file is None else Path(token_file)
            engine = choose(server, file, lambda: choose_engine(memory, batch, compiled=compile))
        if rewrite is not None or rewrite_with is not None:
            from dallecli.rewriting.engine import RewritingEngine
            from dallecli.rewriting.rewriter import Rewriter

            engine = cast(Engine, RewritingEngine(engine, Rewriter.choose(rewrite, rewrite_with)))
        self.engine = engine

    def generate(
        self, prompt: str | None = None, *, progress: OnStep = ignore, **options: Unpack[GenerateOptions]
    ) -> Iterator[Picture]:
        """Paint pictures of a sentence, or with `class_` of a class, for models that know some: `dalle generate`."""
        return self._paint("generate", {"prompt": prompt}, options, progress)

    def vary(self, image: "Given", *, progress: OnStep = ignore, **options: Unpack[VaryOptions]) -> Iterator[Picture]:
        """Paint more pictures like one that is there: `dalle vary`."""
        return self._paint("vary", {"image": image}, options, progress)

    def interpolate(
        self, *ends: "Given", progress: OnStep = ignore, **options: Unpack[InterpolateOptions]
    ) -> Iterator[Picture]:
        """Paint what lies between pictures or sentences: `dalle interpolate`. A string that names no file is one."""
        return self._paint("interpolate", {"ends": ends}, options, progress)

    def inpaint(
        self, image: "Given", *, progress: OnStep = ignore, **options: Unpack[InpaintOptions]
    ) -> Iterator[Picture]:
        """Paint a part of a picture anew, or beyond its edges: `dalle inpaint`."""
        return self._paint("inpaint", {"image": image}, options, progress)

    def edit(
        self, image: "Given", *, from_: str, to: str, progress: OnStep = ignore, **options: Unpack[EditOptions]
    ) -> Iterator[Picture]:
        """Change a picture by the difference of two sentences: `dalle edit`."""
        return self._paint("edit", {"image": image, "from": from_, "to": to}, options, progress)

    def paint(self, recipe: Recipe, *, progress: OnStep = ignore) -> Iterator[Picture]:
        """Paint a recipe again, as `dalle replay` does: with its own model, seed and dials."""
        return self._pictures(self.engine.revive(recipe), progress)

    def embed(self, *inputs: "Given", progress: OnStep = ignore, **options: Unpack[EmbedOptions]) -> "list[Embedded]":
        """Let CLIP look at pictures and read sentences, and do arithmetic with what it finds: `dalle embed`."""
        values = _values({"inputs": inputs, **options})
        found = self.engine.embed(build_embed({**self._model, **values}), progress)
        for notice in unknown_notices(found):
            warnings.warn(notice, DalleWarning, stacklevel=3)
        return found

    def rank(self, *things: "Given", progress: OnStep = ignore) -> "list[Score]":
        """Score how well sentences and pictures fit, the best first: `dalle rank`."""
        from dallecli.ranking import rank

        return rank(self.embed(*things, progress=progress))

    def encode(self, *pictures: "Given", size: int | str | None = None, progress: OnStep = ignore) -> "list[Coded]":
        """Turn pictures into the codes of the model's discrete autoencoder: `dalle encode`."""
        values = {**self._model, **_values({"inputs": pictures}), "size": size}
        return self.engine.encode(build_coding("encode", values), progress)

    def decode(self, *codes: "Coded | str | os.PathLike[str]", progress: OnStep = ignore) -> "list[Image.Image]":
        """Turn codes, or files of them, back into pictures: `dalle decode`."""
        values = {**self._model, **_values({"inputs": codes})}
        return self.engine.decode(build_coding("decode", values), progress)

    def _paint(
        self, task: str, given: Mapping[str, object], options: Mapping[str, object], on_step: OnStep
    ) -> Iterator[Picture]:
        request = build_request(task, {**self._model, **_values({**given, **options})}, pipes=True)
        return self._pictures(self.engine.resolve(request), on_step)

    @property
    def _model(self) -> dict[str, object]:
        return {"model": self.name, "device": self.device, "dtype": self.dtype}

    def _pictures(self, recipe: Recipe, on_step: OnStep) -> Iterator[Picture]:
        for notice in (*recipe.notices, *unknown_notices([recipe])):
            warnings.warn(notice, DalleWarning, stacklevel=4)
        return self.engine.paint(recipe, on_step)


open = Model
"""`dallecli.open("starter")`: see `Model`."""


def _values(options: Mapping[str, object]) -> dict[str, object]:
    """Keyword arguments as the values that the builder of requests knows."""
    values = dict(options)
    if "num" in values:
        values["n"] = values.pop("num")
    for name in ("class", "continue"):  # which Python keeps for itself
        if f"{name}_" in values:
            values[name] = values.pop(f"{name}_")
    for effort in ("fast", "best"):
        if values.pop(effort, False):
            values["effort"] = effort
    for name in ("image", "init", "continue"):
        if name in values:
            values[name] = _file(values[name])
    for name in ("ends", "mask", "inputs", "minus", "plus"):
        if name in values:
            several = values[name]
            # A box is a tuple of its own, and several ends always are one.
            alone = name == "mask" and not isinstance(several, list)
            values[name] = [_file(one) for one in ([several] if alone else cast(Sequence[object], several))]
    return values


def _file(given: object) -> object:
    """A path as it is, a box as text, and what is in memory as the bytes of a file."""
    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded

    if isinstance(given, str | Source):
        return given
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    if isinstance(given, tuple):
        return ",".join(map(str, given))
    if isinstance(given, Embedded | Coded):
        return _in_memory("embedding", given.encode(), given.name)
    return _picture(given)


def _picture(given: object) -> Source:
    """A picture in memory as the bytes of a PNG."""
    from PIL import Image

    image = given.image if isinstance(given, Picture) else given
    if not isinstance(image, Image.Image):
        raise TypeError(f"a path, a picture or an embedding is needed, not {type(given).__name__}")
    name = given.recipe.title if isinstance(given, Picture) else "picture"
    file = io.BytesIO()
    image.save(file, "PNG")
    return _in_memory("picture", file.getvalue(), name)


def _in_memory(kind: SourceKind, data: bytes, name: str) -> Source:
    return Source(kind=kind, name=name, sha256=hashlib.sha256(data).hexdigest(), data=data)
