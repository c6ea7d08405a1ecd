"""`embed`: CLIP's embeddings of pictures and sentences, and arithmetic with them."""

from dataclasses import dataclass, field
from typing import Final, Self

from dallecli.errors import BadInput
from dallecli.source import Source
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import ModelRequest, check_dials, check_prompt
from dallecli.tasks.values import Values

COMPARING: Final = ("embed", "rank")
"""What can be asked of a model that is CLIP alone. Every model with a CLIP does it, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed(ModelRequest):
    """Let CLIP embed pictures and sentences.

    Raises: BadInput, BadSetting, PromptError, and as `ModelRequest`.
    """

    inputs: tuple[Source, ...]
    """Pictures, sentences, or embeddings; an embedding of the model's CLIP is returned as it is."""
    minus: tuple[Source, ...] = ()
    """Subtracted from each input: see `embedding_arithmetic.combine`."""
    plus: tuple[Source, ...] = ()
    """Added to each input."""
    imagine: bool = False
    """Let the prior turn sentences into image embeddings, with `seed`; otherwise they stay text embeddings."""
    invert: bool = False
    """Add to each picture's embedding the noise from which the picture would be painted."""
    inverting: Dials = field(default_factory=Dials)
    """The dials of that inversion."""

    def __post_init__(self) -> None:
        ModelRequest.__post_init__(self)
        if not self.inputs:
            raise BadInput("there is nothing to embed", hint="name pictures or sentences")
        for source in self.sources:
            if source.kind == "text":
                check_prompt(source.name)
        check_dials("inversion", self.inverting)

    @classmethod
    def build(cls, values: Values) -> Self:
        """The request that values by name make. Raises RequestError."""
        return cls(
            **values.common(),
            inputs=values.files_or_words("inputs"),
            minus=values.files_or_words("minus"),
            plus=values.files_or_words("plus"),
            imagine=values.flag("imagine"),
            invert=values.flag("invert"),
            inverting=values.inverting(),
            **values.prior(),
        )

    @property
    def own_values(self) -> dict[str, object]:
        return {
            "inputs": list(self.inputs),
            "minus": list(self.minus),
            "plus": list(self.plus),
            "imagine": self.imagine,
            "invert": self.invert,
            "inversion_steps": self.inverting.steps,
        }

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
    def inversion(self) -> Dials | None:
        return self.inverting if self.invert else None
