"""Pulling a model that is published as single files, in no repository: a model folder is made of them.

Nobody may have stated their hashes. So the first pull takes what comes, compares it with what the server says of it,
and locks its sha256: a file that is fetched again has the same bytes, or is refused. The files themselves are not kept.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dallecli.errors import TaskNotSupported, WeightsError
from dallecli.weights.digest import bytes_digest
from dallecli.weights.fetch.cache import assemble, part_of
from dallecli.weights.fetch.download import Download, is_right
from dallecli.weights.fetch.plan import Plan, check_room
from dallecli.weights.fetch.progress import Report, TransferProgress
from dallecli.weights.fetch.remove import discard
from dallecli.weights.fetch.verify import intact
from dallecli.weights.folder import Folder
from dallecli.weights.hub import Patience, RemoteFile, find_file, host
from dallecli.weights.layouts import LAYOUTS, Published, imported
from dallecli.weights.lock import Lock, LockedFile, converted, folder_path, home, read_lock
from dallecli.weights.registry import ModelSpec, PublishedFile

HUB: Final = "https://huggingface.co/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A model that was pulled."""

    lock: Lock
    folder: Path
    """In the published layout."""
    fetched: int
    """Bytes that came over the network."""


def make(
    spec: ModelSpec,
    before: Lock | None,
    tasks: Sequence[str] | None,
    agree: Callable[[Plan], None],
    report: Report,
    patience: Patience,
) -> Pulled:
    """Bring a model onto this machine that is published as files, and repair it; see `pull.pull`."""
    wanted = tuple(sorted({*_tasks(spec, tasks), *(before.tasks if before is not None else ())}))
    kept = tuple(file for file in before.files if intact(before, file)) if before is not None else ()
    lock = Lock(model=spec.name, licence=spec.licence, commits={}, tasks=wanted, half=False, files=kept)
    needed = [file for file in spec.files if file.tasks is None or set(file.tasks) & set(wanted)]
    coming = [file for file in needed if not _is_made(file, before, lock)]
    remote = {file: _remote(file, before, patience) for file in coming}
    missing = tuple(_shown(file, remote[file]) for file in coming)
    check_room(sum(3 * file.size for file in missing))  # fetched, opened, and parted
    agree(Plan(lock=lock, fresh=before is None, bytes=sum(file.size for file in missing), missing=missing))
    progress = TransferProgress(report, sum(file.size for file in remote.values()))
    for file in coming:
        _fetch(file, remote[file], progress, patience)
    if coming:
        progress.show("converting", coming[0].name)
        lock = _whole(spec, lock, coming)
    lock.write()
    if before is not None:
        discard(before, before.files)  # those that are not in the new lock
    return Pulled(lock=lock, folder=assemble(lock), fetched=progress.fetched)


def _tasks(spec: ModelSpec, tasks: Sequence[str] | None) -> Sequence[str]:
    for task in tasks if tasks is not None else ():
        if task not in spec.tasks:
            raise TaskNotSupported(f"{spec.name} cannot {task}", hint=f"it can {', '.join(sorted(spec.tasks))}")
    return spec.tasks if tasks is None else tasks


def _published(spec: ModelSpec) -> Published:
    published = LAYOUTS[spec.layout].published
    assert published is not None  # or its files would be good for nothing
    return published


def _label(file: PublishedFile) -> tuple[str, str]:
    """A published file as a lock names it: the host with the first folder there, and the rest of the path."""
    address = urlsplit(file.url)
    first, _, rest = address.path.lstrip("/").partition("/")
    return f"{address.hostname}/{first}", rest


def _is_made(file: PublishedFile, before: Lock | None, now: Lock) -> bool:
    """Whether all that was made of a published file is here."""
    of = [made.path for made in before.files if (made.repository, made.source) == _label(file)] if before else []
    return bool(of) and {*of} <= {made.path for made in now.files}


def _remote(file: PublishedFile, before: Lock | None, patience: Patience) -> RemoteFile:
    """A published file, with its hash if that is stated or locked."""
    repository, path = _label(file)
    locked = {(made.repository, made.source): made.etag for made in before.files} if before is not None else {}
    sha256 = file.sha256 if file.sha256 is not None else locked.get((repository, path), "")
    return replace(find_file(_address(file.url), repository, path, patience), etag=sha256)


def _address(url: str) -> str:
    """Where a published file is fetched: those of the Hub from the one in use."""
    return f"{host()}/{url.removeprefix(HUB)}" if url.startswith(HUB) else url


def _place(file: PublishedFile) -> Path:
    """Where a published file lies until a model was made of it."""
    return home() / "downloads" / hashlib.sha256(file.url.encode()).hexdigest()[:16] / file.name


def _shown(file: PublishedFile, remote: RemoteFile) -> LockedFile:
    """A file that is still to come, for the plan."""
    place = _place(file)
    here = max((path.stat().st_size for path in (place, part_of(place)) if path.is_file()), default=0)
    size = max(remote.size - here, 0)
    return LockedFile(
        path=file.name, repository=remote.repository, source=remote.path, size=size, etag=remote.etag, ours=True
    )


def _fetch(file: PublishedFile, remote: RemoteFile, progress: TransferProgress, patience: Patience) -> None:
    place = _place(file)
    if place.is_file() and is_right(place, remote):
        progress.done += remote.size
    else:
        Download(remote, file.name, progress, patience).to(place)


def _whole(spec: ModelSpec, lock: Lock, files: Sequence[PublishedFile]) -> Lock:
    """The lock with what is made of published files, once a whole model was made of all; else nothing is left of it."""
    made = lock
    try:
        made = _make(spec, lock, files)
        imported(_published(spec).check)(Folder(assemble(made)))
    except WeightsError:
        if read_lock(spec.name) is None:
            shutil.rmtree(folder_path(spec.name), ignore_errors=True)
        discard(made, [file for file in made.files if file not in lock.files])
        raise
    finally:
        for file in files:  # also those that were of no use: else the next pull would take them again
            shutil.rmtree(_place(file).parent, ignore_errors=True)
    return made


def _make(spec: ModelSpec, lock: Lock, files: Sequence[PublishedFile]) -> Lock:
    """Make the parts of a model of published files, and put them where converted files lie."""
    source, draft = home() / "downloads" / f"{spec.name}.files", home() / "downloads" / f"{spec.name}.draft"
    for folder in (source, draft):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir(parents=True)
    try:
        for file in files:
            (source / file.name).hardlink_to(_place(file))
        origins = {file.name: file for file in files}
        found = {}
        for path, name in imported(_published(spec).write)(source, draft).items():
            found[path] = _keep(draft / path, path, origins[name], bytes_digest(_place(origins[name])))
    finally:
        for folder in (source, draft):
            shutil.rmtree(folder, ignore_errors=True)
    all_files = {file.path: file for file in lock.files} | found
    return replace(lock, files=tuple(all_files[path] for path in sorted(all_files)))


def _keep(file: Path, path: str, origin: PublishedFile, etag: str) -> LockedFile:
    """Move a file that was made to its place among the converted ones."""
    sha256, size = bytes_digest(file), file.stat().st_size
    repository, source = _label(origin)
    place = converted(sha256, file.suffix)
    place.parent.mkdir(parents=True, exist_ok=True)
    file.replace(place)
    return LockedFile(
        path=path, repository=repository, source=source, size=size, etag=etag, sha256=sha256, ours=True, made=True
    )
