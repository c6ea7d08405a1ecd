"""Pulling a model, from the plan to the finished folder."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from dallecli.weights.convert import convert
from dallecli.weights.digest import bytes_digest, file_digest
from dallecli.weights.fetch.cache import (
    alone,
    assemble,
    cache_errors,
    hub_lock,
    model_lock,
    place,
    set_aside,
    snapshot,
    symlink,
    wrong,
)
from dallecli.weights.fetch.download import Download, adopt, is_right
from dallecli.weights.fetch.made import Pulled, make
from dallecli.weights.fetch.plan import Plan, arrived, check_space, planned_lock
from dallecli.weights.fetch.progress import Report, TransferProgress
from dallecli.weights.fetch.remove import discard, sweep
from dallecli.weights.fetch.verify import intact
from dallecli.weights.hub import Patience
from dallecli.weights.lock import Lock, LockedFile, cached, converted, home, read_lock
from dallecli.weights.registry import registry


def pull(
    name: str,
    *,
    tasks: Sequence[str] | None = None,
    half: bool | None = None,
    agree: Callable[[Plan], None],
    report: Report,
    patience: Patience | None = None,
) -> Pulled:
    """Bring a registered model, or hf:ORG/NAME@REVISION, onto this machine, and repair what is damaged.

    Only what is missing is fetched; a model that is complete is checked without a network.

    tasks: fetch only the parts that these need, in addition to those that were pulled before; None for all. half:
    prefer weights in half precision where they are published; None for what was pulled before. agree: is called once
    with the plan, and may raise to prevent it. report: is called as bytes arrive.

    Raises:
        UnknownModel: no model or repository has this name.
        RequestError: there is nothing to pull, or the model has no such task.
        NetworkError: the Hub cannot be reached, or refuses.
        BadFile: the bytes that came were wrong, or a pickle cannot be converted.
        BadFolder: the repository does not hold this model.
        DiskFull: there is not enough space.
    """
    patience = patience if patience is not None else Patience()
    spec = registry().get(name)
    with cache_errors(), alone(model_lock(name)):
        before = read_lock(name)
        if spec is not None and spec.files:
            return make(spec, before, tasks, agree, report, patience)
        lock = planned_lock(name, before, tasks, half, patience)
        missing = [file for file in lock.files if not intact(lock, file)]
        check_space(missing)
        coming = sum(file.size - arrived(file) for file in missing)
        agree(Plan(lock=lock, fresh=before is None, bytes=coming, missing=tuple(missing)))
        lock.write()
        progress = TransferProgress(report, sum(file.size for file in missing))
        for file in missing:
            lock = _bring(lock, file, progress, patience)
        lock = _convert(lock, [file for file in missing if file.pickled], progress)
        lock.write()
        folder = assemble(lock)
        if before is not None:
            discard(before, before.files)  # those that are not in the new lock
        sweep(lock)
    return Pulled(lock=lock, folder=folder, fetched=progress.fetched)


def _bring(lock: Lock, file: LockedFile, progress: TransferProgress, patience: Patience) -> Lock:
    """Bring one file into the cache. The lock that is returned has its sha256, unless it is still to be converted."""
    remote = lock.remote(file)
    blob = cached(file.repository, file.etag)
    if is_right(blob, remote):
        progress.done += file.size
    else:
        with alone(hub_lock(file)):
            set_aside(blob)
            if adopt(remote, blob):
                progress.done += file.size
            else:
                Download(remote, file.path, progress, patience).to(blob)
    place(blob.absolute(), snapshot(lock, file), link=symlink)
    for path in wrong(lock, file):
        path.unlink()
    return lock if file.pickled else lock.with_file(replace(file, sha256=file_digest(blob)))


def _convert(lock: Lock, files: Sequence[LockedFile], progress: TransferProgress) -> Lock:
    """Convert what was published only as pickles, and keep the results under their sha256 instead."""
    if not files:
        return lock
    progress.show("converting", files[0].path)
    blobs = {cached(file.repository, file.etag): file for file in files}
    drafts = {blob: converted(f"draft-{file.etag}") for blob, file in blobs.items()}
    converted("any").parent.mkdir(parents=True, exist_ok=True)
    with alone(home() / ".locks" / "converted.lock"):  # another model may have the same pickle, and be pulled now
        convert(drafts)
        sums = {blob: bytes_digest(draft) for blob, draft in drafts.items()}
        for blob, draft in drafts.items():
            draft.replace(converted(sums[blob]))
    for file in files:
        lock = lock.with_file(replace(file, sha256=sums[cached(file.repository, file.etag)]))
    lock.write()  # before the pickles go
    for file in files:
        if file.ours:  # what was here before belongs to another program
            cached(file.repository, file.etag).unlink(missing_ok=True)
            snapshot(lock, file).unlink(missing_ok=True)
    return lock
