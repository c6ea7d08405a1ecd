"""The files of a model on their way from the driver to a machine without them.

A machine keeps them in dalle's own cache, in a folder named after all their hashes, and under the name of the model.
A file is written beside its place, and gets its name when its bytes are those that were promised.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dallecli.errors import BadFile, BadOutput
from dallecli.own_folders import NOWHERE, SET_ONE, own_folder
from dallecli.publish import disk_errors
from dallecli.weights.digest import file_digest

PIECE: Final = 32 * 2**20
"""Bytes that are sent at a time."""

Files = Mapping[str, tuple[int, str]]
"""Of a model by their names in its folder: size and sha256."""


def files_of(folder: Path) -> dict[str, tuple[int, str]]:
    """All files of a model's folder. The first time, every byte is read. Raises BadFile."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, file_digest(path)) for path in paths}


def pieces(path: Path) -> Iterator[tuple[int, bytes]]:
    """A file piece by piece, each with its offset; an empty file is one piece. Raises BadFile."""
    try:
        with path.open("rb") as file:
            offset = 0
            while True:
                data = file.read(PIECE)
                if data or offset == 0:
                    yield offset, data
                offset += len(data)
                if len(data) < PIECE:
                    return
    except OSError as error:
        raise BadFile(f"a file of the model cannot be read: {error.strerror}", where=str(path)) from error


class Inbox:
    """Where a machine takes the files of a model."""

    def __init__(self, name: str, files: Files) -> None:
        cache = own_folder("cache")
        if cache is None:
            raise BadOutput(NOWHERE, hint=SET_ONE)
        digest = hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
        plain = re.sub(r"[^\w.@-]", "-", name).strip(".") or "model"
        self.folder = cache / "cluster" / digest[:16] / plain
        self._files = files

    def missing(self) -> list[str]:
        """The files that are not here."""
        return [name for name, (size, _) in self._files.items() if not self._is_here(name, size)]

    def take(self, name: str, offset: int, data: bytes) -> None:
        """Take a piece; with the last one the file gets its name. Raises BadFile, BadOutput, DiskFull."""
        size, sha256 = self._files[name]
        path = self._place(name)
        growing = path.with_name(f"{path.name}.{os.getpid()}.part")
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with growing.open("wb" if offset == 0 else "r+b") as file:
                file.seek(offset)
                file.write(data)
            if offset + len(data) < size:
                return
            with growing.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                growing.unlink()
                raise BadFile("other bytes came than the driver promised", where=str(path))
            growing.replace(path)

    def _is_here(self, name: str, size: int) -> bool:
        path = self._place(name)
        return path.is_file() and path.stat().st_size == size

    def _place(self, name: str) -> Path:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise BadFile("a file of the model would lie outside of its folder", where=name)
        return path
