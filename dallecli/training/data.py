"""Captioned pictures as people have them: what is there, and what is wrong with it, before anything is decoded.

Three conventions, in one folder or mixed:

    photo.jpg + photo.txt                     the whole text file is the caption
    metadata.jsonl or metadata.csv            Hugging Face's imagefolder: `file_name` and `text` (or `caption`)
    shard-000.tar                             WebDataset: 0001.jpg + 0001.txt, or 0001.json with such a field

Nothing is unpacked: a picture in a shard is read where it lies.
"""

import csv
import hashlib
import json
import os
import posixpath
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadInput
from dallecli.source import FILE_BYTES, PICTURE_SUFFIXES
from dallecli.tasks.task import PROMPT_BYTES

CAPTION_KEYS: Final = ("text", "caption")
METADATA: Final = ("metadata.jsonl", "metadata.csv")
METADATA_SUFFIXES: Final = (".jsonl", ".csv")
SHARD: Final = ".tar"
NAMED: Final = 3
"""How many of each kind of fault are named in a summary; all of them are in the list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A picture with a caption: bytes `start` to `start + size` of a file (all of it where size is None).

    `name` is the picture's; one with several captions is several items.
    """

    name: str
    caption: str
    file: Path
    start: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """The bytes of the picture. Raises OSError; ValueError if there are too many."""
        with self.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size if self.size is None else self.size
            if size > FILE_BYTES:
                raise ValueError(f"it has {size} bytes, the limit is {FILE_BYTES}")
            file.seek(self.start)
            return file.read(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that cannot be trained on: the kind of fault, which is counted, and why in this case."""

    name: str
    kind: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All pairs of some data, in the order of their names, and all faults. `digest` changes whenever the data do."""

    items: tuple[Item, ...]
    faults: tuple[Fault, ...]
    digest: str


def summary(faults: Sequence[Fault]) -> list[str]:
    """One line a kind of fault: how many there are, and the names of the first few."""
    lines = []
    for kind, count in Counter(fault.kind for fault in faults).most_common():
        names = [fault.name for fault in faults if fault.kind == kind][:NAMED]
        more = ", …" if count > len(names) else ""
        lines.append(f"{count} {kind} ({', '.join(names)}{more})")
    return lines


def look(places: Sequence[Path], but: Path | None = None) -> Listing:
    """List the pairs in folders, metadata files and shards, leaving the folder `but` out.

    Raises:
        BadInput: one of them is missing, cannot be read, or is none of these.
    """
    found: list[Item | Fault] = []
    stamps: list[str] = []
    for place in places:
        try:
            files = list(_files(place, None if but is None else but.resolve()))
            for file in files:
                status = file.stat()
                stamps.append(f"{file}\0{status.st_size}\0{status.st_mtime_ns}")
            found += _pairs(place, files, prefix=f"{place}/" if len(places) > 1 else "")
        except OSError as problem:
            raise BadInput(f"the data cannot be read: {problem.strerror}", where=str(place)) from problem
    items = sorted((item for item in found if isinstance(item, Item)), key=lambda item: item.name)
    faults = [fault for fault in found if isinstance(fault, Fault)]
    digest = hashlib.sha256("\n".join(stamps).encode("utf-8", "surrogateescape")).hexdigest()
    return Listing(items=tuple(items), faults=tuple(faults), digest=digest)


def _files(place: Path, but: Path | None) -> Iterator[Path]:
    """All visible files below a folder in a fixed order, or the file itself."""
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        raise BadInput("there is no such data", where=str(place), hint="name a folder, a metadata file or .tar shards")
    for folder, folders, names in os.walk(place):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if Path(folder, name).resolve() != but]
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _pairs(place: Path, files: Sequence[Path], prefix: str) -> Iterator[Item | Fault]:
    """What is in the `files` of one place; names are paths below it, behind `prefix`."""
    if place.is_file():
        if place.suffix == SHARD:
            yield from _in_shard(place, prefix)
        elif place.suffix in METADATA_SUFFIXES:
            yield from _in_metadata(place, "")
        else:
            hint = "name a folder, a .jsonl or .csv file, or .tar shards"
            raise BadInput("this is not a kind of training data", where=str(place), hint=hint)
        return
    described, named = set[Path](), set[str]()
    for file in files:
        if file.name in METADATA:
            described.add(file.parent)
            for found in _in_metadata(file, prefix + _folder_name(file.parent.relative_to(place))):
                named.add(found.name)
                yield found
        elif file.suffix == SHARD:
            yield from _in_shard(file, prefix)
    for file in files:
        name = prefix + file.relative_to(place).as_posix()
        if file.suffix.lower() in PICTURE_SUFFIXES and name not in named:
            if described.isdisjoint(file.parents):
                yield _beside(file, name)
            else:
                yield Fault(name=name, kind="pictures without a row of metadata", why="no metadata file names it")


def _folder_name(folder: Path) -> str:
    return "" if folder == Path() else f"{folder.as_posix()}/"


def _beside(picture: Path, name: str) -> Item | Fault:
    """A picture whose caption is a text file beside it."""
    text = picture.with_suffix(".txt")
    if not text.is_file():
        return Fault(name=name, kind="without a caption", why=f"there is no {text.name} beside it")
    return _captioned(name, text.read_bytes(), picture)


def _captioned(name: str, caption: object, file: Path, start: int = 0, size: int | None = None) -> Item | Fault:
    if isinstance(caption, bytes):
        try:
            caption = caption.decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            return Fault(name=name, kind="with an unreadable caption", why=f"it is not UTF-8: {problem}")
    if not isinstance(caption, str) or not caption.strip():
        return Fault(name=name, kind="without a caption", why="the caption is empty")
    caption = " ".join(caption.split())
    if len(caption.encode("utf-8", "replace")) > PROMPT_BYTES:
        why = f"it is longer than any prompt, {PROMPT_BYTES} bytes"
        return Fault(name=name, kind="with an unreadable caption", why=why)
    return Item(name=name, caption=caption, file=file, start=start, size=size)


def _in_metadata(metadata: Path, prefix: str) -> Iterator[Item | Fault]:
    rows = _jsonl_rows(metadata) if metadata.suffix == ".jsonl" else _csv_rows(metadata)
    for number, row in enumerate(rows, start=1):
        where = f"{prefix}{metadata.name}, row {number}"
        if isinstance(row, str):
            yield Fault(name=where, kind="rows that cannot be read", why=row)
            continue
        file_name = row.get("file_name")
        if not isinstance(file_name, str) or not file_name or "\0" in file_name:
            yield Fault(name=where, kind="rows that cannot be read", why="there is no file_name in it")
            continue
        inside = posixpath.normpath(file_name)
        picture = metadata.parent / inside
        if inside.startswith(("/", "../")):
            yield Fault(name=where, kind="rows that cannot be read", why="its file_name leads out of the folder")
        elif not picture.is_file():
            yield Fault(name=prefix + inside, kind="missing pictures", why=f"named in {where}")
        else:
            yield _captioned(prefix + inside, _caption(row), picture)


def _caption(row: Mapping[str, Any]) -> object:
    return next((row[key] for key in CAPTION_KEYS if key in row), None)


def _jsonl_rows(metadata: Path) -> Iterator[dict[str, Any] | str]:
    with metadata.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as problem:
                yield f"it is not JSON: {problem}"
                continue
            yield row if isinstance(row, dict) else "it is not a JSON object"


def _csv_rows(metadata: Path) -> Iterator[dict[str, Any] | str]:
    with metadata.open(encoding="utf-8-sig", errors="strict", newline="") as file:
        try:
            yield from csv.DictReader(file)
        except (csv.Error, UnicodeDecodeError) as problem:
            yield f"from here on it is not CSV in UTF-8: {problem}"


def _in_shard(shard: Path, prefix: str) -> Iterator[Item | Fault]:
    members: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(shard, "r:") as archive:
            members += (member for member in archive if member.isfile())
    except tarfile.TarError as problem:
        # What comes before the damage is whole.
        yield Fault(name=prefix + shard.name, kind="damaged shards", why=str(problem))
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in members:
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        samples.setdefault(f"{folder}/{stem}" if folder else stem, {})[f".{suffix.lower()}"] = member
    for key, parts in samples.items():
        picture = next((parts[suffix] for suffix in PICTURE_SUFFIXES if suffix in parts), None)
        if picture is not None:
            name = f"{prefix}{shard.name}/{key}"
            yield _captioned(name, _text_in(shard, parts), shard, picture.offset_data, picture.size)


def _text_in(shard: Path, parts: Mapping[str, tarfile.TarInfo]) -> object:
    """The caption among the parts of a sample: a text, or a field of a JSON object."""
    for suffix in (".txt", ".json"):
        if suffix not in parts or parts[suffix].size > FILE_BYTES:
            continue
        with shard.open("rb") as file:
            file.seek(parts[suffix].offset_data)
            data = file.read(parts[suffix].size)
        if suffix == ".txt":
            return data
        try:
            row = json.loads(data)
        except (ValueError, RecursionError):
            return None
        return _caption(row) if isinstance(row, dict) else None
    return None


def held_out_last(items: Iterable[Item], held_out: int) -> list[Item]:
    """Return the items with the last `held_out` of them chosen by the hash of their names.

    So additions to the data move few items from one side to the other.
    """
    ranked = sorted(items, key=lambda item: hashlib.sha256(item.name.encode("utf-8", "replace")).digest())
    return [*ranked[held_out:], *ranked[:held_out]]
