"""The first bytes of a .safetensors file: what tensors it says it holds, and whether that can be true.

The safetensors library refuses files that lie about their size, in words that only its authors can act on, and it lets
through doubled names. So the header is read here, without torch, and every way in which downloads go wrong
(cut short, a web page, a Git LFS pointer, a pickle under another name) is called by its name.
The format: eight bytes of little-endian header length, a JSON object, then the tensors without gaps.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from dallecli.errors import BadFile, reason
from dallecli.limits import HEADER_BYTES, TENSOR_NAME, TENSORS, open_file
from dallecli.source import is_safetensors_head

# bytes per number, for the kinds of number that the format knows and a weights file may hold
WIDTHS: Final[Mapping[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

FETCH_AGAIN: Final = "download this file again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of the file: its kind of number ("F16"), its shape, and where in the file its bytes lie."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of the file by name, in the order of their bytes.

    Raises:
        BadFile: the file cannot be read, is something else, is cut short or padded, or its header does not add up.
    """
    try:
        with open_file(path) as file:
            return header_of(file, path)
    except OSError as problem:
        raise BadFile(f"the weights cannot be read: {reason(problem)}", str(path), FETCH_AGAIN) from problem


def header_of(file: BinaryIO, path: Path) -> dict[str, Entry]:
    """What `read_header` finds in a file that is open, at its beginning. Raises OSError, too."""
    size = os.fstat(file.fileno()).st_size
    first = file.read(512)
    _refuse_impostors(first, size, path)
    length = int.from_bytes(first[:8], "little")
    if length > HEADER_BYTES:
        raise BadFile(f"the header claims {length} bytes, which no model needs", str(path), FETCH_AGAIN)
    if 8 + length > size:
        raise _cut_short(8 + length, size, path, "at least ")
    file.seek(8)
    entries = _entries(_parse(file.read(length), path), 8 + length, path)
    expected = max((entry.end for entry in entries.values()), default=8 + length)
    if size < expected:
        raise _cut_short(expected, size, path)
    if size > expected:
        raise BadFile(f"{size - expected} bytes too many follow the last tensor", str(path), FETCH_AGAIN)
    return entries


def _cut_short(expected: int, size: int, path: Path, about: str = "") -> BadFile:
    return BadFile(f"the file is cut short: {size} of {about}{expected} bytes are here", str(path), FETCH_AGAIN)


def _refuse_impostors(first: bytes, size: int, path: Path) -> None:
    """Name the things that are commonly found under the name of a weights file."""
    start = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        raise BadFile("the file is empty", str(path), FETCH_AGAIN)
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise BadFile("this is a web page, saved under the name of a weights file", str(path), FETCH_AGAIN)
    if start.startswith(b"version https://git-lfs"):
        hint = "run `git lfs pull` in the folder it came from, or download the file itself"
        raise BadFile("this is a Git LFS pointer, not the weights it points to", str(path), hint)
    # A header of 640 bytes, and of 896 and so on, begins as pickles do; but no pickle has its length and a table next.
    if is_safetensors_head(first, size):
        return
    if first.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        hint = "use the .safetensors file of this model"
        raise BadFile("this is a pickled checkpoint, which could run code: it is not opened", str(path), hint)
    # A real file starts with a length below 2^24, so with a NUL in its first eight bytes; a text never holds one.
    if size >= 8 and first.isascii() and b"\0" not in first:
        shown = first[:60].decode("ascii")
        raise BadFile(f"this is a text, not weights: {shown}", str(path), FETCH_AGAIN)
    if size < 8:
        raise _cut_short(8, size, path, "at least ")


def _parse(text: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for name, value in pairs:
            if name in table:
                raise ValueError(f"{name} appears twice")
            table[name] = value
        return table

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as problem:
        raise BadFile(f"the header is damaged: {problem}", str(path), FETCH_AGAIN) from problem
    if not isinstance(header, dict):
        raise BadFile("the header is damaged: it is not a table of tensors", str(path), FETCH_AGAIN)
    header.pop("__metadata__", None)
    if len(header) > TENSORS:
        raise BadFile(f"the file claims {len(header)} tensors, which no model here has", str(path), FETCH_AGAIN)
    return header


def _entries(header: dict[str, Any], end: int, path: Path) -> dict[str, Entry]:
    """The tensors of a file whose header has its `end` there."""
    entries = {name: _entry(name, stated, end, path) for name, stated in header.items()}
    ordered = sorted(entries.items(), key=lambda item: (item[1].start, item[1].end))
    for name, entry in ordered:
        if entry.start != end:
            problem = "overlaps another" if entry.start < end else "lies behind a gap"
            raise BadFile(f"the header is damaged: {name} {problem}", str(path), FETCH_AGAIN)
        end = entry.end
    return dict(ordered)


def _entry(name: str, stated: object, header_end: int, path: Path) -> Entry:
    if not name.isprintable() or len(name) > TENSOR_NAME:
        raise BadFile(f"a tensor has a name that no network uses: {name}", str(path), FETCH_AGAIN)
    match stated:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(start), int(end)]} if (
            dtype in WIDTHS and len(shape) <= 8 and all(type(side) is int and 0 <= side < 2**40 for side in shape)
        ):
            if 0 <= start <= end and end - start == math.prod(shape) * WIDTHS[dtype]:
                return Entry(dtype=dtype, shape=tuple(shape), start=header_end + start, end=header_end + end)
            problem = "has more or fewer bytes than its shape needs"
        case {"dtype": str(dtype)} if dtype not in WIDTHS:
            raise BadFile(
                f"{name} is stored as {dtype}, a kind of number that is not read here", str(path), FETCH_AGAIN
            )
        case _:
            problem = "is not described as a tensor"
    raise BadFile(f"the header is damaged: {name} {problem}", str(path), FETCH_AGAIN)
