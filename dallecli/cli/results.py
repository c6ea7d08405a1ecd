"""The files that commands write as their results, for who wants to name the last of them: the shell."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_FILES: ContextVar[list[Path] | None] = ContextVar("files", default=None)


@contextmanager
def noting() -> Iterator[list[Path]]:
    """Inside, results are noted in this list, in the order in which they are written."""
    files: list[Path] = []
    token = _FILES.set(files)
    try:
        yield files
    finally:
        _FILES.reset(token)


def note(path: Path | None) -> None:
    """A result was written; None is one on standard output, which nobody can name."""
    files = _FILES.get()
    if files is not None and path is not None:
        files.append(path)
