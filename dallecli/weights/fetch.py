"""Pull a model: from the Hub into the Hugging Face cache, every byte checked, and whole or not at all.

What the Hub says about a file (its sha256, or for small ones git's SHA-1) is asked first and written into the lock;
then the bytes are fetched and compared with it. A pull that stops anywhere goes on where it stopped: what has arrived
of a file stays under a name of its own, and is hashed again before more is added. Bytes that are wrong are put aside
and never take the file's name. A file that another model in the cache already has is linked, not fetched.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Final, Literal

from dallecli.errors import BadFile, BadFolder, BadOutput, DiskFull, NetworkError, RequestError, TaskNotSupported
from dallecli.publish import FULL
from dallecli.weights.convert import convert
from dallecli.weights.digest import file_digest
from dallecli.weights.folder import LAYOUTS, read_object
from dallecli.weights.hub import Dropped, Listing, Patience, RemoteFile, host, list_files, reading
from dallecli.weights.lock import (
    Lock,
    LockedFile,
    all_locks,
    cached,
    converted,
    folder_path,
    home,
    lock_path,
    read_lock,
    repository_cache,
)
from dallecli.weights.registry import HUB, ModelSpec, PublishedParts, parse_hub_name, registry
from dallecli.weights.selection import select

PART: Final = ".dalle-part"
"""The suffix of a file in the cache that has not arrived in full."""

WRONG: Final = ".wrong-"
"""What follows the name of a file in the cache whose bytes are not those of its name; then their sha256 begins."""

BLOCK: Final = 2**20
SPARE: Final = 2**26  # bytes that a pull leaves free on the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """How far a pull is: what it does to which file of the model, and the bytes that are here of all that it needs."""

    doing: Literal["fetching", "checking", "converting"]
    path: str
    done: int
    total: int


Watch = Callable[[Transfer], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pull is about to do. `fresh`: this model was not pulled before. `bytes`: that are still to come."""

    lock: Lock
    fresh: bool
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A model that is here. folder: in the published layout. fetched: bytes that came over the network."""

    lock: Lock
    folder: Path
    fetched: int


@dataclass(slots=True)
class _Progress:
    """Counts the bytes of a pull, each once, and tells who watches."""

    watch: Watch
    total: int
    done: int = 0
    fetched: int = 0

    def add(self, size: int, path: str) -> None:
        """So many bytes came over the network."""
        self.fetched += size
        self.done += size
        self.show("fetching", path)

    def show(self, doing: Literal["fetching", "checking", "converting"], path: str) -> None:
        self.watch(Transfer(doing=doing, path=path, done=self.done, total=self.total))


@dataclass(slots=True)
class _Check:
    """Hashes the bytes of a file as they pass: sha256, and what the Hub calls them."""

    file: RemoteFile
    size: int = 0
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    git: "hashlib._Hash" = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.size, self.sha256 = 0, hashlib.sha256()
        # A blob's name in git is the SHA-1 of its length and its bytes; nothing secret hangs on it.
        self.git = hashlib.sha1(b"blob %d\0" % self.file.size, usedforsecurity=False)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sha256.update(chunk)
        if len(self.file.etag) == 40:
            self.git.update(chunk)

    @property
    def right(self) -> bool:
        """Whether these were the bytes, all of them and no others."""
        found = self.git if len(self.file.etag) == 40 else self.sha256
        return self.size == self.file.size and found.hexdigest() == self.file.etag


def pull(
    name: str,
    *,
    tasks: Sequence[str] | None = None,
    half: bool | None = None,
    agree: Callable[[Plan], None],
    watch: Watch,
    patience: Patience | None = None,
) -> Pulled:
    """Bring a registered model, or hf:ORG/NAME@REVISION, onto this machine; mend what is damaged.

    Fetches only what is missing. A model of which everything is here is checked without a network. `tasks`: fetch only
    the parts that these need, besides those that were pulled before; None for all. `half`: weights in half precision
    where they are published. `agree` is called once with what is about to happen, and may raise to prevent it.

    Raises:
        UnknownModel: no model or repository has this name.
        RequestError: there is nothing to pull, or the model has no such task.
        NetworkError: the Hub cannot be reached, or refuses.
        BadFile: the bytes that came were wrong, or a pickle cannot be converted.
        BadFolder: the repository does not hold this model.
        DiskFull: there is not enough space.
    """
    patience = patience if patience is not None else Patience()
    with _disk_errors(), _alone(_model_lock(name)):
        before = read_lock(name)
        lock = _locked(name, before, tasks, half, patience)
        missing = [file for file in lock.files if not intact(lock, file)]
        agree(Plan(lock=lock, fresh=before is None, bytes=sum(file.size - _arrived(file) for file in missing)))
        _check_space(missing)
        lock.write()
        progress = _Progress(watch, sum(file.size for file in missing))
        for file in missing:
            lock = _bring(lock, file, progress, patience)
        lock = _convert(lock, [file for file in missing if file.pickled], progress)
        lock.write()
        folder = _assemble(lock)
        if before is not None:
            _discard(before, before.files)  # those that are not in the new lock
        _sweep(lock)
    return Pulled(lock=lock, folder=folder, fetched=progress.fetched)


def verify(lock: Lock, watch: Watch) -> list[LockedFile]:
    """Read every byte of a pulled model again. The files that are missing or wrong are returned.

    What is wrong is put aside, so that nothing reads it any more, and the next pull fetches it again.
    """
    progress = _Progress(watch, sum(file.size for file in lock.files))
    bad = []
    for file in lock.files:
        blob = lock.blob(file)
        progress.show("checking", file.path)
        try:
            found = _sha256(blob)
        except OSError:
            bad.append(file)
        else:
            if found != file.sha256:
                blob.replace(_aside(blob, found))
                bad.append(file)
        progress.done += file.size
        progress.show("checking", file.path)
    return bad


def remove(lock: Lock) -> int:
    """Take a pulled model off this machine. What others use of its files stays. Returns the bytes that became free."""
    with _disk_errors(), _alone(_model_lock(lock.model)):
        shutil.rmtree(folder_path(lock.model), ignore_errors=True)
        lock_path(lock.model).unlink(missing_ok=True)
        freed = _discard(lock, lock.files)
        for repository in lock.commits:
            _prune(repository_cache(repository))
        _prune(converted("any").parent)
    return freed


def _discard(lock: Lock, files: Sequence[LockedFile]) -> int:
    """Remove files of a lock that is not in force any more from the cache, unless another lock or program uses them."""
    used = {other.blob(file) for other in all_locks() for file in other.files}
    for repository in lock.commits:
        snapshots = repository_cache(repository) / "snapshots"
        links = (path for path in snapshots.rglob("*") if path.is_symlink())
        used |= {path.resolve() for path in links if lock.commits[repository] not in path.parts}
    freed = 0
    for file in files:
        blob = lock.blob(file)
        gone = _leftovers(lock, file)
        if file.ours and blob not in used and blob.resolve() not in used:
            gone.append(blob)
            _snapshot(lock, file).unlink(missing_ok=True)
        for path in gone:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                path.unlink()
                freed += status.st_size if status.st_nlink == 1 else 0
    return freed


def intact(lock: Lock, file: LockedFile) -> bool:
    """Whether the bytes of a file are here, and right. Large files are read once in their life (see digest.py)."""
    if file.sha256 is None:
        return False
    blob = lock.blob(file)
    return file_digest(blob) == file.sha256 if file.pickled and blob.is_file() else _right(blob, _remote(lock, file))


def _remote(lock: Lock, file: LockedFile) -> RemoteFile:
    return RemoteFile(
        repository=file.repository,
        commit=lock.commits[file.repository],
        path=file.source,
        size=file.size,
        etag=file.etag,
    )


# What to fetch


def _locked(name: str, before: Lock | None, tasks: Sequence[str] | None, half: bool | None, patience: Patience) -> Lock:
    """What was locked before, if that is enough; else a lock with more files of the same commits, or the first one."""
    spec = None if name.startswith(HUB) else _registered(name)
    wanted = _tasks(spec, tasks)
    if before is not None:
        wanted = tuple(sorted({*before.tasks, *wanted}))
        half = before.half if half is None else half
        if wanted == before.tasks and half == before.half:
            return before
    known = {} if before is None else dict(before.commits)
    half = half is True
    files: dict[str, LockedFile] = {}
    licence = None if spec is None else spec.licence
    commits: dict[str, str] = {}
    for listing, parts in _listings(name, spec, wanted, known, patience):
        commits[listing.repository] = listing.commit
        licence = licence if licence is not None else listing.licence
        for file in select(listing, parts.names, parts.folder, half=half):
            files.setdefault(file.path, file)
    if before is not None:
        files |= {file.path: file for file in before.files if _same(file, files.get(file.path))}
    ordered = tuple(files[path] for path in sorted(files))
    return Lock(model=name, licence=licence, commits=commits, tasks=wanted, half=half, files=ordered)


def _same(old: LockedFile, new: LockedFile | None) -> bool:
    return new is not None and (old.repository, old.source, old.etag) == (new.repository, new.source, new.etag)


def _registered(name: str) -> ModelSpec:
    known = registry()
    if name not in known:
        from dallecli.weights.registry import find

        spec = find(name)  # says what was perhaps meant, if it is not a folder
        raise RequestError(f"{spec.name} is a folder on this machine: there is nothing to pull", spec.source)
    spec = known[name]
    if not spec.parts:
        raise RequestError(f"{name} is part of dalle: there is nothing to pull", hint=f"dalle models path {name}")
    return spec


def _tasks(spec: ModelSpec | None, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks to pull for, sorted; none means everything."""
    if spec is None:
        if tasks is not None:
            raise RequestError("--for needs a model that dalle knows by name", hint="leave it out: all is fetched")
        return ()
    # What is foreseen has no tasks yet, but parts that will be for some.
    known = (
        set(spec.tasks)
        if spec.tasks
        else {task for parts in spec.parts if parts.tasks is not None for task in parts.tasks}
    )
    wanted = known if tasks is None else set(tasks)
    for task in sorted(wanted - known):
        raise TaskNotSupported(f"{spec.name} cannot {task}", hint=f"it can {', '.join(sorted(known))}")
    return tuple(sorted(wanted))


def _listings(
    name: str, spec: ModelSpec | None, tasks: Sequence[str], known: Mapping[str, str], patience: Patience
) -> Iterator[tuple[Listing, PublishedParts]]:
    """The contents of each repository, with the parts that are wanted of it; each repository is asked for once."""
    if spec is None:
        repository, revision = parse_hub_name(name)
        listing = list_files(repository, known.get(repository, revision), patience)
        names = _layout_parts(listing, patience)
        yield listing, PublishedParts(repository=repository, commit=None, folder="", names=names, tasks=None)
        return
    listings: dict[str, Listing] = {}
    for parts in spec.parts:
        if parts.tasks is not None and not set(parts.tasks) & set(tasks):
            continue
        if parts.repository not in listings:
            pinned = parts.commit if parts.commit is not None else "main"
            listing = list_files(parts.repository, known.get(parts.repository, pinned), patience)
            listings[parts.repository] = listing
        yield listings[parts.repository], parts


def _layout_parts(listing: Listing, patience: Patience) -> tuple[str, ...]:
    """The parts of a repository that nobody registered. Its index is read first: it may be no model that we know."""
    if "model_index.json" not in listing.files:
        raise BadFolder("this repository has no model_index.json: it is no model", listing.repository)
    index = listing.files["model_index.json"]
    path = home() / f"index-{index.etag}"
    try:
        _fetch(index, path, _Progress(lambda _: None, index.size), index.path, patience)
        stated = read_object(path).get("_class_name")
    finally:
        path.unlink(missing_ok=True)
    layout = next((layout for layout in LAYOUTS.values() if layout.pipeline == stated), None)
    if layout is not None and layout.index:
        raise BadFolder(
            "this repository is one of several of a model", listing.repository, "pull the model by its name"
        )
    if layout is None:
        raise BadFolder(f"this repository is of the kind {stated!r}, which is not run here", listing.repository)
    present = {path.partition("/")[0] for path in listing.files if "/" in path}
    extra = [part for group in layout.optional for part in group if part in present]
    extra += [part for part in ("feature_extractor",) if part in present]
    schedulers = [part for part in layout.schedulers.values() if part not in {p for g in layout.optional for p in g}]
    return tuple(dict.fromkeys((*layout.networks, *schedulers, "tokenizer", *extra)))


# Bytes


def _bring(lock: Lock, file: LockedFile, progress: _Progress, patience: Patience) -> Lock:
    """Make one file in the cache right. The lock that is returned knows its sha256, if it is used as it is."""
    remote = _remote(lock, file)
    blob = cached(file.repository, file.etag)
    if _right(blob, remote):
        progress.done += file.size
    else:
        with _alone(_hub_lock(file)):
            _quarantine(blob)
            if _adopt(remote, blob):
                progress.done += file.size
            else:
                _fetch(remote, blob, progress, file.path, patience)
    place(blob.absolute(), _snapshot(lock, file), link=_symlink)
    for path in _wrong(lock, file):
        path.unlink()
    return lock if file.pickled else lock.with_file(replace(file, sha256=file_digest(blob)))


def _convert(lock: Lock, files: Sequence[LockedFile], progress: _Progress) -> Lock:
    """Convert what was published as pickles only, and keep the results under their sha256 instead."""
    if not files:
        return lock
    progress.show("converting", files[0].path)
    blobs = {cached(file.repository, file.etag): file for file in files}
    drafts = {blob: converted(f"draft-{file.etag}") for blob, file in blobs.items()}
    converted("any").parent.mkdir(parents=True, exist_ok=True)
    convert(drafts)
    sums = {blob: _sha256(draft) for blob, draft in drafts.items()}
    for blob, draft in drafts.items():
        draft.replace(converted(sums[blob]))
    for file in files:
        lock = lock.with_file(replace(file, sha256=sums[cached(file.repository, file.etag)]))
    lock.write()  # before the pickles go
    for file in files:
        if file.ours:  # what was here before is somebody else's
            cached(file.repository, file.etag).unlink(missing_ok=True)
            _snapshot(lock, file).unlink(missing_ok=True)
    return lock


def _fetch(file: RemoteFile, blob: Path, progress: _Progress, name: str, patience: Patience) -> None:
    """Fetch a file into the cache, from where an earlier attempt stopped, and check it.

    Raises:
        NetworkError: the connection failed too often in a row without a byte.
        BadFile: the bytes are not what the Hub says they are.
    """
    blob.parent.mkdir(parents=True, exist_ok=True)
    part = blob.with_name(blob.name + PART)
    for attempt in range(2):
        check = _Check(file)
        # Unbuffered: what has arrived is in the file, also if this process is killed.
        with part.open("ab+", buffering=0) as draft:
            draft.seek(0)
            while chunk := draft.read(BLOCK):
                check.add(chunk)
            resumed = check.size > 0
            progress.done += min(check.size, file.size)
            _stream(file, draft, check, progress, name, patience)
            os.fsync(draft.fileno())
        if check.right:
            part.replace(blob)
            return
        part.replace(_aside(blob, check.sha256.hexdigest()))
        progress.done -= min(check.size, file.size)
        if not resumed or attempt == 1:
            break
        # What was here from an earlier attempt may have been the wrong half: once more, from the start.
    found, kind = check.sha256.hexdigest()[:12], "sha256"
    if len(file.etag) == 40:
        found, kind = check.git.hexdigest()[:12], "git's SHA-1"
    what = f"{name} came with the wrong bytes: their {kind} is {found}…, the Hub says {file.etag[:12]}…"
    if check.size != file.size:  # it is no use to compare
        what = f"{name} came with {check.size} bytes, the Hub says {file.size}"
    aside = _aside(blob, check.sha256.hexdigest())
    raise BadFile(what, str(aside), "they were put aside; pull again to fetch it anew")


def _stream(file: RemoteFile, draft: FileIO, check: _Check, progress: _Progress, name: str, patience: Patience) -> None:
    """Add bytes to the draft until it is as long as the file, through as many connections as that takes."""
    failures = 0
    furthest = check.size
    while check.size < file.size:
        dropped: Dropped | None = None
        try:
            with reading(file, check.size) as (start, chunks):
                if start < check.size:  # the server gives everything or nothing
                    draft.truncate(0)
                    progress.done -= check.size
                    check.restart()
                for chunk in chunks:
                    _write(draft, chunk)
                    check.add(chunk)
                    progress.add(len(chunk), name)
                    if check.size > file.size:
                        return
        except Dropped as problem:
            dropped = problem
        if check.size >= file.size:
            return
        failures = 1 if check.size > furthest else failures + 1
        furthest = max(furthest, check.size)
        if failures >= patience.tries:
            if dropped is not None:
                raise dropped.error from dropped
            what = f"the server ended {name} at {check.size} of {file.size} bytes"
            raise NetworkError(what, host(), "try again later: the same command goes on where it stopped")
        patience.pause(failures, None if dropped is None else dropped.asked)


def _write(draft: FileIO, chunk: bytes) -> None:
    """All of it: without a buffer, a disk that is almost full takes a part and says how much."""
    view = memoryview(chunk)
    while view:
        view = view[draft.write(view) :]


def _adopt(file: RemoteFile, blob: Path) -> bool:
    """Use the bytes that another repository in the cache has of this file, if any does."""
    if len(file.etag) != 64:
        return False
    for twin in blob.parents[2].glob(f"models--*/blobs/{file.etag}"):
        if _right(twin, file):
            blob.parent.mkdir(parents=True, exist_ok=True)
            place(twin.resolve(), blob, link=os.link)
            return True
    return False


def _right(path: Path, file: RemoteFile) -> bool:
    """Whether there is a file here whose bytes are those that the Hub means."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if len(file.etag) == 64:
        return file_digest(path) == file.etag
    check = _Check(file)
    check.add(path.read_bytes())
    return check.right


def _sha256(path: Path) -> str:
    """The sha256 of the bytes that are there now, whatever is remembered of them. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Places


def place(target: Path, path: Path, *, link: Callable[[str, Path], None]) -> None:
    """Make `path` another name of a file; where the system has no links of this kind, a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        link(str(target), path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK, errno.EINVAL, errno.EACCES):
            raise
        shutil.copy2(target, path)


def _symlink(target: str, path: Path) -> None:
    """Relative, so that the whole of HF_HOME can be moved."""
    path.symlink_to(os.path.relpath(target, path.parent.resolve()))


def _snapshot(lock: Lock, file: LockedFile) -> Path:
    """Where the Hugging Face cache has the name of a file that it keeps as a blob."""
    return repository_cache(file.repository) / "snapshots" / lock.commits[file.repository] / file.source


def _assemble(lock: Lock) -> Path:
    """The model's folder, of links into the cache. It appears when it is whole."""
    folder = folder_path(lock.model)
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for file in lock.files:
        # As deep as it will be: the links are relative.
        place(lock.blob(file).absolute(), draft / file.path, link=_symlink)
    if folder.is_dir():
        shutil.rmtree(folder)
    draft.replace(folder)
    return folder


def _aside(blob: Path, sha256: str) -> Path:
    return blob.with_name(f"{blob.name}{WRONG}{sha256[:8]}")


def _quarantine(blob: Path) -> None:
    """Put aside what lies under the name of a file and is not that file."""
    if blob.is_file():
        blob.replace(_aside(blob, _sha256(blob)))
    else:
        blob.unlink(missing_ok=True)  # a link to nowhere


def _wrong(lock: Lock, file: LockedFile) -> list[Path]:
    """What lay under the names of a file and was not that file."""
    blobs = {cached(file.repository, file.etag), lock.blob(file)}
    return [path for blob in blobs for path in blob.parent.glob(f"{blob.name}{WRONG}*")]


def _leftovers(lock: Lock, file: LockedFile) -> list[Path]:
    """What attempts to fetch a file have left behind."""
    blob = cached(file.repository, file.etag)
    return [*_wrong(lock, file), *blob.parent.glob(blob.name + PART)]


def _sweep(lock: Lock) -> None:
    """Remove what earlier pulls left in these repositories of files that nobody wants any more."""
    wanted = {file.etag for other in all_locks() for file in other.files}
    for repository in lock.commits:
        for pattern in (f"*{PART}", f"*{WRONG}*"):
            for path in (repository_cache(repository) / "blobs").glob(pattern):
                if path.name.partition(".")[0] not in wanted:
                    path.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Remove the empty folders in a folder, and itself if nothing but names of branches is left."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()
    if not any(path.is_file() or path.is_symlink() for path in folder.rglob("*") if "refs" not in path.parts):
        shutil.rmtree(folder, ignore_errors=True)


def _arrived(file: LockedFile) -> int:
    """Bytes of a file that are here already, as far as can be told without reading them."""
    blob = cached(file.repository, file.etag)
    sizes = [path.stat().st_size for path in (blob, blob.with_name(blob.name + PART)) if path.is_file()]
    if len(file.etag) == 64:
        sizes += [path.stat().st_size for path in blob.parents[2].glob(f"models--*/blobs/{file.etag}")]
    return min(max(sizes, default=0), file.size)


def _check_space(missing: Sequence[LockedFile]) -> None:
    """Raises: DiskFull, if what is still to come does not fit."""
    from huggingface_hub import constants

    coming = sum(file.size - _arrived(file) for file in missing)
    needed = coming + sum(file.size for file in missing if file.pickled)  # what is converted is here twice for a while
    place = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (place, *place.absolute().parents) if path.is_dir())).free
    if needed > 0 and needed + SPARE > free:
        raise DiskFull(
            f"{needed / 1e9:.1f} GB are needed for this model, and {free / 1e9:.1f} GB are free",
            str(place),
            "make room, or set HF_HOME to a folder on a larger disk",
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is inside, with the lock that huggingface_hub takes."""
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # lazy there

    path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(path):
        yield


def _model_lock(model: str) -> Path:
    return home() / ".locks" / f"{folder_path(model).name}.lock"


def _hub_lock(file: LockedFile) -> Path:
    """The lock under which huggingface_hub itself would fetch this file."""
    cache = repository_cache(file.repository)
    return cache.parent / ".locks" / cache.name / f"{file.etag}.lock"


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = None if error.filename is None else str(error.filename)
        if error.errno in FULL:
            hint = "make room, and run the same command again: it goes on where it stopped"
            raise DiskFull("the disk is full", where, hint) from error
        raise BadOutput(f"the cache of models cannot be used: {error.strerror}", where, "see HF_HOME") from error
