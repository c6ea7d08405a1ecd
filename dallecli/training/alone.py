"""One training at a time in a folder: two would write over each other's states."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dallecli.errors import FolderInUse
from dallecli.publish import disk_errors


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder, which is made if it is missing, until the block ends.

    The system releases the lock however the process ends. Raises FolderInUse, BadOutput, DiskFull.
    """
    lock = FileLock(folder / ".training.lock")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise FolderInUse(
                "another process is training here", where=str(folder), hint="wait for it, or name another folder"
            ) from error
    try:
        yield
    finally:
        lock.release()
