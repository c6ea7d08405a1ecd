"""What a model does not know of a request: words that it was not trained with, and pictures unlike any that it saw."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from dallecli.errors import NotKnown

MOST: Final = 12
"""Words or pictures that one message names."""

ANYTHING: Final = "kandinsky"
"""The model for what the others do not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Words as they were typed, without case, and the names of pictures; each once, in order."""

    words: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    listed: bool = True
    """Whether the model has a list of the words that it knows."""

    def __bool__(self) -> bool:
        return bool(self.words or self.pictures)

    def to_dict(self) -> dict[str, list[str]]:
        """Plain data for JSON."""
        return {"words": list(self.words), "pictures": list(self.pictures)}

    def notices(self, model: str) -> list[str]:
        """What whoever asked should know, a line each for words and pictures. `model` is its name."""
        found = []
        if self.words:
            elsewhere = "" if model == ANYTHING else f"; for anything else: --model {ANYTHING}"
            known = f" (dalle models words {model}{elsewhere})" if self.listed else ""
            found.append(f"{_called(model)} does not know: {_some(self.words)}{known}")
        if self.pictures:
            seen = f"{_called(model)} was trained on nothing like {_some(self.pictures)}"
            found.append(f"{seen}, and may paint something else")
        return found

    def refuse(self, model: str) -> None:
        """Raises NotKnown if there is anything, for a strict request."""
        if self.words:
            words = f"words that it knows (dalle models words {model})" if self.listed else "other words"
            hint = f"say it in {words}, or leave out --strict"
            raise NotKnown(f"{_called(model)} does not know: {_some(self.words)}", hint=hint)
        if self.pictures:
            what = f"{_called(model)} was trained on nothing like {_some(self.pictures)}"
            raise NotKnown(what, hint="leave out --strict to paint what it makes of it")


def together(several: Iterable[Unknown]) -> Unknown:
    """What is unknown in any of several requests, each word and picture once."""
    words: dict[str, None] = {}
    pictures: dict[str, None] = {}
    listed = True
    for one in several:
        listed &= one.listed
        words |= dict.fromkeys(one.words)
        pictures |= dict.fromkeys(one.pictures)
    return Unknown(words=tuple(words), pictures=tuple(pictures), listed=listed)


class Asked(Protocol):
    """What a model was asked for, or what it made of that: a recipe, an embedding."""

    @property
    def model(self) -> str: ...
    @property
    def unknown(self) -> Unknown: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The same without what was made, which may be large."""

    model: str
    unknown: Unknown


def unknown_notices(asked: Iterable[Asked]) -> list[str]:
    """What models do not know of all that they were asked for, said once of each model."""
    several: dict[str, list[Unknown]] = {}
    for one in asked:
        several.setdefault(one.model, []).append(one.unknown)
    return [notice for model, unknown in several.items() for notice in together(unknown).notices(model)]


def _called(model: str) -> str:
    return "the starter" if model == "starter" else model


def _some(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + rest
