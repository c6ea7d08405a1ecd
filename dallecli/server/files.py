"""Files that a server keeps for an hour, in folders of this process, which end with it: pictures and inputs."""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.limits import FILE_SECONDS, FILES_BYTES, INPUT_SECONDS, INPUTS_BYTES
from dallecli.pictures.formats import FORMATS

PREFIX: Final = "dalle-serve-"
TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class Kept:
    """A file's size in bytes, and when it is removed."""

    bytes: int
    until: float


class Shelf:
    """A folder of this process with files that are kept for `seconds`, or until there are more than `most` bytes.

    Only its own names lead to a file: no path is ever made of what a client sends.
    """

    def __init__(self, seconds: float, most: int) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))  # for its owner only
        self._seconds, self._most = seconds, most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.bytes = 0

    async def put(self, name: str, data: bytes) -> None:
        """Keep a file; one of this name that is there begins anew."""
        if name not in self._kept:
            await asyncio.to_thread((self.folder / name).write_bytes, data)
        self._note(name, len(data))
        self.expire()

    async def find(self, name: str) -> bytes | None:
        """The file of this name; None if there is none any more."""
        self.expire()
        if name not in self._kept:
            return None
        with suppress(OSError):
            return await asyncio.to_thread((self.folder / name).read_bytes)
        return None

    def _note(self, name: str, size: int) -> None:
        if name not in self._kept:
            self.bytes += size
        self._kept[name] = Kept(size, time.monotonic() + self._seconds)
        self._kept.move_to_end(name)

    def expire(self) -> None:
        """Remove what is too old, and the oldest of what is too much."""
        now = time.monotonic()
        while self._kept:
            name, oldest = next(iter(self._kept.items()))
            if oldest.until > now and self.bytes <= self._most:
                return
            del self._kept[name]
            self.bytes -= oldest.bytes
            with suppress(OSError):
                (self.folder / name).unlink()

    def close(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Files(Shelf):
    """Pictures of answers, under names that nobody can guess."""

    def __init__(self, seconds: float = FILE_SECONDS, most: int = FILES_BYTES) -> None:
        super().__init__(seconds, most)

    async def keep(self, data: bytes, format: str) -> str:
        """Keep a picture; its name."""
        name = f"{secrets.token_hex(16)}{FORMATS[format]}"
        await self.put(name, data)
        return name


class Inputs(Shelf):
    """What clients that use the server as an engine start from, under its sha256; what is used stays longer."""

    def __init__(self, seconds: float = INPUT_SECONDS, most: int = INPUTS_BYTES) -> None:
        super().__init__(seconds, most)

    def has(self, sha256: str) -> bool:
        """Whether a file is here; if it is, it stays as long as one that is new."""
        self.expire()
        kept = self._kept.get(sha256)
        if kept is None:
            return False
        self._note(sha256, kept.bytes)
        return True


def type_of(name: str) -> str:
    """The media type of a picture by its name."""
    return TYPES[Path(name).suffix]


def _sweep() -> None:
    """Remove the folders of servers that were killed."""
    if os.name != "posix":  # where a process cannot be asked whether it lives
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        with suppress(OSError, ValueError):
            own = folder.lstat()
            number = int(folder.name.removeprefix(PREFIX).partition("-")[0])
            if own.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink() and not _lives(number):
                shutil.rmtree(folder, ignore_errors=True)


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
