"""What the makers of a model say that it knows: small files of its folder, which its trainer or a conversion writes.

words.json      the words of its captions, by kind: {"things": {"dog": ["dogs", "puppy"], …}, "colours": …}
familiar.json   how strange a picture may be to it: {"strangeness": 0.15, …}, as `pipelines/familiarity.py` measures it
classes.json    the names of the classes that it paints: {"classes": ["tench, Tinca tinca", …]}

Published models that read words have none of them: they were trained on what the web says and shows.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dallecli.classes import Classes
from dallecli.cleaning import clean
from dallecli.errors import BadFile
from dallecli.weights.folder import REPAIR, read_object

WORDS: Final = "words.json"
FAMILIAR: Final = "familiar.json"
CLASSES: Final = "classes.json"

THINGS: Final = "things"
"""The kind whose names count as a whole: who knows a teddy bear knows no bear. Of all others each word counts."""

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

Kinds = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Kind -> what it is called first -> how else it is said."""


@dataclass(frozen=True)
class Words:
    """The words that a model knows, by kind."""

    kinds: Kinds

    def unknown(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The words of some sentences that the model does not know, each once, in small letters."""
        return tuple(dict.fromkeys(word for text in texts for word in self._unknown(text)))

    def _unknown(self, text: str) -> Iterable[str]:
        words = [word.removesuffix("'s") for word in _WORD.findall(clean(text).lower())]
        place = 0
        while place < len(words):
            longest = next((n for n in self._lengths if tuple(words[place : place + n]) in self._names), 0)
            if longest == 0 and words[place] not in self._single:
                yield words[place]
            place += max(1, longest)

    @cached_property
    def _names(self) -> frozenset[tuple[str, ...]]:
        things = self.kinds.get(THINGS, {})
        return frozenset(tuple(_WORD.findall(said)) for name, others in things.items() for said in (name, *others))

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(name) for name in self._names}, reverse=True))

    @cached_property
    def _single(self) -> frozenset[str]:
        kinds = [phrases for kind, phrases in self.kinds.items() if kind != THINGS]
        said = (text for phrases in kinds for name, others in phrases.items() for text in (name, *others))
        return frozenset(word for text in said for word in _WORD.findall(text))


def read_words(folder: Path) -> Words | None:
    """The words of the model in a folder; None where it has no list of them. Raises BadFile."""
    path = folder / WORDS
    if not path.is_file():
        return None
    content = read_object(path)
    if not all(_is_kind(phrases) for phrases in content.values()):
        raise BadFile("a kind of words is not names with other ways to say them", str(path), REPAIR)
    return Words({kind: {name: tuple(others) for name, others in content[kind].items()} for kind in content})


def read_strangeness(folder: Path) -> float | None:
    """From where on a picture is strange to the model in a folder; None where that was not measured. Raises BadFile."""
    path = folder / FAMILIAR
    if not path.is_file():
        return None
    most = read_object(path).get("strangeness")
    if isinstance(most, bool) or not isinstance(most, int | float) or not most > 0:
        raise BadFile(f"strangeness cannot be {most!r}", str(path), REPAIR)
    return float(most)


def read_classes(folder: Path) -> Classes | None:
    """The classes that the model in a folder paints; None where it has no list of them. Raises BadFile."""
    path = folder / CLASSES
    if not path.is_file():
        return None
    lines = read_object(path).get("classes")
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) and line.strip() for line in lines):
        raise BadFile("classes are not a list of names", str(path), REPAIR)
    return Classes(tuple(lines))


def _is_kind(phrases: Any) -> bool:
    return isinstance(phrases, dict) and all(
        isinstance(others, list) and all(isinstance(one, str) for one in others) for others in phrases.values()
    )
