"""Sentences with choices: `a {red|blue} car`, or `a car in __colour__`, where colour.txt has one choice a line.

Choices may be nested, and the lines of a list may hold choices. Braces without a bar are just braces; a backslash
before `{`, `|`, `}` or `_` makes it a plain character.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from math import prod
from pathlib import Path
from typing import Final

from dallecli.errors import BadSetting, reason

MOST: Final = 1_000_000
"""The most sentences that one template may stand for."""

DEPTH: Final = 16
"""How deep choices and lists may be nested."""

_LIST = re.compile(r"__([A-Za-z0-9](?:[A-Za-z0-9-]|_(?!_))*)__")
_SPECIAL = "{|}_"
_MARKS = re.compile(r"[{_\\]")  # without one of them there is nothing to choose, and nothing escaped


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sentences."""

    options: "tuple[Template, ...]"

    @property
    def count(self) -> int:
        return sum(option.count for option in self.options)


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence with choices: words and choices in turn."""

    parts: tuple[str | Choice, ...]

    @property
    def count(self) -> int:
        """How many sentences it stands for, with duplicates."""
        return prod(part.count for part in self.parts if isinstance(part, Choice))

    @property
    def open(self) -> bool:
        """Whether there is anything to choose."""
        return any(isinstance(part, Choice) for part in self.parts)

    def every(self) -> Iterator[str]:
        """All sentences; the last choice changes fastest."""
        pools = [
            [part] if isinstance(part, str) else [sentence for option in part.options for sentence in option.every()]
            for part in self.parts
        ]
        yield from ("".join(combination) for combination in product(*pools))

    def chosen(self, seed: int) -> str:
        """The sentence for a seed, always the same."""
        return _chosen(self, _draws(seed))


class Wildcards:
    """Reads templates, with the lists that lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._options = cache(self._read_options)

    def template(self, sentence: str) -> Template:
        """Raises BadSetting for a list that is not there or cannot be read, and for more than `MOST` sentences."""
        template = self._template(sentence, ())
        if template.count > MOST:
            raise BadSetting(f"these choices make {template.count} sentences", hint=f"at most {MOST} are possible")
        return template

    def _template(self, sentence: str, within: tuple[str, ...]) -> Template:
        if not _MARKS.search(sentence):
            return Template((sentence,) if sentence else ())
        return self._between(sentence, 0, len(sentence), _choices(sentence), within)

    def _between(
        self, text: str, start: int, end: int, choices: Mapping[int, Sequence[int]], within: tuple[str, ...]
    ) -> Template:
        parts: list[str | Choice] = []
        words = ""
        k = start
        while k < end:
            if text[k] == "\\" and text[k + 1 : k + 2] and text[k + 1] in _SPECIAL:
                words += text[k + 1]
                k += 2
                continue
            choice = None
            if k in choices:
                marks = choices[k]
                choice = Choice(tuple(self._between(text, a + 1, b, choices, within) for a, b in pairwise((k, *marks))))
                k = marks[-1] + 1
            elif text[k] == "_" and (match := _LIST.match(text, k, end)):
                choice = Choice(self._options(match[1], within))
                k = match.end()
            if choice is None:
                words += text[k]
                k += 1
            else:
                parts += [words, choice] if words else [choice]
                words = ""
        return Template((*parts, words) if words else tuple(parts))

    def _read_options(self, name: str, within: tuple[str, ...]) -> tuple[Template, ...]:
        """The lines of a list, each of which may have choices."""
        if name in within or len(within) >= DEPTH:
            raise BadSetting(f"the list {name} contains itself: {' > '.join((*within, name))}")
        path = self.folder / f"{name}.txt"
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
            hint = f"write one choice a line into it; or \\__{name}__ in the sentence, to mean these characters"
            raise BadSetting(f"__{name}__ has no list: {why}", where=str(path), hint=hint) from error
        lines = [line.strip() for line in text.split("\n")]
        options = [line for line in lines if line and not line.startswith("#")]
        if not options:
            raise BadSetting(f"the list of __{name}__ is empty", where=str(path))
        return tuple(self._template(option, (*within, name)) for option in options)


def escaped(sentence: str) -> str:
    """A template that stands for exactly this sentence."""
    return re.sub(r"[{|}]|(?<=[_\\])_", lambda found: "\\" + found[0], sentence)


def _choices(text: str) -> dict[int, list[int]]:
    """For each choice, by where it opens, where its bars are and it closes. Raises BadSetting if nested too deep."""
    found: dict[int, list[int]] = {}
    pending: list[tuple[int, list[int]]] = []
    escape = False
    for k, char in enumerate(text):
        if escape:
            escape = False
            if char in _SPECIAL:
                continue
        if char == "\\":
            escape = True
        elif char == "{":
            pending.append((k, []))
        elif char == "|" and pending:
            pending[-1][1].append(k)
        elif char == "}" and pending:
            start, bars = pending.pop()
            if bars:
                found[start] = [*bars, k]
                if len(pending) >= DEPTH:
                    raise BadSetting(f"choices are nested more than {DEPTH} deep")
    return found


def _draws(seed: int) -> Iterator[int]:
    """Random numbers that are the same with every version of every library."""
    k = 0
    while True:
        yield int.from_bytes(hashlib.sha256(f"wildcard {seed} {k}".encode()).digest()[:8], "big")
        k += 1


def _chosen(template: Template, draws: Iterator[int]) -> str:
    return "".join(
        part if isinstance(part, str) else _chosen(part.options[next(draws) % len(part.options)], draws)
        for part in template.parts
    )
