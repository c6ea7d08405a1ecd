"""The classes that a model paints, by the names that people have for them. No torch here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Final

from dallecli.errors import BadSetting
from dallecli.safe import safe

BETWEEN: Final = ", "
"""Between the names of one class, of which the first is the usual one."""

LISTED: Final = 5
"""The most classes that an error names."""

_CLOSE: Final = 0.7


@dataclass(frozen=True)
class Classes:
    """What a network was told apart: `lines` holds the names of each class, in the order of their numbers.

    A name is that of a class if it is its first name, or one that no other class has. Case, hyphens and spaces do not
    matter. Every class has its number, from 0.
    """

    lines: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lines)

    def number(self, asked: str) -> int:
        """The class that a name, or a number, means.

        Raises: BadSetting where there is none, or several; its hint names those that were perhaps meant.
        """
        text = asked.strip()
        if re.fullmatch("[0-9]{1,9}", text):
            if int(text) < len(self):
                return int(text)
            raise BadSetting(f"there is no class {int(text)}", hint=f"they go from 0 to {len(self) - 1}")
        found = self._called(_plain(text))
        if len(found) == 1:
            return found[0]
        said = safe(repr(asked), 60)
        if found:
            raise BadSetting(f"{len(found)} classes are called {said}", hint=f"which one? {self._listed(found)}")
        close = self._close(_plain(text))
        hint = f"did you mean {self._listed(close)}?" if close else f"by name, or by number from 0 to {len(self) - 1}"
        raise BadSetting(f"no class is called {said}", hint=hint)

    def name(self, number: int) -> str:
        """The first name that means a class and no other; its number if it has none."""
        own = self._own_names(number)
        return own[0] if own else str(number)

    def named(self, asked: str) -> str:
        """What means the same class as `asked` and is always written alike. Raises BadSetting, as `number`."""
        return self.name(self.number(asked))

    @cached_property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """All names of every class, the usual one first."""
        return tuple(tuple(line.split(BETWEEN)) for line in self.lines)

    @cached_property
    def _owners(self) -> dict[str, list[int]]:
        """The classes that have a name, those first whose first name it is."""
        owners: dict[str, list[int]] = {}
        for number, names in enumerate(self.names):
            for name in dict.fromkeys(map(_plain, names)):
                owners.setdefault(name, []).append(number)
        return owners

    def _called(self, plain: str) -> list[int]:
        """The classes that a name means: of those that have it the ones whose first name it is, if there are any."""
        owners = self._owners.get(plain, [])
        firsts = [number for number in owners if _plain(self.names[number][0]) == plain]
        return firsts if firsts else owners

    def _close(self, plain: str) -> list[int]:
        """The classes with a name that holds all of these words, or is written much like them."""
        words = set(plain.split())
        holding = [number for name, owners in self._owners.items() if words <= set(name.split()) for number in owners]
        if words and holding:
            return list(dict.fromkeys(holding))
        alike = get_close_matches(plain, self._owners, n=LISTED, cutoff=_CLOSE)
        return list(dict.fromkeys(number for name in alike for number in self._owners[name]))

    def _listed(self, numbers: Iterable[int]) -> str:
        """A few classes with their numbers."""
        several = list(numbers)
        shown = [f"{[*self._own_names(one), *self.names[one]][0]} ({one})" for one in several[:LISTED]]
        more = [f"{len(several) - LISTED} more"] if len(several) > LISTED else []
        return _either([*shown, *more])

    def _own_names(self, number: int) -> list[str]:
        """The names that mean a class and no other."""
        return [name for name in self.names[number] if self._called(_plain(name)) == [number]]


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
