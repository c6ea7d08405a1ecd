"""`vary`: variations of a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from dallecli.fields import Fields
from dallecli.source import Source
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import Habits, InvertibleRequest, Settings, check_prompt, check_share, short_name
from dallecli.tasks.values import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Vary(InvertibleRequest):
    """Paint variations of a picture.

    Raises: BadInput, BadSetting, PromptError, and as `ModelRequest`.
    """

    task: ClassVar[str] = "vary"

    prompt: str | None = None
    """Words that the decoder reads as well."""
    fidelity: float | None = None
    """From 0 (the same subject) to 1 (the same picture), with the picture's own noise; None starts from new noise and
    inverts nothing."""

    def __post_init__(self) -> None:
        InvertibleRequest.__post_init__(self)
        if self.prompt is not None:
            check_prompt(self.prompt, "--prompt")
        if self.fidelity is not None:
            check_share("the fidelity", self.fidelity)

    @classmethod
    def build(cls, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        return cls(
            **values.common(),
            image=values.needed_file("image"),
            prompt=values.text("prompt"),
            fidelity=values.number("fidelity"),
            inverting=values.inverting(),
        )

    @property
    def own_values(self) -> dict[str, object]:
        return {
            "image": self.image,
            "prompt": self.prompt,
            "fidelity": self.fidelity,
            "inversion_steps": self.inverting.steps,
        }

    @property
    def texts(self) -> tuple[str, ...]:
        return () if self.prompt is None else (self.prompt,)

    @property
    def words(self) -> str:
        return self.prompt if self.prompt is not None else ""

    def saying(self, sentences: Sequence[str]) -> Self:
        (sentence,) = sentences
        return replace(self, prompt=sentence)

    @property
    def reads_beside(self) -> bool:
        return self.prompt is not None

    @property
    def inversion(self) -> Dials | None:
        return None if self.fidelity is None else self.inverting

    def settle(self, habits: Habits) -> "Varying":
        return Varying(fidelity=self.fidelity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Varying(Settings):
    """The settings of `vary`: see `Vary`."""

    fidelity: float | None

    def title(self, prompt: str, inputs: Sequence[Source]) -> str:
        return f"{short_name(inputs[0])} {prompt if prompt else Vary.task}"

    def rows(self) -> list[tuple[str, str]]:
        return [] if self.fidelity is None else [("fidelity", f"{self.fidelity:g}")]

    def to_dict(self) -> dict[str, Any]:
        return {"fidelity": self.fidelity}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        return cls(fidelity=fields.number("fidelity", optional=True))

    def request(self, prompt: str, inputs: tuple[Source, ...], dials: Mapping[str, Any]) -> Vary:
        return Vary(image=inputs[0], prompt=prompt if prompt else None, fidelity=self.fidelity, **dials)
