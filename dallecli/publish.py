"""Bytes onto a disk, whole or not at all.

Whatever happens, a kill or a power failure included, a name that others may see belongs to the whole of the new bytes
or to what was there before. The bytes go to a hidden file in the same folder, are synced, and only then get their name:

    publish, publish_new        bytes under a name that is free, or that may be replaced
    replacing                   bytes that are written bit by bit
    check_file, check_folder    finding out before hours of work whether publishing will succeed
"""

import contextlib
import errno
import os
import secrets
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from dallecli.errors import BadOutput, DiskFull, reason

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How the system says that there is no space left."""


def publish(path: Path, data: bytes, *, force: bool) -> Path:
    """Make `data` visible under `path`, and return it.

    Without `force` an existing file is never replaced, not even one that appears in this very moment. Through a link,
    what it points to is replaced. Raises BadOutput or DiskFull; what stood there before still stands.
    """
    check_file(path, force=force)
    # Renaming would replace the link itself.
    target = path.resolve() if path.is_symlink() else path
    with _draft(target.parent, data) as draft:
        with disk_errors(path):
            if force:
                draft.replace(target)
            else:
                try:
                    _land(draft, target)
                except FileExistsError as error:
                    raise _taken(path) from error
        _sync_folder(target.parent)
    return path


def publish_new(folder: Path, name: str, data: bytes) -> Path:
    """Like `publish`, under a name that is free: `name`, else with -2, -3, … before its suffix."""
    stem, suffix = Path(name).stem, Path(name).suffix
    with _draft(folder, data) as draft:
        number = 1
        while True:
            path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
            with disk_errors(path):
                try:
                    _land(draft, path)
                except FileExistsError:
                    number += 1
                    continue
            _sync_folder(folder)
            return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces what is under `path` if the `with` block ends well. Raises OSError."""
    with _hidden(path.parent) as draft:
        with _new_file(draft) as file:
            yield file
        draft.replace(path)
        _sync_folder(path.parent)


def check_folder(folder: Path, space: int) -> None:
    """Find out whether a file of `space` bytes can be put into a folder, by beginning one.

    Raises: BadOutput if the folder is missing, not a folder, or not writable; DiskFull.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        hint = "name a folder" if folder.exists() else f"create it: mkdir -p {shlex.quote(str(folder))}"
        raise BadOutput(f"the output folder {what}", where=str(folder), hint=hint)
    with _draft(folder, b""):
        pass
    if shutil.disk_usage(folder).free < space:
        hint = "make room, or choose another folder with --out"
        raise DiskFull(f"less than {space} bytes are free", where=str(folder), hint=hint)


def check_file(path: Path, *, force: bool) -> None:
    """Find out whether a file can be published under `path`.

    Raises: BadOutput for a folder, a device, or (without `force`) an existing file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(error, path) from error
    if stat.S_ISDIR(mode):
        raise BadOutput("the output is a folder", where=str(path), hint="name a file, or use --out for a folder")
    if not stat.S_ISREG(mode):
        raise BadOutput("the output is not a regular file", where=str(path), hint="use -o - to write to a pipe")
    if not force:
        raise _taken(path)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Inside, what the system says about a file that is written becomes BadOutput or DiskFull."""
    try:
        yield
    except OSError as error:
        raise _refusal(error, path) from error


def _taken(path: Path) -> BadOutput:
    hint = "choose another name, or replace it with --force"
    return BadOutput("the file exists already", where=str(path), hint=hint)


def _refusal(error: OSError, path: Path) -> BadOutput | DiskFull:
    if error.errno in FULL:
        return DiskFull("the disk is full", where=str(path), hint="make room; nothing was half-written")
    return BadOutput(
        f"cannot write here: {reason(error)}", where=str(path), hint="choose another place with -o or --out"
    )


@contextlib.contextmanager
def _draft(folder: Path, data: bytes) -> Iterator[Path]:
    """A hidden file that holds `data`, safely on the disk. Raises BadOutput, DiskFull."""
    with _hidden(folder) as draft:
        with disk_errors(folder), _new_file(draft) as file:
            file.write(data)
        yield draft


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[Path]:
    """A name for a hidden file, which is removed at the end unless it was renamed."""
    path = folder / f".dalle-{secrets.token_hex(8)}.tmp"
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):  # what matters has been said, or is there
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that did not exist, to write to; at the end its bytes are on the disk."""
    # 0o666 and not mkstemp's 0o600: the umask decides who may read a picture.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _land(draft: Path, target: Path) -> None:
    """Give a finished file its name. Raises FileExistsError if the name is taken; never replaces."""
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        # FAT and some network file systems have no hard links: claim the name first, then fill it.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        draft.replace(target)


def _sync_folder(folder: Path) -> None:
    """Write down the new name itself. Where a folder cannot be synced (Windows, some mounts) there is nothing to do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
