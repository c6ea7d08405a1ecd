"""`interpolate`: points between pictures, embeddings or words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, Self, cast, get_args

from dallecli.errors import BadInput, BadRecipe, BadSetting
from dallecli.fields import Fields
from dallecli.limits import COUNT_LIMIT
from dallecli.source import Source, words
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import (
    Habits,
    Request,
    Settings,
    check_dials,
    check_prompt,
    check_range,
    check_share,
    evenly,
    numbers,
    short_name,
)
from dallecli.tasks.values import Values

NoiseKind = Literal["fixed", "inverted"]
NOISES: Final[tuple[str, ...]] = get_args(NoiseKind)

FRAMES: Final = 7
"""The default number of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolate(Request):
    """Paint points between two or more ends: pictures, embeddings or words, in any mixture.

    Exactly one of `frames`, `positions` and `weights` is given. All frames share one seed; of a single position, or of
    a blend, `count` pictures with seeds of their own can be painted.

    Raises: BadInput, BadSetting, PromptError, and as `ModelRequest`.
    """

    task: ClassVar[str] = "interpolate"
    takes_embeddings: ClassVar[bool] = True

    ends: tuple[Source, ...]
    frames: int | None = None
    """How many pictures, evenly from the first end to the last."""
    positions: tuple[float, ...] | None = None
    """Where between the first end and the last, from 0 to 1."""
    weights: tuple[float, ...] | None = None
    """The share of each end in a blend of all."""
    noise: NoiseKind = "fixed"
    """With "fixed" every frame starts from the same new noise. "inverted" goes from the noise of each end to that of
    the next, and so reproduces the ends; every end must then be a picture, or an embedding that has its noise."""
    inverting: Dials = field(default_factory=Dials)
    """The dials of that inversion."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        if len(self.ends) < 2:
            raise BadInput(
                "there is nothing between a picture and itself", hint="name two or more pictures or sentences"
            )
        for end in self.ends:
            if end.kind == "text":
                check_prompt(end.name)
        if sum(where is not None for where in (self.frames, self.positions, self.weights)) != 1:
            raise BadSetting("frames, positions and weights exclude each other", hint="use one of them")
        self._check_where()
        _check_noise(self.noise, self.ends, self.weights)
        check_dials("inversion", self.inverting)

    def _check_where(self) -> None:
        if self.frames is not None:
            check_range("the number of frames", self.frames, 2, COUNT_LIMIT)
        if self.positions is not None:
            check_range("the number of positions", len(self.positions), 1, COUNT_LIMIT)
            for position in self.positions:
                check_share("a position between the ends", position)
        if self.weights is not None:
            _check_weights(self.weights, len(self.ends))
        if self.count > 1 and (self.frames is not None or (self.positions is not None and len(self.positions) > 1)):
            raise BadSetting("all frames share one seed", hint="several pictures (-n) are for one position")

    @classmethod
    def build(cls, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        frames, at, weights = values.whole("frames"), values.numbers("at"), values.numbers("weights")
        return cls(
            **values.common(),
            ends=values.files_or_words("ends"),
            frames=FRAMES if frames is None and at is None and weights is None else frames,
            positions=at,
            weights=weights,
            noise=cast(NoiseKind, values.one_of("noise", NOISES)),
            inverting=values.inverting(),
            **values.prior(),
        )

    @property
    def own_values(self) -> dict[str, object]:
        return {
            "ends": list(self.ends),
            "frames": self.frames,
            "at": None if self.positions is None else list(self.positions),
            "weights": None if self.weights is None else list(self.weights),
            "noise": self.noise,
            "inversion_steps": self.inverting.steps,
        }

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.ends

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(end.name for end in self.ends if end.kind == "text")

    @property
    def rewritable(self) -> tuple[str, ...]:
        return self.texts

    def saying(self, sentences: Sequence[str]) -> Self:
        left = iter(sentences)
        return replace(self, ends=tuple(words(next(left)) if end.kind == "text" else end for end in self.ends))

    @property
    def imagines(self) -> bool:
        return bool(self.texts)

    @property
    def inversion(self) -> Dials | None:
        return self.inverting if self.noise == "inverted" else None

    def settle(self, habits: Habits) -> "Interpolating":
        weights = self.weights
        if weights is not None:
            weights = tuple(weight / math.fsum(weights) for weight in weights)
        positions = self.positions if self.frames is None else evenly(self.frames)
        return Interpolating(positions=positions, weights=weights, noise=self.noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolating(Settings):
    """The settings of `interpolate`. Either `positions` or `weights` is None."""

    positions: tuple[float, ...] | None
    """The place of each frame, from 0 to 1."""
    weights: tuple[float, ...] | None
    """The share of each end; their sum is 1."""
    noise: NoiseKind
    """See `Interpolate`."""

    @property
    def places(self) -> tuple[float, ...] | None:
        return self.positions

    def at(self, places: Sequence[float]) -> Self:
        return replace(self, positions=tuple(places))

    def title(self, prompt: str, inputs: Sequence[Source]) -> str:
        names = [short_name(source) for source in inputs]
        return " to ".join([names[0], names[-1]] if len(names) > 2 else names)

    def rows(self) -> list[tuple[str, str]]:
        if self.positions is not None:
            where = ("positions", numbers(self.positions))
        else:
            where = ("weights", numbers(self.weights if self.weights is not None else ()))
        return [where, ("noise", self.noise)]

    def to_dict(self) -> dict[str, Any]:
        positions = None if self.positions is None else list(self.positions)
        weights = None if self.weights is None else list(self.weights)
        return {"positions": positions, "weights": weights, "noise": self.noise}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(
            positions=fields.numbers("positions", optional=True),
            weights=fields.numbers("weights", optional=True),
            noise=cast(NoiseKind, fields.choice("noise", NOISES)),
        )

    def request(self, prompt: str, inputs: tuple[Source, ...], dials: Mapping[str, Any]) -> Interpolate:
        if self.weights is not None and not math.isclose(sum(self.weights), 1, rel_tol=1e-6):
            raise BadRecipe("the weights in the recipe are not shares: their sum is not 1")
        return Interpolate(ends=inputs, positions=self.positions, weights=self.weights, noise=self.noise, **dials)


def _check_weights(weights: tuple[float, ...], ends: int) -> None:
    if len(weights) != ends:
        raise BadSetting(f"{len(weights)} weights for {ends} ends", hint="give one weight for each end")
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise BadSetting(f"a weight is {weight:g}", hint="weights are 0 or more")
    if sum(weights) <= 0:
        raise BadSetting("all weights are 0")
    if not math.isfinite(sum(weights)):
        raise BadSetting("the weights have no finite sum", hint="only their ratio counts: make them smaller")


def _check_noise(noise: str, ends: tuple[Source, ...], weights: tuple[float, ...] | None) -> None:
    if noise not in NOISES:
        raise BadSetting(f"no noise is called {noise!r}", hint=f"one of {', '.join(NOISES)}")
    if noise == "inverted":
        if weights is not None:
            raise BadSetting("a blend of many has no way between two noises", hint="use --noise fixed with --weights")
        for end in ends:
            if end.kind == "text":
                raise BadSetting(f"words have no noise to invert: {end.name!r}", hint="use --noise fixed, or pictures")
