"""What somebody asks for, as frozen data.

A request that exists is well-formed; whether a model can do it is decided later, by an engine.
`None` always means "the model's own default", and nothing else does: seed 0 is a seed, guidance 0.0 is a guidance.
"""

import math
import re
from dataclasses import dataclass, field

from dallecli.errors import BadSetting, BadSize, BadSteps, NoSuchDevice, PromptError

PROMPT_BYTES = 32 * 1024
"""The longest prompt in UTF-8 bytes. Models read a few dozen words; more is a file given by mistake."""

COUNT_LIMIT = 1000
"""The most pictures in one request: they are kept in memory until their grid is drawn."""

SEED_LIMIT = 2**63
"""Seeds are below this: what `torch.Generator` takes without wrapping, and a signed 64-bit integer elsewhere."""

DTYPES = ("fp32", "bf16", "fp16")

STAGES = ("prior", "decoder", "upsampler", "upsampler_2")
"""The stages of the unCLIP chain in the order in which they run. The first makes an embedding, the others paint."""

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
class Generate:
    """Paint `count` pictures of a sentence.

    Picture k has the seed `seed + k`. `size` is the side of the finished square in pixels. The `upsampler` dials apply
    to every upsampler of the chain. `strict` refuses a prompt that the model would not read to its end.

    Raises: PromptError, BadSetting, BadSteps, BadSize, NoSuchDevice.
    """

    prompt: str
    model: str
    seed: int | None = None
    count: int = 1
    size: int | None = None
    prior: Stage = field(default_factory=Stage)
    decoder: Stage = field(default_factory=Stage)
    upsampler: Stage = field(default_factory=Stage)
    prior_candidates: int | None = None
    strict: bool = False
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        check_prompt(self.prompt)
        _check_range("the number of pictures", self.count, 1, COUNT_LIMIT)
        if self.seed is not None:
            _check_range("the seed", self.seed, 0, SEED_LIMIT - self.count)
        if self.size is not None and self.size < 1:
            raise BadSize(f"a picture cannot be {self.size} pixels wide", hint="leave --size out for the model's own")
        if self.prior_candidates is not None:
            _check_range("the number of prior candidates", self.prior_candidates, 1, COUNT_LIMIT)
        for name, stage in (("prior", self.prior), ("decoder", self.decoder), ("upsampler", self.upsampler)):
            _check_stage(name, stage)
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise NoSuchDevice(f"no device is called {self.device!r}", hint="cpu, cuda, cuda:1 or mps")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise BadSetting(f"no number type is called {self.dtype!r}", hint=f"one of {', '.join(DTYPES)}")


Request = Generate


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
