"""The bytes of one file, from the Hub or from another repository in the cache, and their check."""

import hashlib
import os
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

from dallecli.errors import BadFile, NetworkError
from dallecli.weights.digest import file_digest
from dallecli.weights.fetch.cache import aside, part_of, place
from dallecli.weights.fetch.progress import TransferProgress
from dallecli.weights.hub import Dropped, Patience, RemoteFile, host, reading

BLOCK: Final = 2**20
"""Bytes of what has arrived already that are read at once."""


@dataclass(frozen=True, slots=True)
class Download:
    """The download of a file; `name` is what progress and errors call it."""

    file: RemoteFile
    name: str
    progress: TransferProgress
    patience: Patience

    def to(self, blob: Path) -> None:
        """Fetch the file to its place in the cache, continuing an earlier attempt, and check it.

        Raises:
            NetworkError: the connection failed too often in a row without new bytes.
            BadFile: the bytes are not what the Hub says they are.
        """
        blob.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(blob)
        for attempt in range(2):
            check = _Check(self.file)
            # Unbuffered: what has arrived is in the file even if this process is killed.
            with part.open("ab+", buffering=0) as draft:
                draft.seek(0)
                while chunk := draft.read(BLOCK):
                    check.add(chunk)
                resumed = check.size > 0
                self.progress.done += min(check.size, self.file.size)
                self._stream(draft, check)
                os.fsync(draft.fileno())
            if check.right:
                part.replace(blob)
                return
            part.replace(aside(blob, check.sha256.hexdigest()))
            self.progress.done -= min(check.size, self.file.size)
            if not resumed or attempt == 1:
                break
            # The part from an earlier attempt may have been wrong: try once more, from the start.
        raise check.refusal(self.name, aside(blob, check.sha256.hexdigest()))

    def _stream(self, draft: FileIO, check: "_Check") -> None:
        """Append to the draft until it is as long as the file, over as many connections as that takes."""
        failures = 0
        furthest = check.size
        while check.size < self.file.size:
            dropped: Dropped | None = None
            try:
                self._connect(draft, check)
            except Dropped as problem:
                dropped = problem
            if check.size >= self.file.size:
                return
            failures = 1 if check.size > furthest else failures + 1
            furthest = max(furthest, check.size)
            if failures >= self.patience.tries:
                if dropped is not None:
                    raise dropped.error from dropped
                what = f"the server ended {self.name} at {check.size} of {self.file.size} bytes"
                raise NetworkError(what, host(), "try again later: the same command goes on where it stopped")
            self.patience.pause(failures, None if dropped is None else dropped.asked)

    def _connect(self, draft: FileIO, check: "_Check") -> None:
        """Append what one connection delivers; stop when it is more than the file has. Raises Dropped."""
        with reading(self.file, check.size, self.patience) as (start, chunks):
            if start < check.size:  # the server gives everything or nothing
                draft.truncate(0)
                self.progress.done -= check.size
                check.restart()
            for chunk in chunks:
                _write(draft, chunk)
                check.add(chunk)
                self.progress.add(len(chunk), self.name)
                if check.size > self.file.size:
                    return


def adopt(file: RemoteFile, blob: Path) -> bool:
    """Link the file from another repository in the cache. Returns False if none has it."""
    if len(file.etag) != 64:
        return False
    for twin in blob.parents[2].glob(f"models--*/blobs/{file.etag}"):
        if is_right(twin, file):
            blob.parent.mkdir(parents=True, exist_ok=True)
            place(twin.resolve(), blob, link=os.link)
            return True
    return False


def is_right(path: Path, file: RemoteFile) -> bool:
    """Whether there is a file whose bytes are those that the Hub names."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if len(file.etag) == 64:
        return file_digest(path) == file.etag
    check = _Check(file)
    check.add(path.read_bytes())
    return check.right


@dataclass(slots=True)
class _Check:
    """Hashes the bytes of a file as they pass: sha256, and what the Hub calls them."""

    file: RemoteFile
    size: int = 0
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    git: "hashlib._Hash" = field(init=False)
    md5: "hashlib._Hash" = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.size, self.sha256 = 0, hashlib.sha256()
        # A blob's name in git is the SHA-1 of its length and its bytes; security does not depend on it.
        self.git = hashlib.sha1(b"blob %d\0" % self.file.size, usedforsecurity=False)
        self.md5 = hashlib.md5(usedforsecurity=False)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sha256.update(chunk)
        if len(self.file.etag) == 40:
            self.git.update(chunk)
        if self.file.md5 is not None:
            self.md5.update(chunk)

    @property
    def right(self) -> bool:
        """Whether these were all bytes of the file, and no others."""
        found = self.git if len(self.file.etag) == 40 else self.sha256
        known = self.file.etag in ("", found.hexdigest()) and self.file.md5 in (None, self.md5.digest())
        return self.size == self.file.size and known

    def refusal(self, name: str, place: Path) -> BadFile:
        """The error about wrong bytes, which were set aside at `place`."""
        found, kind, stated = self.sha256, "sha256", self.file.etag
        if len(stated) == 40:
            found, kind = self.git, "git's SHA-1"
        elif stated in ("", found.hexdigest()) and self.file.md5 is not None:
            found, kind, stated = self.md5, "MD5", self.file.md5.hex()
        says = "the Hub says" if self.file.url is None else "expected is"
        what = f"{name} came with the wrong bytes: their {kind} is {found.hexdigest()[:12]}…, {says} {stated[:12]}…"
        if self.size != self.file.size:  # then comparing digests says nothing
            what = f"{name} came with {self.size} bytes, {says} {self.file.size}"
        return BadFile(what, str(place), "they were set aside; pull again to fetch the file once more")


def _write(draft: FileIO, chunk: bytes) -> None:
    """Write the whole chunk: unbuffered, a disk that is almost full takes only a part, and returns how much."""
    view = memoryview(chunk)
    while view:
        view = view[draft.write(view) :]
