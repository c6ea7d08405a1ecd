"""Sentences that a language model rewrote before they were painted: a recipe keeps both, and who did it."""

from dataclasses import dataclass
from typing import Any, Self

from dallecli.fields import Fields


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: what somebody asked for, and what is painted instead."""

    asked: str
    painted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewritten:
    """The sentences of a request that were rewritten, in order, and the name of the language model that did it.

    Where that model runs is not kept: pictures are passed on, and addresses are private.
    """

    by: str
    sentences: tuple[Sentence, ...]

    @property
    def asked(self) -> str:
        """What was asked for, in one line."""
        return " → ".join(sentence.asked for sentence in self.sentences)

    def as_asked(self, text: str) -> str:
        """A text that quotes what is painted, with what was asked for in its place."""
        for sentence in self.sentences:
            text = text.replace(sentence.painted, sentence.asked)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"by": self.by, "sentences": [{"asked": one.asked, "painted": one.painted} for one in self.sentences]}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """What `to_dict` gave. Raises as `fields`."""
        by, sentences = fields.text("by"), tuple(map(_sentence, fields.tables("sentences")))
        fields.finish()
        return cls(by=by, sentences=sentences)


def _sentence(fields: Fields) -> Sentence:
    sentence = Sentence(asked=fields.text("asked"), painted=fields.text("painted"))
    fields.finish()
    return sentence
