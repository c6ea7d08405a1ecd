"""Bytes onto a disk, whole or not at all.

Whatever happens, a kill or a power failure included, a name that others may see belongs to the whole of the new bytes
or to what was there before. The bytes go to a hidden file in the same folder, are synced, and only then get their name:

    publish, publish_new        bytes under a name that is free, or that may be replaced
    replacing                   bytes that are written bit by bit
    check_file, check_folder    finding out before hours of work whether publishing will succeed
    open_own                    a file that grows, as a journal
    remove_abandoned            the hidden files of writers that were killed

A hidden file is locked as long as its writer lives, whoever that is; so nobody takes away what is still being written.
No link is followed by a name that is written to.
"""

import contextlib
import errno
import os
import re
import secrets
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from dallecli.errors import BadOutput, DiskFull, reason

try:
    import fcntl
except ImportError:  # Windows, where nothing is known about the writer of a hidden file, and none is removed
    fcntl = None  # type: ignore[assignment]

FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How the system says that there is no space left."""

_HIDDEN: Final = re.compile(r"\.dalle-[0-9a-f]{16}\.tmp")


def publish(path: Path, data: bytes, *, force: bool) -> Path:
    """Make `data` visible under `path`, and return it.

    Without `force` an existing file is never replaced, not even one that appears in this very moment. With it, a link
    is replaced, and never what it points to. Raises BadOutput or DiskFull; what stood there before still stands.
    """
    check_file(path, force=force)
    with _draft(path.parent, data) as draft:
        with disk_errors(path):
            if force:
                draft.replace(path)
            else:
                try:
                    _land(draft, path)
                except FileExistsError as error:
                    raise _taken(path) from error
        _sync_folder(path.parent)
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
    with _hidden(path.parent) as (draft, file):
        yield file
        _finish(file)
        draft.replace(path)
        _sync_folder(path.parent)


def open_own(path: Path, flags: int) -> int:
    """Open a file that we write to in its place; it is made if it is missing. Returns its descriptor.

    Raises: BadOutput for a link and for anything but a regular file; DiskFull.
    """
    with disk_errors(path):
        if path.is_symlink():
            raise _is_link(path, "remove the link")
        # Without O_NONBLOCK a pipe would be waited for.
        more = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
        descriptor = os.open(path, flags | os.O_CREAT | more, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadOutput("this is not a regular file", where=str(path), hint="move it away")
        return descriptor


def remove_abandoned(folder: Path) -> None:
    """Remove hidden files from a folder and all below it whose writers were killed; those of living ones are locked."""
    folders = [str(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:  # one by one: there may be a million pictures
                if _HIDDEN.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        _remove_if_abandoned(Path(entry.path))
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _remove_if_abandoned(path: Path) -> None:
    """Raises OSError if somebody writes to a hidden file, or where nothing can be known about it."""
    if fcntl is None:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


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

    Raises: BadOutput for a folder, a device, or (without `force`) an existing file or link.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(error, path) from error
    link = stat.S_ISLNK(mode)
    if link:
        try:
            mode = path.stat().st_mode
        except OSError:  # it leads nowhere, so it hides no folder and no device
            mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise BadOutput("the output is a folder", where=str(path), hint="name a file, or use --out for a folder")
    if not stat.S_ISREG(mode):
        raise BadOutput("the output is not a regular file", where=str(path), hint="use -o - to write to a pipe")
    if link and not force:
        raise _is_link(path, "choose another name, or replace the link itself with --force")
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


def _is_link(path: Path, hint: str) -> BadOutput:
    return BadOutput("this is a link, and leads elsewhere", where=str(path), hint=hint)


def _refusal(error: OSError, path: Path) -> BadOutput | DiskFull:
    if error.errno in FULL:
        return DiskFull("the disk is full", where=str(path), hint="make room; nothing was half-written")
    return BadOutput(
        f"cannot write here: {reason(error)}", where=str(path), hint="choose another place with -o or --out"
    )


@contextlib.contextmanager
def _draft(folder: Path, data: bytes) -> Iterator[Path]:
    """A hidden file that holds `data`, safely on the disk. Raises BadOutput, DiskFull."""
    with contextlib.ExitStack() as stack:
        with disk_errors(folder):
            path, file = stack.enter_context(_hidden(folder))
            file.write(data)
            _finish(file)
        yield path


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden file to write to, locked to the end; then it is removed unless it was renamed."""
    path, file = _new_file(folder)
    try:
        yield path, file
    finally:
        with contextlib.suppress(OSError):  # what matters has been said, or is there
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.close()


def _new_file(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".dalle-{secrets.token_hex(8)}.tmp"
        # 0o666 and not mkstemp's 0o600: the umask decides who may read a picture.
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")
        if _locked(file):
            return path, file
        file.close()


def _locked(file: BinaryIO) -> bool:
    """Lock a new hidden file. False if somebody took it for an abandoned one before it was locked, and removed it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks, on which nobody can lock it to remove it either
        return True
    return os.fstat(file.fileno()).st_nlink > 0


def _finish(file: BinaryIO) -> None:
    """Put the bytes of a hidden file on the disk."""
    file.flush()
    os.fsync(file.fileno())
    if fcntl is None:
        file.close()  # Windows renames no open file


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
