"""Captioned pictures in WebDataset's form: `0001.jpg` and `0001.txt`, or `0001.json`, in a .tar that stays as it is.

The key of a sample is its name up to the first dot. Members that belong to no sample are faults.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from dallecli.errors import reason
from dallecli.limits import CAPTION_BYTES, open_file
from dallecli.source import PICTURE_SUFFIXES
from dallecli.training.captions import (
    NoCaption,
    caption_of_json,
    caption_of_text,
    fault,
    missing,
    unreadable,
)
from dallecli.training.listing import Fault, Item
from dallecli.training.passed_over import passed_over
from dallecli.training.tar_members import BadTar, Member, members

SUFFIX: Final = ".tar"

Parts = dict[str, Member]
"""The members of a sample by their suffixes, in small letters."""


def pairs_in_shard(shard: Path, prefix: str) -> Iterator[Item | Fault]:
    """The samples of a shard, and its faults; `prefix` is put before all names."""
    samples: dict[str, Parts] = {}
    name = prefix + shard.name
    try:
        with open_file(shard) as file:
            for member in members(file):
                found = _placed(member, samples, name)
                if found is not None:
                    yield found
    except BadTar as problem:
        # What comes before the damage is whole.
        yield Fault(name=name, kind="damaged shards", why=str(problem))
    except OSError as problem:
        yield Fault(name=name, kind="damaged shards", why=f"it cannot be read: {reason(problem)}")
    for key, parts in samples.items():
        yield from _sample(shard, f"{name}/{key}", parts)


def _placed(member: Member, samples: dict[str, Parts], name: str) -> Fault | None:
    """Put a member into its sample; the fault, if it is in none."""
    folder, _, base = member.name.rpartition("/")
    stem, _, suffix = base.partition(".")
    if not stem:
        return None  # hidden, as in folders
    where = f"{name}/{member.name}"
    if member.other is not None:
        return Fault(name=where, kind="members that are no plain files", why=f"it is {member.other}")
    parts = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
    if f".{suffix.lower()}" in parts:
        return Fault(name=where, kind="second samples of one key", why=f"its key has a .{suffix.lower()} already")
    parts[f".{suffix.lower()}"] = member
    return None


def _sample(shard: Path, name: str, parts: Mapping[str, Member]) -> Iterator[Item | Fault]:
    pictures = [suffix for suffix in PICTURE_SUFFIXES if suffix in parts]
    for suffix in parts:
        if suffix not in pictures[:1]:
            why = _why_passed_over(suffix, pictures)
            if why is not None:
                yield Fault(name=f"{name}{suffix}", kind=why[0], why=why[1])
    if not pictures:
        return
    picture = parts[pictures[0]]
    try:
        caption = _caption(shard, parts)
    except NoCaption as problem:
        yield fault(name, problem)
    else:
        yield Item(name=name, caption=caption, file=shard, start=picture.start, size=picture.size)


def _why_passed_over(suffix: str, pictures: list[str]) -> tuple[str, str] | None:
    """The kind of fault of a member that is not its sample's picture, and why; None for what is no picture at all."""
    if suffix in pictures:
        return "second pictures of one sample", f"its picture is the {pictures[0]}"
    last = f".{suffix.rpartition('.')[2]}"
    if last in PICTURE_SUFFIXES:
        return "pictures of another name", f"a picture is called KEY{last}, and keys end at the first dot"
    return passed_over(f"x{suffix}")


def _caption(shard: Path, parts: Mapping[str, Member]) -> str:
    """The caption among the parts of a sample: a text, or a field of a JSON object. Raises NoCaption."""
    read = next(((parts[suffix], of) for suffix, of in _CAPTIONS.items() if suffix in parts), None)
    if read is None:
        others = [suffix for suffix in parts if suffix not in PICTURE_SUFFIXES]
        raise missing("there is no .txt or .json of its key" + (f", only {', '.join(others[:3])}" if others else ""))
    member, caption_of = read
    if member.size > CAPTION_BYTES:
        raise unreadable(f"it has {member.size} bytes, the limit is {CAPTION_BYTES}")
    try:
        with open_file(shard) as file:
            file.seek(member.start)
            return caption_of(file.read(member.size))
    except OSError as problem:
        raise unreadable(f"it cannot be read: {reason(problem)}") from problem


_CAPTIONS: Final = {".txt": caption_of_text, ".json": caption_of_json}
