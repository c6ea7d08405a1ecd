"""Pictures under URLs that nobody can guess, for an hour: in a folder of this process, which ends with it."""

import asyncio
import os
import re
import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.limits import FILE_SECONDS, FILES_BYTES
from dallecli.pictures.formats import FORMATS

PREFIX: Final = "dalle-serve-"
NAME: Final = re.compile(r"[0-9a-f]{32}\.(png|jpg|webp)")
TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture's size in bytes, and when it is removed."""

    bytes: int
    until: float


class Files:
    """Keeps pictures for `seconds`, or until there are more than `most` bytes of younger ones.

    Only its own names lead to a file: no path is ever made of what a client sends.
    """

    def __init__(self, seconds: float = FILE_SECONDS, most: int = FILES_BYTES) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))  # for its owner only
        self._seconds, self._most = seconds, most
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.bytes = 0

    async def keep(self, data: bytes, format: str) -> str:
        """Keep a picture; its name."""
        name = f"{secrets.token_hex(16)}{FORMATS[format]}"
        await asyncio.to_thread((self.folder / name).write_bytes, data)
        self._kept[name] = Kept(len(data), time.monotonic() + self._seconds)
        self.bytes += len(data)
        self.expire()
        return name

    async def find(self, name: str) -> bytes | None:
        """The picture of this name; None if there is none any more."""
        self.expire()
        if NAME.fullmatch(name) is None or name not in self._kept:
            return None
        with suppress(OSError):
            return await asyncio.to_thread((self.folder / name).read_bytes)
        return None

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
