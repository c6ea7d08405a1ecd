"""`edit`: a picture changed by the difference of two sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

from dallecli.errors import BadRecipe, BadSetting
from dallecli.fields import Fields
from dallecli.limits import COUNT_LIMIT
from dallecli.source import Source
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import (
    Habits,
    InvertibleRequest,
    Settings,
    check_prompt,
    check_range,
    check_share,
    evenly,
    numbers,
    short_name,
)
from dallecli.tasks.values import Values

STRENGTH: Final = 0.4
"""The default strength."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit(InvertibleRequest):
    """Change a picture by the difference of two sentences: rotate its embedding from the first towards the second.

    Raises: BadInput, BadSetting, PromptError, and as `ModelRequest`.
    """

    task: ClassVar[str] = "edit"

    before: str
    """What the picture shows."""
    after: str
    """What it should show."""
    strength: float | None = None
    """How far on the sphere, from 0 (the picture) to 1 (nothing of it is left); the paper uses 0.25 to 0.5."""
    sweep: int | None = None
    """Paint so many pictures, with strengths evenly from 0 to `strength`."""

    def __post_init__(self) -> None:
        InvertibleRequest.__post_init__(self)
        check_prompt(self.before, "--from")
        check_prompt(self.after, "--to")
        if self.before.strip() == self.after.strip():
            raise BadSetting("both sentences are the same, so there is no difference to follow")
        if self.strength is not None:
            check_share("the strength", self.strength)
        if self.sweep is not None:
            check_range("the number of pictures in a sweep", self.sweep, 2, COUNT_LIMIT)
            if self.count > 1:
                raise BadSetting("the pictures of a sweep share one seed", hint="leave out -n or --sweep")

    @classmethod
    def build(cls, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        return cls(
            **values.common(sampler=False),
            image=values.needed_file("image"),
            before=values.needed("from"),
            after=values.needed("to"),
            strength=values.number("strength"),
            sweep=values.whole("sweep"),
            inverting=values.inverting(),
        )

    @property
    def own_values(self) -> dict[str, object]:
        return {
            "image": self.image,
            "from": self.before,
            "to": self.after,
            "strength": self.strength,
            "sweep": self.sweep,
            "inversion_steps": self.inverting.steps,
        }

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.before, self.after)

    @property
    def rewritable(self) -> tuple[str, ...]:
        return self.texts

    def saying(self, sentences: Sequence[str]) -> Self:
        before, after = sentences
        return replace(self, before=before, after=after)

    @property
    def inversion(self) -> Dials | None:
        return self.inverting

    def settle(self, habits: Habits) -> "Editing":
        strength = self.strength if self.strength is not None else STRENGTH
        strengths = (strength,) if self.sweep is None else tuple(strength * t for t in evenly(self.sweep))
        return Editing(before=self.before, after=self.after, strengths=strengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Editing(Settings):
    """The settings of `edit`: the two sentences, and the strength of each picture."""

    before: str
    after: str
    strengths: tuple[float, ...]

    @property
    def places(self) -> tuple[float, ...] | None:
        return self.strengths

    @property
    def sentences(self) -> tuple[str, ...]:
        return self.before, self.after

    def at(self, places: Sequence[float]) -> Self:
        return replace(self, strengths=tuple(places))

    def title(self, prompt: str, inputs: Sequence[Source]) -> str:
        return f"{short_name(inputs[0])} to {self.after}"

    def rows(self) -> list[tuple[str, str]]:
        return [("away from", self.before), ("towards", self.after), ("strength", numbers(self.strengths))]

    def to_dict(self) -> dict[str, Any]:
        return {"before": self.before, "after": self.after, "strengths": list(self.strengths)}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        strengths = fields.numbers("strengths")
        return cls(before=fields.text("before"), after=fields.text("after"), strengths=strengths)

    def request(self, prompt: str, inputs: tuple[Source, ...], dials: Mapping[str, Any]) -> Edit:
        if not self.strengths:
            raise BadRecipe("the recipe says edit, and not how far")
        edits = [
            Edit(image=inputs[0], before=self.before, after=self.after, strength=strength, **dials)
            for strength in self.strengths
        ]
        return edits[-1]
