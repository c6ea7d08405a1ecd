"""Where a pull puts things in the Hugging Face cache and beside it, and under which locks.

A file that has not arrived in full lies beside its place with the suffix `PART`; bytes that were wrong, with `WRONG`.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dallecli.errors import BadOutput, DiskFull, reason
from dallecli.own_folders import NOWHERE
from dallecli.publish import FULL
from dallecli.weights.digest import bytes_digest
from dallecli.weights.hub_constants import hub_constants
from dallecli.weights.lock import Lock, LockedFile, cached, folder_path, home, repository_cache

PART: Final = ".dalle-part"
"""The suffix of a file in the cache that has not arrived in full."""

WRONG: Final = ".wrong-"
"""What follows the name of a file in the cache whose bytes are wrong; the beginning of their sha256 comes after it."""


def part_of(blob: Path) -> Path:
    """Where the bytes of a file are while it has not arrived in full."""
    return blob.with_name(blob.name + PART)


def aside(blob: Path, sha256: str) -> Path:
    """Where wrong bytes, with this sha256, are put that were to be a file's."""
    return blob.with_name(f"{blob.name}{WRONG}{sha256[:8]}")


def set_aside(blob: Path) -> None:
    """Move away what has the name of a file and is not that file."""
    if blob.is_file():
        blob.replace(aside(blob, bytes_digest(blob)))
    else:
        blob.unlink(missing_ok=True)  # a link to nowhere


def wrong(lock: Lock, file: LockedFile) -> list[Path]:
    """What had the name of a file and was not that file."""
    blobs = {cached(file.repository, file.etag), lock.blob(file)}
    return [path for blob in blobs for path in blob.parent.glob(f"{blob.name}{WRONG}*")]


def leftovers(lock: Lock, file: LockedFile) -> list[Path]:
    """What attempts to fetch a file have left behind."""
    part = part_of(cached(file.repository, file.etag))
    return [*wrong(lock, file), *([part] if part.exists() else [])]


def snapshot(lock: Lock, file: LockedFile) -> Path:
    """The name that the Hugging Face cache gives to a file, whose bytes it keeps as a blob."""
    return repository_cache(file.repository) / "snapshots" / lock.commits[file.repository] / file.source


def assemble(lock: Lock) -> Path:
    """Make the model's folder, of links into the cache. It appears when it is complete."""
    folder = folder_path(lock.model)
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for file in lock.files:
        # As deep as it will be: the links are relative.
        place(lock.blob(file).absolute(), draft / file.path, link=symlink)
    if folder.is_dir():
        shutil.rmtree(folder)
    draft.replace(folder)
    return folder


def place(target: Path, path: Path, *, link: Callable[[str, Path], None]) -> None:
    """Make `path` a link to a file, or a copy where the system has no such links."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        link(str(target), path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK, errno.EINVAL, errno.EACCES):
            raise
        shutil.copy2(target, path)


def symlink(target: str, path: Path) -> None:
    """A relative link, so that the whole of HF_HOME can be moved."""
    path.symlink_to(os.path.relpath(target, path.parent.resolve()))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other processes out of the block, with a lock as huggingface_hub takes it."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # lazy there

    check_home()
    path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(path):
        yield


def check_home() -> None:
    """Refuse a folder called "~", which Python names where a user has no home folder. Raises BadOutput."""
    constants = hub_constants()
    for folder in (constants.HF_HOME, constants.HF_HUB_CACHE):
        if str(folder).startswith("~"):
            what = f"there is no place for models: {NOWHERE}" if str(folder).startswith("~/") else "no such user"
            raise BadOutput(what, str(folder), "set HF_HOME to a folder")


def model_lock(model: str) -> Path:
    """The lock under which a model is pulled or removed."""
    return home() / ".locks" / f"{folder_path(model).name}.lock"


def hub_lock(file: LockedFile) -> Path:
    """The lock under which huggingface_hub itself would fetch this file."""
    cache = repository_cache(file.repository)
    return cache.parent / ".locks" / cache.name / f"{file.etag}.lock"


@contextmanager
def cache_errors() -> Iterator[None]:
    """Inside, what the system says about the cache becomes BadOutput or DiskFull."""
    try:
        yield
    except OSError as error:
        where = None if error.filename is None else str(error.filename)
        if error.errno in FULL:
            hint = "make room, and run the same command again: it goes on where it stopped"
            raise DiskFull("the disk is full", where, hint) from error
        raise BadOutput(f"the cache of models cannot be used: {reason(error)}", where, "see HF_HOME") from error
