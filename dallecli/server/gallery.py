"""The pictures that the page shows: the files of a folder, with what their recipes say.

The folder is the only record: what is in it is shown, whoever put it there, and a server that was killed has lost
nothing. Links are not followed, and what a file is says its content. A client never names a file: it gets an id of each
that nobody can guess, and only ids that were given out lead anywhere.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from dallecli.errors import BadOutput, DalleError, reason
from dallecli.limits import GALLERY_BYTES, GALLERY_FILES, HEAD_BYTES, SHOWN_CHARACTERS, in_words, read_stream
from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.names import file_name
from dallecli.pictures.picture import Picture
from dallecli.pictures.plain import format_of
from dallecli.publish import publish, publish_new, remove_abandoned
from dallecli.recipe import Recipe
from dallecli.source import Source

SUFFIXES: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}

INPUTS: Final = "inputs"
"""The folder, in that of the pictures, of what they were made from: `dalle replay` needs it."""

_DIGEST: Final = re.compile("[0-9a-f]{64}")
"""Recipes come from strangers, and files are named after this."""

FRESH_SECONDS: Final = 0.5
"""For so long the list of files is not made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture in a folder. `made`: when, in seconds. recipe: None where it has none, and `problem` says why."""

    id: str
    file: str
    name: str
    made: float
    bytes: int
    recipe: dict[str, Any] | None
    problem: str | None = None

    def matches(self, words: Sequence[str]) -> bool:
        """Whether all of these are in what can be read of it, in any case."""
        recipe = self.recipe if self.recipe is not None else {}
        text = " ".join(str(recipe.get(key, "")) for key in ("prompt", "title", "model", "seed", "task"))
        return all(word in f"{text} {self.name}".casefold() for word in words)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the page."""
        facts = {"id": self.id, "url": f"files/{self.file}", "name": self.name, "made": self.made, "bytes": self.bytes}
        return {**facts, "problem": self.problem, "recipe": self.recipe}


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What tells that a file is still the one that was read."""

    modified: int
    bytes: int
    inode: int


class Gallery:
    """The pictures of a folder, the newest first. With `writable` pictures can be kept in it, and removed.

    With `deep` those of all folders in it, too, but for what pictures that were kept were made from. The folder is made
    when something is to be kept. Methods read and write files: call them in a thread.
    """

    def __init__(self, folder: Path, *, writable: bool, deep: bool = False) -> None:
        self.folder = folder
        self.writable = writable
        self.deep = deep
        self.version = ""
        """Another one when something has changed."""
        self.incomplete = False
        """Whether something in the folder is not looked at: there is too much, or it cannot be read."""
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._known: dict[str, tuple[_Stamp, Shown | None]] = {}
        self._shown: dict[str, Shown] = {}
        if writable and folder.is_dir():
            remove_abandoned(folder)

    def pictures(self, *, now: bool = False) -> list[Shown]:
        """All of them; `now` looks at the folder even if that was done a moment ago."""
        with self._lock:
            if now or time.monotonic() - self._read_at > FRESH_SECONDS:
                self._look()
                self._read_at = time.monotonic()
            return list(self._shown.values())

    def find(self, id: str) -> Shown | None:
        """The picture with this id; None if there is none, or not any more."""
        with self._lock:
            return self._shown.get(id)

    def path(self, shown: Shown) -> Path:
        """Where a picture is."""
        return self.folder.absolute() / shown.name

    def read(self, shown: Shown) -> tuple[bytes, str] | None:
        """The bytes of a picture and its suffix; None where there is no picture any more."""
        with suppress(OSError):
            data = _bytes(self.folder / shown.name, GALLERY_BYTES)
            format = format_of(data)
            return (data, SUFFIXES[format]) if format is not None else None
        return None

    def recipe(self, shown: Shown) -> Recipe | None:
        """The whole recipe of a picture; None if it has none."""
        found = self.read(shown)
        if found is None:
            return None
        with suppress(DalleError):
            return read_recipe(found[0], where=shown.name)
        return None

    def keep(self, picture: Picture, data: bytes, suffix: str) -> Shown:
        """Put a picture into the folder, whole or not at all. Raises BadOutput, DiskFull."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadOutput(f"the folder of pictures cannot be made: {reason(error)}", str(self.folder)) from error
        recipe = picture.recipe
        for source in (*recipe.inputs, *recipe.settings.mask_files):
            self._keep_input(source)
        path = publish_new(self.folder, file_name(recipe.title, recipe.seed, suffix), data)
        self.pictures(now=True)
        shown = self.find(self._id(path.name))
        if shown is None:
            raise BadOutput("the picture was taken away at once", where=str(path))
        return shown

    def remove(self, shown: Shown) -> None:
        """Remove a picture, and what it was made from if no other was. Raises BadOutput."""
        try:
            self.path(shown).unlink(missing_ok=True)
        except OSError as error:
            raise BadOutput(f"the picture cannot be removed: {reason(error)}", where=str(self.path(shown))) from error
        needed = {digest for other in self.pictures(now=True) for digest in _inputs(other)}
        for digest in _inputs(shown):
            if digest not in needed:
                for suffix in SUFFIXES.values():
                    with suppress(OSError):
                        (self.folder / INPUTS / f"{digest}{suffix}").unlink()

    def _keep_input(self, source: Source) -> None:
        """Put what a picture was made from beside it, once. Raises BadOutput, DiskFull."""
        format = format_of(source.data) if source.data is not None else None
        if source.data is None or source.sha256 is None or format is None:
            return
        folder = self.folder / INPUTS
        folder.mkdir(exist_ok=True)
        path = folder / f"{source.sha256}{SUFFIXES[format]}"
        if not path.is_file():
            publish(path, source.data, force=True)

    def _id(self, name: str) -> str:
        return hmac.digest(self._secret, os.fsencode(name), "sha256").hex()[:32]

    def _look(self) -> None:
        """Read what is new in the folder."""
        found: dict[str, tuple[_Stamp, Shown | None]] = {}
        files, self.incomplete = _files(self.folder, deep=self.deep)
        for name, stamp in files.items():
            known = self._known.get(name)
            found[name] = known if known is not None and known[0] == stamp else (stamp, self._read(name, stamp))
        self._known = found
        shown = [one for _, one in found.values() if one is not None]
        shown.sort(key=lambda one: (-one.made, one.name))
        self._shown = {one.id: one for one in shown}
        stamps = "\n".join(f"{one.id} {one.made} {one.bytes}" for one in shown)
        self.version = hashlib.sha256(stamps.encode()).hexdigest()[:16]

    def _read(self, name: str, stamp: _Stamp) -> Shown | None:
        """What there is to show of a file; None if it is no picture."""
        recipe, problem = None, None
        try:
            data = _bytes(self.folder / name, HEAD_BYTES, cut=True)
            format = format_of(data)
            if format is None:
                return None
            id = self._id(name)
            facts = {"id": id, "file": f"{id}{SUFFIXES[format]}", "name": name}
            if stamp.bytes > GALLERY_BYTES:
                problem = f"it has more than {in_words(GALLERY_BYTES)}"
            else:
                recipe = self._recipe(name, data, whole=stamp.bytes <= len(data))
        except DalleError as error:
            problem = error.what
        except OSError:
            return None
        made = stamp.modified / 1e9
        return Shown(**facts, made=made, bytes=stamp.bytes, recipe=_brief(recipe), problem=problem)

    def _recipe(self, name: str, data: bytes, *, whole: bool) -> Recipe:
        """Raises BadRecipe, BadPicture, OSError."""
        if not whole and format_of(data) == "PNG":
            with suppress(DalleError):  # our own PNGs have it in front
                return read_recipe(data, where=name)
        return read_recipe(data if whole else _bytes(self.folder / name, GALLERY_BYTES), where=name)


def _files(folder: Path, *, deep: bool) -> tuple[dict[str, _Stamp], bool]:
    """The regular files of a folder that are not hidden, and whether something is not looked at.

    With `deep` those of the folders in it, too, the nearest first, by their paths from it.
    """
    found: dict[str, _Stamp] = {}
    waiting, seen, incomplete = deque([""]), 0, False
    while waiting:
        place = waiting.popleft()
        try:
            entries = os.scandir(folder / place)
        except FileNotFoundError:  # it is not there yet, or not any more
            continue
        except OSError:
            incomplete = True
            continue
        with suppress(OSError), entries:
            for entry in entries:
                if seen == GALLERY_FILES:
                    return found, True
                seen += 1
                if entry.name.startswith("."):
                    continue
                with suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode) and not _is_kept_input(place, entry.name):
                        found[place + entry.name] = _Stamp(facts.st_mtime_ns, facts.st_size, facts.st_ino)
                    elif stat.S_ISDIR(facts.st_mode) and deep:
                        waiting.append(f"{place}{entry.name}/")
    return found, incomplete


def _is_kept_input(place: str, name: str) -> bool:
    """Whether a file is what a picture that was kept was made from, and no picture of its own."""
    return PurePosixPath(place).name == INPUTS and _DIGEST.fullmatch(PurePosixPath(name).stem) is not None


def _bytes(path: Path, most: int, *, cut: bool = False) -> bytes:
    """The bytes of a regular file, not more than `most`: with `cut` its first ones. Raises OSError."""
    more = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    with os.fdopen(os.open(path, os.O_RDONLY | more), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is no file")
        return file.read(most) if cut else read_stream(file, most)


def _brief(recipe: Recipe | None) -> dict[str, Any] | None:
    """What the list of pictures has of a recipe."""
    if recipe is None:
        return None
    digests = [source.sha256 for source in (*recipe.inputs, *recipe.settings.mask_files)]
    return {
        "task": recipe.task,
        "title": recipe.title[:SHOWN_CHARACTERS],
        "prompt": recipe.prompt[:SHOWN_CHARACTERS],
        "model": recipe.model,
        "seed": recipe.seed,
        "size": str(recipe.picture_size),
        "inputs": [digest for digest in digests if digest is not None and _DIGEST.fullmatch(digest)],
    }


def _inputs(shown: Shown) -> list[str]:
    found: list[str] = shown.recipe["inputs"] if shown.recipe is not None else []
    return found
