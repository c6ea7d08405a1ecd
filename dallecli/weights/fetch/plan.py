"""What a pull has to fetch: which files of which repositories, and whether they fit on the disk."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.errors import BadFolder, DiskFull, RequestError, TaskNotSupported
from dallecli.limits import MODEL_FILES, MODEL_JSON_BYTES, in_words
from dallecli.weights.fetch.cache import part_of
from dallecli.weights.fetch.download import Download
from dallecli.weights.fetch.progress import TransferProgress
from dallecli.weights.folder import PREPROCESSING, stated_kind
from dallecli.weights.hub import Listing, Patience, RemoteFile, list_files
from dallecli.weights.layouts import INDEX, LAYOUTS
from dallecli.weights.lock import Lock, LockedFile, cached, home
from dallecli.weights.registry import HUB, OWN, ModelSpec, PublishedParts, own_files, parse_hub_name, registry, terms_of
from dallecli.weights.selection import HERE, select

SPARE: Final = 2**26
"""Bytes that a pull leaves free on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pull is about to do."""

    lock: Lock
    fresh: bool
    """Whether this model was not pulled before."""
    bytes: int
    """Bytes that are still to come."""
    missing: tuple[LockedFile, ...]
    """The files that are not here in full."""

    @property
    def terms(self) -> str | None:
        """The address of the licence that has to be accepted first; None if none has to be, or was before."""
        return terms_of(self.lock.model) if self.fresh and self.bytes > 0 else None

    @property
    def places(self) -> tuple[str, ...]:
        """Where all files come from: repositories, or hosts with the first folder there."""
        return tuple(self.lock.commits) if self.lock.commits else tuple(self.repositories())

    def repositories(self) -> dict[str, tuple[int, int]]:
        """How many bytes of how many files are still to come from each repository."""
        found: dict[str, tuple[int, int]] = {}
        for file in self.missing:
            coming, files = found.get(file.repository, (0, 0))
            found[file.repository] = coming + file.size - arrived(file), files + 1
        return found


def planned_lock(
    name: str, before: Lock | None, tasks: Sequence[str] | None, half: bool | None, patience: Patience
) -> Lock:
    """The lock from before, if it is enough; else one with more files of the same commits, or the first one."""
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
    if len(files) > MODEL_FILES:
        raise BadFolder(f"this model has {len(files)} files, the limit is {MODEL_FILES}", name)
    ordered = tuple(files[path] for path in sorted(files))
    return Lock(model=name, licence=licence, commits=commits, tasks=wanted, half=half, files=ordered)


def _same(old: LockedFile, new: LockedFile | None) -> bool:
    return new is not None and (old.repository, old.source, old.etag) == (new.repository, new.source, new.etag)


def _registered(name: str) -> ModelSpec:
    known = registry()
    if name not in known:
        from dallecli.weights.registry import find

        spec = find(name)  # suggests a name, if it is not a folder
        raise RequestError(f"{spec.name} is a folder on this machine: there is nothing to pull", spec.source)
    spec = known[name]
    if spec.source.startswith(OWN):
        raise RequestError(f"{name} is not fetched by dalle: it is made of files that you have", hint=own_files(spec))
    if not spec.parts:
        raise RequestError(f"{name} is part of dalle: there is nothing to pull", hint=f"dalle models path {name}")
    return spec


def _tasks(spec: ModelSpec | None, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks to pull for, sorted; none means everything."""
    if spec is None:
        if tasks is not None:
            raise RequestError("--for needs a model that dalle knows by name", hint="leave it out to fetch everything")
        return ()
    # A planned model has no tasks yet, but parts that some will need.
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
    """The contents of each repository, and the parts that are needed of it; each repository is listed once."""
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
    """The parts of an unregistered repository. Its index is read first: it may not be a model that dalle knows."""
    markers = dict.fromkeys(layout.marker for layout in LAYOUTS.values())
    marker = next((name for name in markers if name in listing.files), None)
    if marker is None:
        raise BadFolder(f"this repository has no {INDEX}: it is not a model", listing.repository)
    stated = _stated(listing.files[marker], patience)
    layout = next((one for one in LAYOUTS.values() if (one.marker, one.pipeline) == (marker, stated)), None)
    if layout is not None and layout.index:
        raise BadFolder(
            "this repository is only one of several that make up a model",
            listing.repository,
            "pull the model by its name",
        )
    if layout is None:
        raise BadFolder(
            f"this repository holds a model of the kind {stated!r}, which dalle cannot run", listing.repository
        )
    if set(layout.folders.values()) == {""}:
        return (HERE,)
    places = {part: layout.folders.get(part, part) for group in layout.optional for part in group}
    places[PREPROCESSING] = layout.folders.get(PREPROCESSING, PREPROCESSING)
    present = {path.rpartition("/")[0] for path in listing.files}
    extra = [place for place in places.values() if place in present]
    needed = (layout.folders.get(part, part) for part in (*layout.networks, *layout.schedules, *layout.others))
    return tuple(dict.fromkeys((*needed, *extra)))


def _stated(index: RemoteFile, patience: Patience) -> object:
    """The kind of model that a file of a repository states. Raises BadFolder if it is too large for that."""
    if index.size > MODEL_JSON_BYTES:
        what = f"its {index.path} has {index.size} bytes, the limit is {in_words(MODEL_JSON_BYTES)}"
        raise BadFolder(what, index.repository)
    folder = home() / f"index-{index.etag}"
    path = folder / index.path
    try:
        Download(index, index.path, TransferProgress(lambda _: None, index.size), patience).to(path)
        return stated_kind(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def arrived(file: LockedFile) -> int:
    """Bytes of a file that seem to be here already, judged by sizes alone."""
    blob = cached(file.repository, file.etag)
    sizes = [path.stat().st_size for path in (blob, part_of(blob)) if path.is_file()]
    if len(file.etag) == 64:
        sizes += [path.stat().st_size for path in blob.parents[2].glob(f"models--*/blobs/{file.etag}")]
    return min(max(sizes, default=0), file.size)


def check_space(missing: Sequence[LockedFile]) -> None:
    """Raises DiskFull if what is still to come does not fit."""
    coming = sum(file.size - arrived(file) for file in missing)
    check_room(coming + sum(file.size for file in missing if file.pickled))  # while it is converted, it is here twice


def check_room(needed: int) -> None:
    """Raises DiskFull if so many bytes do not fit."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (place, *place.absolute().parents) if path.is_dir())).free
    if needed > 0 and needed + SPARE > free:
        raise DiskFull(
            f"{needed / 1e9:.1f} GB are needed for this model, and {free / 1e9:.1f} GB are free",
            str(place),
            "make room, or set HF_HOME to a folder on a larger disk",
        )
