"""Who works in a folder: one process alone, or several that share its pictures.

Every process locks a file of its own for as long as it lives; the system releases the lock however the process ends.
The file beside it only says who that is. A picture that is being painted is claimed by a file that names the process's
run; the claim of a run that has ended is void. All these files are in one hidden folder, and none may be a link.
"""

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import BaseFileLock, FileLock, Timeout

from dallecli.batch.journal import HIDDEN
from dallecli.errors import BadOutput, FolderInUse
from dallecli.limits import NOTE_BYTES, read_file
from dallecli.publish import disk_errors, open_own, remove_abandoned

EXCLUSIVE: Final = "alone"
SHARED: Final = "shared"


class Presence:
    """This process in a folder, until `leave`.

    Raises FolderInUse if another process works there, unless both share the folder; BadOutput.
    """

    def __init__(self, folder: Path, *, share: bool) -> None:
        self.run = secrets.token_hex(8)
        self.share = share
        self._runs = folder / HIDDEN / "runs"
        self._claims = folder / HIDDEN / "claims"
        self._door = FileLock(folder / HIDDEN / "door.lock")
        with disk_errors(folder):
            for own in (folder / HIDDEN, self._runs, self._claims):
                _make(own)
            with self._door:
                others = list(self._others())
                for other in others:
                    if not (share and other.get("mode") == SHARED):
                        raise _in_use(folder, other, share=share)
                self._own = self._lock_of(self.run)
                self._own.acquire(timeout=0)
                facts = {"pid": os.getpid(), "host": socket.gethostname(), "mode": SHARED if share else EXCLUSIVE}
                _write(self._facts_of(self.run), json.dumps(facts))
                if not others:
                    self._tidy(folder)

    def leave(self) -> None:
        """Let others in."""
        # Files that cannot be removed are found to belong to no process by the next one.
        with suppress(OSError):
            self._own.release()
            for path in (self._facts_of(self.run), self._lock_path(self.run)):
                path.unlink(missing_ok=True)

    def claim(self, key: str) -> bool:
        """Claim a picture for this process; False if another process at work has it."""
        if not self.share:
            return True
        path = self._claims / key
        with disk_errors(path), self._door:
            with suppress(FileNotFoundError):  # its holder may release it at this very moment
                holder = read_file(path, NOTE_BYTES).decode("ascii", "replace")
                if holder != self.run and self._at_work(holder):
                    return False
            _write(path, self.run)
            return True

    def release(self, key: str) -> None:
        """Release a picture, once it is in the journal."""
        if self.share:
            with suppress(OSError):  # the claim ends with this process anyway
                (self._claims / key).unlink(missing_ok=True)

    def _others(self) -> Iterator[dict[str, object]]:
        """The facts about every process at work here; the files of ended ones are removed."""
        for path in sorted(self._runs.glob("*.lock")):
            if self._at_work(path.stem):
                try:
                    yield json.loads(read_file(self._facts_of(path.stem), NOTE_BYTES))
                except (OSError, ValueError):
                    yield {}

    def _at_work(self, run: str) -> bool:
        path = self._lock_path(run)
        if not path.exists():
            return False
        lock = self._lock_of(run)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        for left in (path, self._facts_of(run)):
            left.unlink(missing_ok=True)
        return False

    def _tidy(self, folder: Path) -> None:
        """Remove what killed processes have left. No other batch is here, but others may write into this folder."""
        remove_abandoned(folder)
        for path in self._claims.iterdir():
            with suppress(OSError):
                path.unlink()

    def _lock_of(self, run: str) -> BaseFileLock:
        return FileLock(self._lock_path(run))

    def _lock_path(self, run: str) -> Path:
        return self._runs / f"{run}.lock"

    def _facts_of(self, run: str) -> Path:
        return self._runs / f"{run}.json"


def _make(folder: Path) -> None:
    """Make a folder of our own. Raises BadOutput for a link, and OSError."""
    if folder.is_symlink():
        raise BadOutput("a link leads out of the output folder", where=str(folder), hint="remove the link")
    folder.mkdir(parents=True, exist_ok=True)


def _write(path: Path, text: str) -> None:
    """Replace what is in a small file of our own. Raises BadOutput, DiskFull."""
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_TRUNC), "w", encoding="ascii") as file:
        file.write(text)


def _in_use(folder: Path, other: dict[str, object], *, share: bool) -> FolderInUse:
    who = f"process {other['pid']} on {other['host']}" if other else "another process"
    hint = "it works alone: wait for it, or use another --out" if share else "wait for it, or run both with --share"
    return FolderInUse(f"{who} is painting into this folder", where=str(folder), hint=hint)
