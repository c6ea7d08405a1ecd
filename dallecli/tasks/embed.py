"""`embed`: what CLIP sees in pictures and reads in sentences, and arithmetic with it."""

from dataclasses import dataclass, field
from typing import Self

from dallecli.errors import BadInput
from dallecli.source import Source
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import ModelRequest, check_dials, check_prompt
from dallecli.tasks.values import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed(ModelRequest):
    """Let CLIP look at pictures and read sentences.

    inputs: pictures, sentences, or embeddings, which come back as they are if they are of the model's CLIP. minus,
    plus: from each input the meanings in the first are taken away, and those in the second added: see
    `embedding_file.combine`. imagine: have the prior turn sentences into image embeddings, with `seed`; else they stay
    text embeddings. invert: add to each picture's embedding the noise from which it would be painted. inverting: the
    dials of that inversion.

    Raises: BadInput, BadSetting, PromptError, and as `ModelRequest`.
    """

    inputs: tuple[Source, ...]
    minus: tuple[Source, ...] = ()
    plus: tuple[Source, ...] = ()
    imagine: bool = False
    invert: bool = False
    inverting: Dials = field(default_factory=Dials)

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
