"""Several threads write into one journal: what they have at the same time reaches the disk together."""

import threading
from dataclasses import dataclass

from dallecli.batch.journal import Entry, Journal
from dallecli.errors import DalleError


@dataclass(slots=True, eq=False)
class _Commit:
    """An entry on its way; `error` is why it is not in the journal."""

    entry: Entry
    over: bool = False
    error: DalleError | None = None


class Commits:
    """Adds entries to a journal: whoever comes first writes for all who have come by then."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[_Commit] = []
        self._list = threading.Lock()
        self._turn = threading.Lock()

    def append(self, entry: Entry) -> None:
        """Add a line; when this returns, it is on disk. Raises BadOutput, DiskFull: then it was not added."""
        own = _Commit(entry)
        with self._list:
            self._waiting.append(own)
        with self._turn:
            if not own.over:
                self._write(own)
        if own.error is not None:
            raise own.error

    def _write(self, own: _Commit) -> None:
        with self._list:
            some, self._waiting = self._waiting, []
        if own not in some:  # who wrote it has failed in a way of its own
            some.append(own)
        try:
            self._journal.append([commit.entry for commit in some])
        except DalleError as error:
            for commit in some:
                commit.error = error
        for commit in some:
            commit.over = True
