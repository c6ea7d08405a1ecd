"""What somebody asks for, as frozen data.

A request that exists is well-formed; whether a model can do it is decided later, by an engine.
`None` always means "the model's own default", and nothing else does: seed 0 is a seed, guidance 0.0 is a guidance.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Final, Literal

from dallecli.errors import BadInput, BadMask, BadSetting, BadSize, BadSteps, NoSuchDevice, PromptError
from dallecli.source import Source

PROMPT_BYTES = 32 * 1024
"""The longest prompt in UTF-8 bytes. Models read a few dozen words; more is a file given by mistake."""

COUNT_LIMIT = 1000
"""The most pictures in one request: they are kept in memory until their grid is drawn."""

EDGE_LIMIT = 16_384
"""The most pixels that can be added at one edge of a picture."""

RESAMPLE: Final = 4
"""How often each step of inpainting is taken by a model that was not trained for it."""

RESAMPLE_LIMIT = 100
"""The most often that one step is taken: each time costs as much as the first."""

SEED_LIMIT = 2**63
"""Seeds are below this: what `torch.Generator` takes without wrapping, and a signed 64-bit integer elsewhere."""

DTYPES = ("fp32", "bf16", "fp16")
EFFORTS = ("fast", "best")

STAGES = ("prior", "decoder", "upsampler", "upsampler_2")
"""The stages of the unCLIP chain in the order in which they run. The first makes an embedding, the others paint."""

INVERSION: Final = "inversion"
"""The name of the dials with which a given picture is taken back to the noise of every stage that paints."""

NOISES = ("fixed", "inverted")
MASK_MODES = ("white", "alpha")

Noise = Literal["fixed", "inverted"]
MaskMode = Literal["white", "alpha"]
Box = tuple[int, int, int, int]
"""A rectangle in pixels: x and y of its upper left corner, from 0, then width and height."""

_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The dials of one stage as asked for; None is the model's default. Guidance 1.0 is off."""

    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    """The dials of one stage with nothing left open: a model's defaults, and what a recipe holds."""

    sampler: str
    steps: int
    guidance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What every task leaves to choose.

    Picture k has the seed `seed + k`. `size` is the side in pixels of the square that the model paints. The `upsampler`
    dials apply to every upsampler of the chain. `effort`, one of `EFFORTS`, changes the model's own dials, but none
    that is stated here. `strict` refuses words that the model would not read to their end.

    Raises: BadSetting, BadSteps, BadSize, NoSuchDevice.
    """

    model: str
    seed: int | None = None
    count: int = 1
    size: int | None = None
    prior: Stage = field(default_factory=Stage)
    decoder: Stage = field(default_factory=Stage)
    upsampler: Stage = field(default_factory=Stage)
    prior_candidates: int | None = None
    effort: str | None = None
    strict: bool = False
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        _check_range("the number of pictures", self.count, 1, COUNT_LIMIT)
        if self.seed is not None:
            _check_range("the seed", self.seed, 0, SEED_LIMIT - self.count)
        if self.size is not None and self.size < 1:
            raise BadSize(f"a picture cannot be {self.size} pixels wide", hint="leave --size out for the model's own")
        if self.prior_candidates is not None:
            _check_range("the number of prior candidates", self.prior_candidates, 1, COUNT_LIMIT)
        for name, stage in (("prior", self.prior), ("decoder", self.decoder), ("upsampler", self.upsampler)):
            _check_stage(name, stage)
        if self.effort is not None and self.effort not in EFFORTS:
            raise BadSetting(f"no effort is called {self.effort!r}", hint=f"one of {', '.join(EFFORTS)}")
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise NoSuchDevice(f"no device is called {self.device!r}", hint="cpu, cuda, cuda:1 or mps")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise BadSetting(f"no number type is called {self.dtype!r}", hint=f"one of {', '.join(DTYPES)}")

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files that this is made from, and words that stand in the place of one."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The sentences that the model has to read."""
        return ()

    @property
    def imagines(self) -> bool:
        """Whether the prior has to turn words into an image embedding."""
        return False

    @property
    def inversion(self) -> Stage | None:
        """The dials of the inversion, None where no picture is inverted."""
        return None


# The tasks call Ask.__post_init__ by name: super() does not work in a dataclass with slots before Python 3.14.


@dataclass(frozen=True, slots=True, kw_only=True)
class Generate(Ask):
    """Paint `count` pictures of a sentence; with `best_of`, paint so many and keep the `count` that fit it best.

    `negative` says what the pictures are led away from. `init` is a picture that is painted over instead of noise, and
    `strength`, above 0 and up to 1, how much of it is (SDEdit, Meng et al. 2022).

    Raises: BadInput, BadSetting, PromptError, and as `Ask`.
    """

    prompt: str
    best_of: int | None = None
    negative: str | None = None
    init: Source | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        Ask.__post_init__(self)
        check_prompt(self.prompt)
        if self.negative is not None:
            check_prompt(self.negative)
        if self.init is not None and self.init.kind != "picture":
            raise BadInput("only a picture can be painted over", where=_place(self.init))
        if self.strength is not None:
            if self.init is None:
                raise BadSetting("a strength is for a picture to start from", hint="name it: --init PICTURE")
            if not 0 < self.strength <= 1:  # NaN is not
                raise BadSetting(f"the strength is {self.strength:g}", hint="it is above 0, and goes up to 1")
        if self.best_of is not None:
            _check_range("--best-of", self.best_of, self.count, COUNT_LIMIT)
            if self.seed is not None:
                _check_range("the seed", self.seed, 0, SEED_LIMIT - self.best_of)

    @property
    def sources(self) -> tuple[Source, ...]:
        return () if self.init is None else (self.init,)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.prompt,) if self.negative is None else (self.prompt, self.negative)

    @property
    def imagines(self) -> bool:
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Vary(Ask):
    """Paint pictures like one that is given.

    `fidelity` goes from 0 (the same subject) to 1 (the same picture), by way of the picture's own noise; None starts
    from fresh noise and inverts nothing. `prompt` conditions the decoder on words as well.

    Raises: BadInput, BadSetting, PromptError, and as `Ask`.
    """

    image: Source
    prompt: str | None = None
    fidelity: float | None = None
    inverting: Stage = field(default_factory=Stage)

    def __post_init__(self) -> None:
        Ask.__post_init__(self)
        _check_picture(self.image)
        if self.prompt is not None:
            check_prompt(self.prompt)
        if self.fidelity is not None:
            _check_share("the fidelity", self.fidelity)
        _check_stage("inversion", self.inverting)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.image,)

    @property
    def texts(self) -> tuple[str, ...]:
        return () if self.prompt is None else (self.prompt,)

    @property
    def inversion(self) -> Stage | None:
        return None if self.fidelity is None else self.inverting


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolate(Ask):
    """Paint what lies between two or more ends: pictures, embeddings or words, in any mixture.

    Exactly one of these says where: `frames` pictures evenly from the first end to the last; `positions` on that way,
    from 0 to 1; or `weights`, one for each end, for a blend of all. All frames of a way share one seed; of a single
    position, or of a blend, `count` pictures with seeds of their own can be painted.

    `noise` "fixed" starts every frame from the same fresh noise. "inverted" goes from the noise of each end to that of
    the next, so that the ends are reproduced; every end must be a picture then, or an embedding that brings its noise.

    Raises: BadInput, BadSetting, PromptError, and as `Ask`.
    """

    ends: tuple[Source, ...]
    frames: int | None = None
    positions: tuple[float, ...] | None = None
    weights: tuple[float, ...] | None = None
    noise: Noise = "fixed"
    inverting: Stage = field(default_factory=Stage)

    def __post_init__(self) -> None:
        Ask.__post_init__(self)
        if len(self.ends) < 2:
            raise BadInput(
                "there is nothing between a picture and itself", hint="name two or more pictures or sentences"
            )
        for end in self.ends:
            if end.kind == "text":
                check_prompt(end.name)
        if sum(way is not None for way in (self.frames, self.positions, self.weights)) != 1:
            raise BadSetting("frames, positions and weights exclude each other", hint="use one of them")
        if self.frames is not None:
            _check_range("the number of frames", self.frames, 2, COUNT_LIMIT)
        if self.positions is not None:
            _check_range("the number of positions", len(self.positions), 1, COUNT_LIMIT)
            for position in self.positions:
                _check_share("a position between the ends", position)
        if self.weights is not None:
            _check_weights(self.weights, len(self.ends))
        if self.count > 1 and (self.frames is not None or (self.positions is not None and len(self.positions) > 1)):
            raise BadSetting("the frames of a way share one seed", hint="several pictures (-n) are for one position")
        _check_noise(self.noise, self.ends, self.weights)
        _check_stage("inversion", self.inverting)

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.ends

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(end.name for end in self.ends if end.kind == "text")

    @property
    def imagines(self) -> bool:
        return bool(self.texts)

    @property
    def inversion(self) -> Stage | None:
        return self.inverting if self.noise == "inverted" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Where to repaint: everything in one of the boxes or marked in one of the files; without both, where the picture
    itself is transparent.

    `mode` "white" reads a file's brightness (white is repainted), "alpha" its opacity (transparent is repainted).
    `invert` turns the whole around.
    """

    files: tuple[Source, ...] = ()
    boxes: tuple[Box, ...] = ()
    mode: MaskMode = "white"
    invert: bool = False

    def __post_init__(self) -> None:
        for file in self.files:
            if file.kind != "picture":
                raise BadMask("a mask is a picture or a box", where=file.name, hint="a box is x,y,width,height")
        for x, y, width, height in self.boxes:
            if min(x, y) < 0 or min(width, height) < 1:
                box = f"{x},{y},{width},{height}"
                raise BadMask(f"{box} is not a box", hint="x,y,width,height in pixels, from the upper left corner")
        if self.mode not in MASK_MODES:
            raise BadSetting(f"no mask mode is called {self.mode!r}", hint=f"one of {', '.join(MASK_MODES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Pixels that are added around a picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for name in ("left", "top", "right", "bottom"):
            _check_range(f"the {name} edge", getattr(self, name), 0, EDGE_LIMIT)

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inpaint(Ask):
    """Repaint a part of a picture and keep every pixel of the rest; with `expand`, also paint beyond its edges.

    A mask of None repaints what is added by `expand`, and only that. `resample` is how often each step is taken, with
    noise added again in between, so that the new part gets to know the old one (RePaint; 1 is off). `negative` says
    what the new part is led away from, and needs a prompt beside it.

    Raises: BadInput, BadMask, BadSetting, PromptError, and as `Ask`.
    """

    image: Source
    mask: Mask | None
    prompt: str | None = None
    resample: int | None = None
    negative: str | None = None
    expand: Edges = field(default_factory=Edges)

    def __post_init__(self) -> None:
        Ask.__post_init__(self)
        if self.image.kind != "picture":
            raise BadInput("only a picture can be repainted", where=_place(self.image))
        if self.mask is None and not self.expand:
            raise BadMask("nothing was marked for repainting", hint="--mask FILE, --mask x,y,w,h or --expand left=64")
        if self.prompt is not None:
            check_prompt(self.prompt)
        if self.negative is not None:
            check_prompt(self.negative)
            if self.prompt is None:
                raise BadSetting("a negative prompt does not say what to paint", hint="give a --prompt as well")
        if self.resample is not None:
            _check_range("the number of resamplings", self.resample, 1, RESAMPLE_LIMIT)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.image, *(self.mask.files if self.mask is not None else ()))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for text in (self.prompt, self.negative) if text is not None)

    @property
    def imagines(self) -> bool:
        return self.prompt is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(Ask):
    """Move a picture along the difference of two sentences, from `before` towards `after`.

    `strength` is how far along the sphere, from 0 (the picture) to 1 (nothing of it is left); the paper goes up to 0.25
    to 0.5. `sweep` paints so many pictures on the way from 0 to `strength`.

    Raises: BadInput, BadSetting, PromptError, and as `Ask`.
    """

    image: Source
    before: str
    after: str
    strength: float | None = None
    sweep: int | None = None
    inverting: Stage = field(default_factory=Stage)

    def __post_init__(self) -> None:
        Ask.__post_init__(self)
        _check_picture(self.image)
        check_prompt(self.before)
        check_prompt(self.after)
        if self.before.strip() == self.after.strip():
            raise BadSetting("both sentences are the same, so there is no difference to follow")
        if self.strength is not None:
            _check_share("the strength", self.strength)
        if self.sweep is not None:
            _check_range("the number of pictures in a sweep", self.sweep, 2, COUNT_LIMIT)
            if self.count > 1:
                raise BadSetting("the pictures of a sweep share one seed", hint="leave out -n or --sweep")
        _check_stage("inversion", self.inverting)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.image,)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.before, self.after)

    @property
    def inversion(self) -> Stage | None:
        return self.inverting


Request = Generate | Vary | Interpolate | Inpaint | Edit
"""What an engine paints."""

TASKS: Final = {Generate: "generate", Vary: "vary", Interpolate: "interpolate", Inpaint: "inpaint", Edit: "edit"}
"""The name of each request's task, in registries and recipes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed(Ask):
    """Let CLIP look at pictures and read sentences.

    `imagine` has the prior turn sentences into image embeddings, with `seed`; else they stay text embeddings. `invert`
    adds to each picture's embedding the noise from which it would be painted. Embeddings among `inputs` come back as
    they are, if they are of the model's CLIP. From each input the meanings in `minus` are taken away, and those in
    `plus` added: see `embedding_file.combine`.

    Raises: BadInput, BadSetting, PromptError, and as `Ask`.
    """

    inputs: tuple[Source, ...]
    minus: tuple[Source, ...] = ()
    plus: tuple[Source, ...] = ()
    imagine: bool = False
    invert: bool = False
    inverting: Stage = field(default_factory=Stage)

    def __post_init__(self) -> None:
        Ask.__post_init__(self)
        if not self.inputs:
            raise BadInput("there is nothing to embed", hint="name pictures or sentences")
        for source in self.sources:
            if source.kind == "text":
                check_prompt(source.name)
        _check_stage("inversion", self.inverting)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (*self.inputs, *self.minus, *self.plus)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.sources if source.kind == "text")

    @property
    def imagines(self) -> bool:
        return self.imagine and bool(self.texts)

    @property
    def inversion(self) -> Stage | None:
        return self.inverting if self.invert else None


def check_prompt(prompt: str) -> None:
    """Refuse what is not a sentence, before any model is opened.

    Raises: PromptError for empty or blank text, more than `PROMPT_BYTES`, NUL, or characters that UTF-8 cannot carry.
    """
    # A lone surrogate is how Python hands us a byte of an argument or a file name that was not UTF-8.
    for position, char in enumerate(prompt):
        if char == "\0":
            raise PromptError(f"the prompt holds a NUL at character {position}", hint="prompts are plain text")
        if "\ud800" <= char <= "\udfff":
            offset = len(prompt[:position].encode("utf-8", "surrogatepass"))
            found = f"byte 0x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else f"surrogate {ord(char):#x}"
            raise PromptError(
                f"the prompt is not valid UTF-8: {found} at offset {offset}", hint="convert it, for example with iconv"
            )
        if position > PROMPT_BYTES:
            break
    length = len(prompt.encode("utf-8", "replace"))
    if length > PROMPT_BYTES:
        raise PromptError(
            f"the prompt has {length} bytes, the limit is {PROMPT_BYTES}", hint="is it a file given by mistake?"
        )
    if not prompt.strip():
        raise PromptError(
            "the prompt is empty" if not prompt else "the prompt is only blanks",
            hint='say what to paint: dalle generate "a red fox"',
        )


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadSetting(f"{what} is {value}", hint=f"it goes from {low} to {high}")


def _check_stage(name: str, stage: Stage) -> None:
    # Every schedule here spaces its timesteps from the first to the last, which takes two of them.
    if stage.steps is not None and stage.steps < 2:
        raise BadSteps(f"{stage.steps} {name} steps cannot reach from noise to a picture", hint="use 2 or more")
    if stage.guidance is not None and not (math.isfinite(stage.guidance) and stage.guidance >= 0):
        raise BadSetting(f"the {name} guidance is {stage.guidance}", hint="it is 0 or more; 1.0 is off")


def _check_share(what: str, value: float) -> None:
    if not 0 <= value <= 1:  # NaN is not
        raise BadSetting(f"{what} is {value:g}", hint="it goes from 0 to 1")


def _check_weights(weights: tuple[float, ...], ends: int) -> None:
    if len(weights) != ends:
        raise BadSetting(f"{len(weights)} weights for {ends} ends", hint="give one weight for each end")
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise BadSetting(f"a weight is {weight:g}", hint="weights are 0 or more")
    if sum(weights) <= 0:
        raise BadSetting("all weights are 0")


def _check_noise(noise: str, ends: tuple[Source, ...], weights: tuple[float, ...] | None) -> None:
    if noise not in NOISES:
        raise BadSetting(f"no noise is called {noise!r}", hint=f"one of {', '.join(NOISES)}")
    if noise == "inverted":
        if weights is not None:
            raise BadSetting("a blend of many has no way between two noises", hint="use --noise fixed with --weights")
        for end in ends:
            if end.kind == "text":
                raise BadSetting(f"words have no noise to invert: {end.name!r}", hint="use --noise fixed, or pictures")


def _check_picture(source: Source) -> None:
    if source.kind == "text":
        raise BadInput("a picture is needed here, not words", where=_place(source))


def _place(source: Source) -> str:
    return "standard input" if source.name == "-" else source.name
