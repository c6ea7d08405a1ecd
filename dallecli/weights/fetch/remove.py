"""Removing from the cache what no lock and no other program uses."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from dallecli.weights.fetch.cache import PART, WRONG, alone, cache_errors, leftovers, model_lock, snapshot
from dallecli.weights.lock import Lock, LockedFile, all_locks, converted, folder_path, lock_path, repository_cache


def remove(lock: Lock) -> int:
    """Remove a pulled model from this machine, without files that are used elsewhere. Returns the bytes freed."""
    with cache_errors(), alone(model_lock(lock.model)):
        shutil.rmtree(folder_path(lock.model), ignore_errors=True)
        lock_path(lock.model).unlink(missing_ok=True)
        freed = discard(lock, lock.files)
        for repository in lock.commits:
            _prune(repository_cache(repository))
        _prune(converted("any").parent)
    return freed


def discard(lock: Lock, files: Sequence[LockedFile]) -> int:
    """Remove files of a former lock that no other lock or program uses. Returns the bytes freed."""
    used = {other.blob(file) for other in all_locks() for file in other.files}
    for repository in lock.commits:
        snapshots = repository_cache(repository) / "snapshots"
        links = (path for path in snapshots.rglob("*") if path.is_symlink())
        used |= {path.resolve() for path in links if lock.commits[repository] not in path.parts}
    freed = 0
    for file in files:
        blob = lock.blob(file)
        gone = leftovers(lock, file)
        if file.ours and blob not in used and blob.resolve() not in used:
            gone.append(blob)
            if not file.made:
                snapshot(lock, file).unlink(missing_ok=True)
        for path in gone:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                path.unlink()
                freed += status.st_size if status.st_nlink == 1 else 0
    return freed


def sweep(lock: Lock) -> None:
    """Remove what earlier pulls left in these repositories of files that no lock names any more."""
    wanted = {file.etag for other in all_locks() for file in other.files}
    for repository in lock.commits:
        for pattern in (f"*{PART}", f"*{WRONG}*"):
            for path in (repository_cache(repository) / "blobs").glob(pattern):
                if path.name.partition(".")[0] not in wanted:
                    path.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Remove empty folders inside a folder, and the folder itself if only the names of branches are left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
    if not any(path.is_file() or path.is_symlink() for path in folder.rglob("*") if "refs" not in path.parts):
        shutil.rmtree(folder, ignore_errors=True)
