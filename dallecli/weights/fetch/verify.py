"""Whether the bytes of a pulled model are those that were pulled."""

from dallecli.weights.digest import bytes_digest, file_digest
from dallecli.weights.fetch.cache import aside
from dallecli.weights.fetch.download import is_right
from dallecli.weights.fetch.progress import Report, TransferProgress
from dallecli.weights.lock import Lock, LockedFile


def verify(lock: Lock, report: Report) -> list[LockedFile]:
    """Read every byte of a pulled model again. Returns the files that are missing or wrong.

    Wrong files are set aside, so that nothing reads them any more, and the next pull fetches them again.
    """
    progress = TransferProgress(report, sum(file.size for file in lock.files))
    bad = []
    for file in lock.files:
        blob = lock.blob(file)
        progress.show("checking", file.path)
        try:
            found = bytes_digest(blob)
        except OSError:
            bad.append(file)
        else:
            if found != file.sha256:
                blob.replace(aside(blob, found))
                bad.append(file)
        progress.done += file.size
        progress.show("checking", file.path)
    return bad


def intact(lock: Lock, file: LockedFile) -> bool:
    """Whether the bytes of a file are here, and right. An unchanged large file is read only once (see digest.py)."""
    if file.sha256 is None:
        return False
    blob = lock.blob(file)
    if file.made:
        return blob.is_file() and file_digest(blob) == file.sha256
    return file_digest(blob) == file.sha256 if file.pickled and blob.is_file() else is_right(blob, lock.remote(file))
