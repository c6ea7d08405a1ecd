"""What all requests have in common, and what all settings of a recipe have in common.

A request that exists is well-formed; whether a model can do it is decided later, by an engine. `None`, and nothing
else, means the model's own default: seed 0 is a seed, guidance 0.0 is a guidance.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, ClassVar, Final, Self

from dallecli.errors import BadInput, BadSetting, BadSize, BadSteps, NoSuchDevice, PromptError
from dallecli.fields import Fields
from dallecli.limits import CANDIDATES, COUNT_LIMIT, PROMPT_BYTES, REUSE_LIMIT
from dallecli.rewritten import Rewritten, Sentence
from dallecli.size import Proportions, Size
from dallecli.source import STDIN, Source
from dallecli.tasks.stages import GROUPS, PRIOR_KINDS, RESPACINGS, Dials
from dallecli.tasks.values import Usual

SEED_LIMIT = 2**63
"""Seeds are below this: what `torch.Generator` takes without wrapping, and a signed 64-bit integer elsewhere."""

DTYPES = ("fp32", "bf16", "fp16")
EFFORTS = ("fast", "best")

RESAMPLE: Final = 4
"""How often each step of an inpainting is taken by a model that was not trained for it."""

INIT: Final = "init"
"""The way of a `generate` that paints over a picture."""

INIT_STRENGTH: Final = 0.3
"""The default strength, as in diffusers' KandinskyV22Img2ImgPipeline."""

WAYS: Final = (INIT, "inpaint")
"""The ways to paint for which a model may have dials of its own."""

_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What every request to a model has.

    Raises: BadSetting, BadSteps, BadSize, NoSuchDevice.
    """

    takes_embeddings: ClassVar[bool] = False
    """Whether an embedding can take the place of a picture, and is painted."""

    model: str
    """Its name, or a folder."""
    seed: int | None = None
    """Of the first picture; picture k has the seed `seed + k`."""
    count: int = 1
    """How many pictures."""
    size: Size | Proportions | int | None = None
    """Of the picture: a number is the side of a square, of proportions the model chooses the size."""
    prior_kind: str | None = None
    """What makes an image embedding of words: one of `PRIOR_KINDS`."""
    prior: Dials = field(default_factory=Dials)
    decoder: Dials = field(default_factory=Dials)
    upsampler: Dials = field(default_factory=Dials)
    """Of every upsampler."""
    prior_candidates: int | None = None
    """How many embeddings the prior draws for a picture."""
    effort: str | None = None
    """One of `EFFORTS`. It changes the model's own dials, but none that is stated here."""
    strict: bool = False
    """Refuse what the model does not know, and a prompt that it would not read to its end."""
    device: str | None = None
    dtype: str | None = None
    """The number type: one of `DTYPES`."""
    usual: frozenset[str] = frozenset()
    """The values, by their names in a prompt line, that nobody asked for this time. Those that a model cannot follow do
    not count."""

    def __post_init__(self) -> None:
        check_numbers(self.seed, self.count, self.size, self.prior_candidates)
        if self.prior_kind is not None and self.prior_kind not in PRIOR_KINDS:
            raise BadSetting(f"no prior is called {self.prior_kind!r}", hint=f"one of {', '.join(PRIOR_KINDS)}")
        for name, dials in (("prior", self.prior), ("decoder", self.decoder), ("upsampler", self.upsampler)):
            check_dials(name, dials)
        if self.effort is not None and self.effort not in EFFORTS:
            raise BadSetting(f"no effort is called {self.effort!r}", hint=f"one of {', '.join(EFFORTS)}")
        if self.device is not None and not _DEVICE.fullmatch(self.device):
            raise NoSuchDevice(f"no device is called {self.device!r}", hint="cpu, cuda, cuda:1 or mps")
        check_dtype(self.dtype)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files that this starts from, and words in place of one."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The sentences that the model has to read."""
        return ()

    @property
    def imagines(self) -> bool:
        """Whether words have to become an image embedding, by a prior."""
        return False

    @property
    def looks(self) -> bool:
        """Whether CLIP has to see a given picture."""
        return any(source.kind == "picture" for source in self.sources)

    @property
    def inversion(self) -> Dials | None:
        """The dials of the inversion; None if no picture is inverted."""
        return None

    def without(self, name: str) -> Self:
        """The same without a value of any model's, by its name in a prompt line."""
        changes: dict[str, Any] = {"prior_kind" if name == "prior" else name: None}
        if name not in ("size", "effort", "prior", "prior_candidates"):
            group = next((group for group in GROUPS if name.startswith(f"{group}_")), "decoder")
            changes = {group: replace(getattr(self, group), **{name.removeprefix(f"{group}_"): None})}
        return replace(self, **changes)

    @property
    def way(self) -> str:
        """One of `WAYS` where a model may have dials of its own for this; any other name where it has none."""
        return ""

    @property
    def own_values(self) -> dict[str, object]:
        """What only this kind of request has, as in `to_values`; there may be None among it."""
        return {}

    def to_values(self) -> dict[str, object]:
        """The values by name that the builder makes this request of. Files among them are sources."""
        decoder, prior, upsampler = self.decoder, self.prior, self.upsampler
        values = {
            "model": self.model,
            "seed": self.seed,
            "n": self.count,
            "size": self.size,
            "effort": self.effort,
            "strict": self.strict,
            "device": self.device,
            "dtype": self.dtype,
            **decoder.stated,
            **{f"upsampler_{name}": value for name, value in upsampler.stated.items()},
            "prior": self.prior_kind,
            **{f"prior_{name}": value for name, value in prior.stated.items()},
            "prior_candidates": self.prior_candidates,
            **self.own_values,
        }
        stated = {name: value for name, value in values.items() if value is not None}
        return {name: Usual(value) if name in self.usual else value for name, value in stated.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What a model does by itself in single tasks.

    resample: how often each step of an inpainting is taken: once, if a network was trained for it. strength: how much
    of a picture is painted over.
    """

    resample: int = RESAMPLE
    strength: float = INIT_STRENGTH


HABITS: Final = Habits()
"""Those of a model that states none."""

# Subclasses call __post_init__ by name: super() does not work in a dataclass with slots before Python 3.14.


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(ModelRequest, ABC):
    """What an engine paints: the base of the tasks."""

    task: ClassVar[str]
    """Its name in registries and recipes."""
    rivals: ClassVar[int] = 1
    """The model's own number of prior candidates is multiplied by this."""

    rewritten: Rewritten | None = None
    """What was asked for, if these sentences are not that."""

    @property
    def inputs(self) -> tuple[Source, ...]:
        """The sources that a recipe lists; the files of a mask are not among them."""
        return self.sources

    @property
    def words(self) -> str:
        """The prompt; "" if there is none."""
        return ""

    @property
    def rewritable(self) -> tuple[str, ...]:
        """The sentences that say what to paint, in order: those that somebody may want rewritten."""
        return (self.words,) if self.words else ()

    def saying(self, sentences: Sequence[str]) -> Self:
        """The same with other sentences, as many as are `rewritable`, in their order."""
        return self

    def rewrite(self, sentences: Sequence[str], by: str) -> Self:
        """The same as the language model `by` says it. Raises as the request."""
        pairs = zip(self.rewritable, sentences, strict=True)
        rewritten = Rewritten(by=by, sentences=tuple(Sentence(asked, painted) for asked, painted in pairs))
        return replace(self.saying(sentences), rewritten=rewritten)

    @property
    def judges(self) -> bool:
        """Whether the model's own CLIP has to score the pictures."""
        return False

    @property
    def judge(self) -> str | None:
        """The name of another model whose CLIP scores the pictures; None if none does."""
        return None

    def with_judge(self, name: str | None) -> Self:
        """The same with a judge of this name, or none, where pictures are scored."""
        return self

    @property
    def reads_beside(self) -> bool:
        """Whether the decoder itself has to read words, besides the embedding of a picture."""
        return False

    @property
    def way(self) -> str:
        return self.task

    @abstractmethod
    def settle(self, habits: "Habits") -> "Settings":
        """The settings of this task, with nothing left open: as asked for, else as the model has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvertibleRequest(Request, ABC):
    """A task on one picture that can be inverted to its noise.

    Raises: BadInput, and as `ModelRequest`.
    """

    takes_embeddings: ClassVar[bool] = True

    image: Source
    """The picture, or its embedding."""
    inverting: Dials = field(default_factory=Dials)
    """The dials of the inversion."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        if self.image.kind == "text":
            raise BadInput("a picture is needed here, not words", where=self.image.where)
        check_dials("inversion", self.inverting)

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.image,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ABC):
    """What a recipe holds of its task alone: the base of the tasks' settings, with defaults for what one lacks.

    Frames have `places`, and share one seed if there are several; other pictures have seeds of their own.
    """

    @property
    def negative(self) -> str:
        """The negative prompt; "" if there is none."""
        return ""

    @property
    def class_name(self) -> str | None:
        """The class that is painted; None if none was named."""
        return None

    @property
    def best_of(self) -> int | None:
        """How many pictures are painted to keep the best of them; None if all are kept."""
        return None

    @property
    def kept(self) -> tuple[int, ...] | None:
        """The seeds of the pictures that were kept, best first; None until that is known."""
        return None

    @property
    def judge(self) -> str | None:
        """The name of the model whose CLIP scores the pictures, or did; None where that is the model's own, or none."""
        return None

    @property
    def judge_digest(self) -> str | None:
        """The sha256 of what is used of the judge, in hex; None until that is known."""
        return None

    @property
    def places(self) -> tuple[float, ...] | None:
        """The place of each frame, from 0 to 1; None for pictures that are not frames."""
        return None

    @property
    def has_frames(self) -> bool:
        """Whether the pictures are frames, in order and with one seed."""
        return self.places is not None and len(self.places) > 1

    @property
    def passes(self) -> int:
        """How often each step is taken, and so how many times as long painting takes."""
        return 1

    @property
    def mask_files(self) -> tuple[Source, ...]:
        """The files of a mask."""
        return ()

    @property
    def alike(self) -> bool:
        """Whether single pictures with these settings, but other words and seeds, can be painted together."""
        return False

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences besides the prompt."""
        return ()

    def at(self, places: Sequence[float]) -> Self:
        """The same with frames at these places only."""
        return self

    def with_mask_files(self, change: Callable[[Source], Source]) -> Self:
        """The same with every file of the mask changed."""
        return self

    def unranked(self) -> Self:
        """The same without a best-of: all pictures are kept."""
        return self

    def keeping(self, seeds: tuple[int, ...]) -> Self:
        """A best-of that knows its outcome; anything else as it is."""
        return self

    def judged(self, judge: str | None, digest: str | None) -> Self:
        """The same with who scores the pictures, or did; where none are scored, as it is."""
        return self

    def title(self, prompt: str, inputs: Sequence[Source]) -> str:
        """A few words for file names and progress bars: the prompt, or the task and its input."""
        return prompt

    def rows(self) -> list[tuple[str, str]]:
        """What `dalle show` prints of them, as names and values."""
        return []

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""

    @classmethod
    @abstractmethod
    def read(cls, fields: Fields) -> Self:
        """Read what `to_dict` of this version or an older one wrote. Raises BadRecipe."""

    @abstractmethod
    def request(self, prompt: str, inputs: tuple[Source, ...], dials: Mapping[str, Any]) -> Request:
        """The request of a recipe with these settings.

        `dials` are those of `ModelRequest`, and `inverting` the dials of the inversion. Raises BadRecipe, and what the
        request raises.
        """


def check_prompt(prompt: str, option: str | None = None) -> None:
    """Refuse what is not a sentence, before any model is opened; `option` is the one that says it, if one does.

    Raises: PromptError for empty or blank text, more than `PROMPT_BYTES`, NUL, or characters that UTF-8 cannot carry.
    """
    what = "the prompt" if option is None else f"the text of {option}"
    # A lone surrogate is how Python hands us a byte of an argument or a file name that was not UTF-8.
    for position, char in enumerate(prompt):
        if char == "\0":
            raise PromptError(f"{what} holds a NUL at character {position}", hint="prompts are plain text")
        if "\ud800" <= char <= "\udfff":
            offset = len(prompt[:position].encode("utf-8", "surrogatepass"))
            found = f"byte 0x{ord(char) - 0xDC00:02x}" if "\udc80" <= char <= "\udcff" else f"surrogate {ord(char):#x}"
            raise PromptError(
                f"{what} is not valid UTF-8: {found} at offset {offset}", hint="convert it, for example with iconv"
            )
        if position > PROMPT_BYTES:
            break
    length = len(prompt.encode("utf-8", "replace"))
    if length > PROMPT_BYTES:
        raise PromptError(
            f"{what} has {length} bytes, the limit is {PROMPT_BYTES}", hint="is it a file given by mistake?"
        )
    if not prompt.strip():
        raise PromptError(
            f"{what} is empty" if not prompt else f"{what} is only blanks",
            hint='say what to paint: dalle generate "a red fox"' if option is None else "give it words",
        )


def check_dtype(dtype: str | None) -> None:
    """Refuse what is no number type. Raises BadSetting."""
    if dtype is not None and dtype not in DTYPES:
        raise BadSetting(f"no number type is called {dtype!r}", hint=f"one of {', '.join(DTYPES)}")


def check_numbers(
    seed: int | None, count: int, size: Size | Proportions | int | None, prior_candidates: int | None
) -> None:
    """Raises BadSetting, BadSize for numbers that no request has; None is always one."""
    check_range("the number of pictures", count, 1, COUNT_LIMIT)
    if seed is not None:
        check_range("the seed", seed, 0, SEED_LIMIT - count)
    if isinstance(size, int) and size < 1:
        raise BadSize(f"a picture cannot be {size} pixels wide", hint="leave --size out for the model's own")
    if prior_candidates is not None:
        check_range("the number of prior candidates", prior_candidates, 1, CANDIDATES)


def check_range(what: str, value: int, low: int, high: int) -> None:
    """Raises BadSetting for a number outside of `low` to `high`."""
    if not low <= value <= high:
        raise BadSetting(f"{what} is {value}", hint=f"it goes from {low} to {high}")


def check_share(what: str, value: float) -> None:
    """Raises BadSetting for a number outside of 0 to 1."""
    if not 0 <= value <= 1:  # NaN is not
        raise BadSetting(f"{what} is {value:g}", hint="it goes from 0 to 1")


def check_interval(name: str, start: float, stop: float) -> None:
    """Raises BadSetting for guidance that would stop before it starts."""
    if start > stop:
        raise BadSetting(
            f"the {name} guidance starts at {start:g} and stops at {stop:g}", hint="it cannot stop before it starts"
        )


def check_dials(name: str, dials: Dials) -> None:
    """Raises BadSteps, BadSetting for dials that no stage can have."""
    # Every schedule here spaces its timesteps from the first to the last, which takes two of them.
    if isinstance(dials.steps, str) and dials.steps not in RESPACINGS:
        raise BadSteps(f"no steps are called {dials.steps!r}", hint=f"a number, or one of {', '.join(RESPACINGS)}")
    if isinstance(dials.steps, int) and dials.steps < 2:
        raise BadSteps(f"{dials.steps} {name} steps cannot reach from noise to a picture", hint="use 2 or more")
    if dials.guidance is not None and not (math.isfinite(dials.guidance) and dials.guidance >= 0):
        raise BadSetting(f"the {name} guidance is {dials.guidance}", hint="it is 0 or more; 1.0 is off")
    if dials.guidance_start is not None:
        check_share(f"the start of the {name} guidance", dials.guidance_start)
    if dials.guidance_stop is not None:
        check_share(f"the stop of the {name} guidance", dials.guidance_stop)
    check_interval(name, dials.guidance_start or 0.0, 1.0 if dials.guidance_stop is None else dials.guidance_stop)
    if dials.reuse is not None:
        check_range(f"the {name} reuse", dials.reuse, 1, REUSE_LIMIT)
    if dials.temperature is not None and not (math.isfinite(dials.temperature) and dials.temperature >= 0):
        raise BadSetting(f"the {name} temperature is {dials.temperature}", hint="it is 0 or more")
    if dials.top_k is not None and dials.top_k < 0:
        raise BadSetting(f"the {name} top-k is {dials.top_k}", hint="it is 1 or more; 0 leaves all tokens in")
    if dials.top_p is not None and not 0 < dials.top_p <= 1:
        raise BadSetting(f"the {name} top-p is {dials.top_p}", hint="it is above 0, and goes up to 1")


def short_name(source: Source) -> str:
    """A source in a title: its words, or the name of its file without the suffix."""
    if source.kind == "text":
        return source.name
    return "stdin" if source.name == STDIN else PurePath(source.name).stem


def evenly(count: int) -> tuple[float, ...]:
    """`count` evenly spaced numbers from 0 to 1, both included."""
    return tuple(k / (count - 1) for k in range(count))


def numbers(values: Sequence[float]) -> str:
    """Numbers as people read them."""
    return ", ".join(f"{value:.3g}" for value in values)
