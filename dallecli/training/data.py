"""Captioned pictures as people have them: what is there, and what is wrong with it, before anything is decoded.

Three conventions, in one folder or mixed:

    photo.jpg + photo.txt                     the whole text file is the caption
    metadata.jsonl or metadata.csv            Hugging Face's imagefolder: `file_name` and `text` (or `caption`)
    shard-000.tar                             WebDataset: 0001.jpg + 0001.txt, or 0001.json with such a field

Nothing is unpacked: a picture in a shard is read where it lies. Whatever looks like training data and is not read is
counted, and named with the reason; hidden files are not looked at.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dallecli.errors import BadInput
from dallecli.source import PICTURE_SUFFIXES
from dallecli.training import metadata, shard
from dallecli.training.captions import captioned_by_file
from dallecli.training.listing import Fault, Item, Listing
from dallecli.training.metadata import pairs_in_metadata
from dallecli.training.passed_over import passed_over
from dallecli.training.shard import pairs_in_shard


def look(places: Sequence[Path], but: Path | None = None) -> Listing:
    """List the pairs in folders, metadata files and shards, leaving the folder `but` out.

    Raises:
        BadInput: one of them is missing, cannot be read, or is none of these.
    """
    found: list[Item | Fault] = []
    stamps: list[str] = []
    for place in places:
        prefix = f"{place}/" if len(places) > 1 else ""
        try:
            files = list[Path]()
            for entry in _entries(place, None if but is None else but.resolve(), prefix):
                if isinstance(entry, Fault):
                    found.append(entry)
                    continue
                status = entry.stat()
                stamps.append(f"{entry}\0{status.st_size}\0{status.st_mtime_ns}")
                files.append(entry)
            found += _pairs(place, files, prefix)
        except OSError as problem:
            raise BadInput(f"the data cannot be read: {problem.strerror}", where=str(place)) from problem
    items = sorted((item for item in found if isinstance(item, Item)), key=lambda item: item.name)
    faults = [one for one in found if isinstance(one, Fault)]
    digest = hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()
    return Listing(items=tuple(items), faults=tuple(faults), digest=digest)


def _entries(place: Path, but: Path | None, prefix: str) -> Iterator[Path | Fault]:
    """All visible files below a folder in a fixed order, or the file itself; what is passed over there is a fault."""
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        raise BadInput("there is no such data", where=str(place), hint="name a folder, a metadata file or .tar shards")
    closed: list[OSError] = []
    for folder, folders, names in os.walk(place, onerror=closed.append):
        visible = sorted(name for name in folders if not name.startswith("."))
        inside = [Path(folder, name) for name in visible]
        folders[:] = [path.name for path in inside if not path.is_symlink() and path.resolve() != but]
        for path in inside:
            if path.is_symlink():
                why = "links to folders are not followed: give the folder itself as well"
                yield Fault(name=_name(path, place, prefix), kind="linked folders", why=why)
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith("."):
                lack = _why_no_file(path)
                shown = _name(path, place, prefix)
                yield path if lack is None else Fault(name=shown, kind="entries that are no files", why=lack)
    for problem in closed:
        name = _name(Path(problem.filename), place, prefix)
        yield Fault(name=name, kind="unreadable folders", why=f"it cannot be opened: {problem.strerror}")


def _why_no_file(path: Path) -> str | None:
    try:
        if path.is_file():
            return None
    except OSError as problem:
        return f"it cannot be looked at: {problem.strerror}"
    return "it leads nowhere" if path.is_symlink() else "it is a device or a pipe"


def _name(path: Path, place: Path, prefix: str) -> str:
    return prefix + path.relative_to(place).as_posix()


def _pairs(place: Path, files: Sequence[Path], prefix: str) -> Iterator[Item | Fault]:
    """What is in the `files` of one place; names are paths below it, behind `prefix`."""
    if place.is_file():
        yield from _in_file(place, prefix)
        return
    described, named = set[Path](), set[str]()
    for file in files:
        if file.name.lower() in metadata.NAMES:
            described.add(file.parent)
            for found in pairs_in_metadata(file, prefix + _folder_name(file.parent.relative_to(place))):
                named.add(found.name)
                yield found
        elif file.suffix.lower() == shard.SUFFIX:
            yield from pairs_in_shard(file, prefix + _folder_name(file.parent.relative_to(place)))
    for file in files:
        name = _name(file, place, prefix)
        why = passed_over(file.name)
        if name in named:
            continue
        if file.suffix.lower() in PICTURE_SUFFIXES:
            yield _alone(file, name, described=not described.isdisjoint(file.parents))
        elif why is not None:
            yield Fault(name=name, kind=why[0], why=why[1])


def _in_file(place: Path, prefix: str) -> Iterator[Item | Fault]:
    """What is in a shard or a metadata file that was given itself."""
    if place.suffix.lower() == shard.SUFFIX:
        yield from pairs_in_shard(place, prefix)
    elif place.suffix.lower() in metadata.SUFFIXES:
        yield from pairs_in_metadata(place, "")
    else:
        why = passed_over(place.name)
        hint = "name a folder, a .jsonl or .csv file, or .tar shards" if why is None else why[1]
        raise BadInput("this is not a kind of training data", where=str(place), hint=hint)


def _folder_name(folder: Path) -> str:
    return "" if folder == Path() else f"{folder.as_posix()}/"


def _alone(picture: Path, name: str, *, described: bool) -> Item | Fault:
    """A picture that no metadata file names: its caption is a text file beside it, unless its folder is `described`."""
    if described:
        return Fault(name=name, kind="pictures without a row of metadata", why="no metadata file names it")
    text = picture.with_suffix(".txt")
    if not text.is_file():
        return Fault(name=name, kind="without a caption", why=f"there is no {text.name} beside it")
    return captioned_by_file(name, picture, text)
