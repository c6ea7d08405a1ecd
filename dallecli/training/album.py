"""The pictures of a training, decoded once, cropped square and scaled to the sizes that the stages learn from.

An epoch then costs no decoding: the pixels are memory-mapped, and the system keeps in memory what fits. An album is
made in a folder of its own and appears whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dallecli.errors import BadFile, BadInput, BadPicture, DiskFull, reason
from dallecli.limits import ALBUM_INDEX_BYTES, read_file
from dallecli.pictures.reading import read_picture
from dallecli.publish import publish
from dallecli.source import Source
from dallecli.training.listing import Fault, Item, Listing, held_out_last, summary

MOST_HELD_OUT: Final = 1000
HELD_OUT_SHARE: Final = 20
"""One picture in so many validates, at least one and at most `MOST_HELD_OUT`."""
AT_ONCE: Final = 256
"""Pictures that are decoded before their pixels are written."""

INDEX: Final = "album.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an album is made of: it is made again when any of this changes.

    sizes: the sides in pixels. data: the digest of the listing. least: the shortest side of a picture that is taken.
    mirrored: whether each picture that is trained on is there a second time, mirrored.
    """

    sizes: tuple[int, ...]
    data: str
    least: int
    mirrored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Album:
    """n captioned pictures, of which the last `held_out` validate.

    pictures: by size, uint8 [n 3 size size], mapped from the disk. small: how many had to be enlarged to the largest
    size. faults: everything that was left out, from the listing as well.
    """

    pictures: dict[int, Tensor]
    captions: tuple[str, ...]
    held_out: int
    small: int
    faults: tuple[Fault, ...]


def make_album(
    folder: Path,
    listing: Listing,
    terms: Terms,
    watch: Callable[[int, int], None],
    leave_out: Callable[[Sequence[Fault]], None] | None = None,
) -> None:
    """Decode the pictures of a listing into an album at `folder`, replacing what is there.

    `leave_out` is told of everything that is left out, also where too little is left.

    Raises:
        BadInput: fewer than two pictures are left.
        DiskFull: there is no space for it; nothing is left behind.
    """
    count = len(listing.items)
    if count < 2:
        raise _too_few(count, listing.faults)
    bytes_each = sum(3 * size**2 for size in terms.sizes) * (2 if terms.mirrored else 1)
    folder.parent.mkdir(parents=True, exist_ok=True)
    needed, free = count * bytes_each, shutil.disk_usage(folder.parent).free
    if free < needed:
        hint = "make room, or choose another --out; smaller sizes need less"
        raise DiskFull(f"the decoded pictures take {needed} bytes, {free} are free", str(folder.parent), hint)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir()
    try:
        try:
            _fill(partial, listing, terms, watch, leave_out)
        except OSError as problem:
            raise DiskFull(f"the decoded pictures cannot be written: {problem.strerror}", str(folder)) from problem
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_current(folder: Path, terms: Terms) -> bool:
    """Whether there is an album in `folder` that was made on these terms."""
    try:
        return (folder / INDEX).is_file() and _index(folder)["terms"] == _plain(terms)
    except (BadFile, LookupError, TypeError):
        return False


def open_album(folder: Path) -> Album:
    """Open an album that `make_album` made."""
    index = _index(folder)
    pictures = {}
    for size in index["terms"]["sizes"]:
        # Mapped privately: torch wants memory that could be written to, and nobody does.
        shape = (len(index["captions"]), 3, size, size)
        pictures[size] = torch.from_numpy(np.memmap(_pixels_file(folder, size), np.uint8, mode="c", shape=shape))
    return Album(
        pictures=pictures,
        captions=tuple(index["captions"]),
        held_out=index["held_out"],
        small=index["small"],
        faults=tuple(Fault(**fault) for fault in index["faults"]),
    )


def _index(folder: Path) -> Any:
    try:
        return json.loads(read_file(folder / INDEX, ALBUM_INDEX_BYTES))
    except (OSError, ValueError) as problem:
        hint = "remove this folder: its pictures are decoded again"
        raise BadFile(f"the index of the decoded pictures cannot be read: {reason(problem)}", str(folder), hint) from (
            problem
        )


def square(image: Image.Image, size: int) -> Image.Image:
    """The middle square of a picture at `size` px: scaled down by averaging areas, scaled up smoothly."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    method = Image.Resampling.BOX if side >= size else Image.Resampling.BICUBIC
    return image.resize((size, size), method, box=(left, top, left + side, top + side))


def _fill(
    folder: Path,
    listing: Listing,
    terms: Terms,
    watch: Callable[[int, int], None],
    leave_out: Callable[[Sequence[Fault]], None] | None,
) -> None:
    count = len(listing.items)
    held_out = min(MOST_HELD_OUT, max(1, count // HELD_OUT_SHARE))
    items = held_out_last(listing.items, held_out)
    faults, captions, small, validating = list(listing.faults), list[str](), 0, 0
    with ThreadPoolExecutor() as threads, ExitStack() as stack:
        # Written, not mapped: a disk that is full is an error here, and would be the end of the process there.
        files = {size: stack.enter_context(_pixels_file(folder, size).open("wb")) for size in terms.sizes}
        for start in range(0, count, AT_ONCE):
            part = items[start : start + AT_ONCE]
            for place, (item, made) in enumerate(zip(part, threads.map(_decoder(terms), part), strict=True), start):
                if isinstance(made, Fault):
                    faults.append(made)
                    continue
                validates = place >= count - held_out
                validating += validates
                small += made.enlarged
                for mirrored in (False, True) if terms.mirrored and not validates else (False,):
                    captions.append(item.caption)
                    for size, pixels in made.pixels.items():
                        files[size].write((pixels[..., ::-1] if mirrored else pixels).tobytes())
            watch(min(start + AT_ONCE, count), count)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    if leave_out is not None:
        leave_out(faults)
    if len(captions) < 2:
        raise _too_few(len(captions), tuple(faults))
    index = {
        "terms": _plain(terms),
        "captions": captions,
        "held_out": max(validating, 1),
        "small": small,
        "faults": [asdict(fault) for fault in faults],
    }
    publish(folder / INDEX, json.dumps(index).encode(), force=False)


def _pixels_file(folder: Path, size: int) -> Path:
    """Bytes [n 3 size size], and nothing else."""
    return folder / f"pictures_{size}.rgb"


@dataclass(frozen=True, slots=True)
class _Made:
    pixels: dict[int, NDArray[np.uint8]]
    enlarged: bool


def _decoder(terms: Terms) -> Callable[[Item], _Made | Fault]:
    largest = max(terms.sizes)

    def decode(item: Item) -> _Made | Fault:
        try:
            image = read_picture(Source(kind="picture", name=item.name, data=item.read())).image
        except (BadPicture, OSError, ValueError) as problem:
            why = problem.what if isinstance(problem, BadPicture) else str(problem)
            return Fault(name=item.name, kind="unreadable pictures", why=why)
        side = min(image.size)
        if side < terms.least:
            why = f"{image.width} x {image.height} pixels, the shorter side needs {terms.least}"
            return Fault(name=item.name, kind="pictures that are too small", why=why)
        pixels = {size: np.asarray(square(image, size)).transpose(2, 0, 1) for size in terms.sizes}
        return _Made(pixels, enlarged=side < largest)

    return decode


def _plain(terms: Terms) -> dict[str, object]:
    return {**asdict(terms), "sizes": list(terms.sizes)}


def _too_few(count: int, faults: Sequence[Fault]) -> BadInput:
    lines = summary(faults)
    what = "there is nothing to train on" if count == 0 else "one picture alone cannot be trained on"
    if lines:
        what += f": {'; '.join(lines)}"
    return BadInput(what, hint="give pictures with captions: photo.jpg + photo.txt, metadata.jsonl, or .tar shards")
