"""Compares the files of a folder with its journal."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dallecli.batch.journal import Entry, read_journal, same_bytes

Finding = Literal["intact", "missing", "changed", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A picture in the journal, and the state of its file."""

    entry: Entry
    finding: Finding


def audit(folder: Path) -> Iterator[Audited]:
    """Every picture of a journal, by reading all bytes of its file.

    Raises BadOutput if there is no journal, or a file cannot be read.
    """
    for entry in read_journal(folder):
        path = folder / entry.file
        finding: Finding = "intact"
        if entry.status != "done":
            finding = "failed"
        elif not path.is_file():
            finding = "missing"
        elif not same_bytes(path, entry):
            finding = "changed"
        yield Audited(entry=entry, finding=finding)
