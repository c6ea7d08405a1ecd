"""The sentences of a prompt file that a language model has rewritten, on disk: a run that goes on asks for none again.

One JSON object a line, beside the journal: what was asked for, and what is painted instead. `null` stands for a failure
after which what was typed was painted. Who wants other words for a line removes it here, and runs the batch again.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dallecli.batch.journal import HIDDEN
from dallecli.errors import DiskFull
from dallecli.limits import ENTRY_BYTES, open_file
from dallecli.publish import disk_errors, open_own
from dallecli.rewriting.rewriter import Notes

NAME: Final = "rewritten.jsonl"


class RewritingsFile(Notes):
    """Notes that stay. Several processes may have the file open; one of them asks at a time.

    Raises BadOutput, DiskFull.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        super().__init__()
        self.path = folder / NAME
        with disk_errors(self.path):
            (folder / HIDDEN).mkdir(parents=True, exist_ok=True)
            self._file = open_own(self.path, os.O_WRONLY | os.O_APPEND)
        self._lock = FileLock(folder / HIDDEN / "rewritten.lock")
        self._read_to = 0
        self._torn = False
        self._catch_up()

    def close(self) -> None:
        os.close(self._file)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Inside, no other process asks; what others asked before is known. Raises BadOutput."""
        with disk_errors(self.path), self._lock:
            self._catch_up()
            yield

    def note(self, key: str, asked: Sequence[str], painted: Sequence[str] | None, by: str) -> None:
        """When this returns, it is on disk. Raises BadOutput, DiskFull."""
        super().note(key, asked, painted, by)
        facts = {"key": key, "by": by, "asked": list(asked), "painted": None if painted is None else list(painted)}
        data = json.dumps(facts).encode("ascii") + b"\n"
        with disk_errors(self.path):
            # A line that a killed process has torn ends here.
            if os.write(self._file, b"\n" + data if self._torn else data) < len(data):
                raise DiskFull("the disk is full", where=str(self.path))
            os.fsync(self._file)
        self._torn = False

    def _catch_up(self) -> None:
        """Read what was added since."""
        with disk_errors(self.path), open_file(self.path) as file:
            file.seek(self._read_to)
            data = file.read()
        for line in data.split(b"\n"):
            found = _read(line)
            if found is not None:
                key, painted = found
                self.known[key] = painted
        end = data.rfind(b"\n") + 1
        self._torn = end < len(data)
        self._read_to += end


def _read(line: bytes) -> tuple[str, tuple[str, ...] | None] | None:
    """The key and the sentences of a line; None for one that is torn, or none of ours."""
    try:
        facts = json.loads(line[:ENTRY_BYTES])
        key, painted = facts["key"], facts["painted"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    sentences = isinstance(painted, list) and painted and all(isinstance(one, str) for one in painted)
    if not isinstance(key, str) or not (painted is None or sentences):
        return None
    return key, None if painted is None else tuple(painted)
