"""The sha256 of model files, remembered from one process to the next.

Hashing reads every byte, which takes ten seconds and more for published models. So the result is kept outside the
model, under the file's identity: device, inode, size and both times. A file that was written to has another identity.
"""

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dallecli.errors import BadFile, reason
from dallecli.limits import NOTE_BYTES, open_file, read_file
from dallecli.own_folders import own_folder
from dallecli.publish import replacing

WORTH_REMEMBERING: Final = 2**20
"""Bytes from which on a digest is remembered: a smaller file is hashed as fast as its digest is looked up."""

SETTLED: Final = 2.0
"""Seconds. A file that changed more recently can change again within one tick of its clock."""


def combined_digest(files: Iterable[tuple[str, str]]) -> str:
    """The sha256, in hex, over the names and the sha256 of `files`, in the order of the names."""
    lines = sorted(f"{name} {sha256}\n" for name, sha256 in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 of a file, in hex.

    Raises:
        BadFile: the file cannot be read.
    """
    try:
        with open_file(path) as file:
            before = os.fstat(file.fileno())
            note = _note(before)
            known = None if note is None else _recall(note)
            if known is not None:
                return known
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            unchanged = note == _note(os.fstat(file.fileno()))
    except OSError as problem:
        raise BadFile(f"the file cannot be read: {reason(problem)}", str(path)) from problem
    settled = time.time() - max(before.st_mtime, before.st_ctime) > SETTLED
    if note is not None and unchanged and settled and before.st_size >= WORTH_REMEMBERING:
        _remember(note, digest)
    return digest


def bytes_digest(path: Path) -> str:
    """The sha256, in hex, of the bytes that are there now, whatever is remembered of them. Raises OSError."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(status: os.stat_result) -> Path | None:
    """Where the digest of a file with this identity is kept; None where there is no place for it."""
    folder = own_folder("cache")
    if folder is None:
        return None
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    name = hashlib.sha256(repr(identity).encode()).hexdigest()
    return folder / "digests" / name


def _recall(note: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest = read_file(note, NOTE_BYTES).decode("ascii")
        if re.fullmatch("[0-9a-f]{64}", digest):
            return digest
    return None


def _remember(note: Path, digest: str) -> None:
    # Where it cannot be kept (a read-only home, a full disk) the file is hashed again the next time.
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as file:
            file.write(digest.encode("ascii"))
