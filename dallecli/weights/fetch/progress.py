"""How far a pull is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Doing = Literal["fetching", "checking", "converting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a pull is doing now, and how far it is."""

    doing: Doing
    path: str
    """The file, in the model's folder."""
    done: int
    """Bytes that are here, of all files that were missing."""
    total: int
    """Bytes of all files that were missing."""


Report = Callable[[Transfer], None]
"""What is called at every step."""


@dataclass(slots=True)
class TransferProgress:
    """Counts the bytes of a pull, each once, and reports."""

    report: Report
    total: int
    done: int = 0
    fetched: int = 0
    """Bytes that came over the network, including those that were wrong."""

    def add(self, size: int, path: str) -> None:
        """Count bytes that came over the network."""
        self.fetched += size
        self.done += size
        self.show("fetching", path)

    def show(self, doing: Doing, path: str) -> None:
        """Report what is being done to which file."""
        self.report(Transfer(doing=doing, path=path, done=self.done, total=self.total))
