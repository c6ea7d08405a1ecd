"""Captioned pictures to learn from, and what cannot be learned from, with the reason."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.limits import PICTURE_BYTES, in_words, open_file

NAMED: Final = 3
"""How many of each kind of fault are named in a summary; all of them are in the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture with a caption: bytes `start` to `start + size` of a file (all of it where size is None).

    `name` is the picture's; one with several captions is several items.
    """

    name: str
    caption: str
    file: Path
    start: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The bytes of the picture. Raises OSError; ValueError if there are too many."""
        with open_file(self.file) as file:
            size = os.fstat(file.fileno()).st_size if self.size is None else self.size
            if size > PICTURE_BYTES:
                raise ValueError(f"it has {size} bytes, the limit is {in_words(PICTURE_BYTES)}")
            file.seek(self.start)
            return file.read(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that cannot be trained on: the kind of fault, which is counted, and why in this case."""

    name: str
    kind: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All pairs of some data, in the order of their names, and all faults. `digest` changes whenever the data do."""

    items: tuple[Item, ...]
    faults: tuple[Fault, ...]
    digest: str


def summary(faults: Sequence[Fault]) -> list[str]:
    """One line a kind of fault: how many there are, and the names of the first few."""
    lines = []
    for kind, count in Counter(fault.kind for fault in faults).most_common():
        names = [fault.name for fault in faults if fault.kind == kind][:NAMED]
        more = ", …" if count > len(names) else ""
        lines.append(f"{count} {kind} ({', '.join(names)}{more})")
    return lines


def held_out_last(items: Iterable[Item], held_out: int) -> list[Item]:
    """Return the items with the last `held_out` of them chosen by the hash of their names.

    So additions to the data move few items from one side to the other.
    """
    ranked = sorted(items, key=lambda item: hashlib.sha256(item.name.encode("utf-8", "replace")).digest())
    return [*ranked[held_out:], *ranked[:held_out]]
