"""flax's msgpack files: which arrays are in them, and where. No torch.

A `flax_model.msgpack` is no pickle: it is a map of maps, whose leaves are arrays of raw bytes. Its head is not in one
place, so the file is walked through once, and of an array no more is read than its shape. What is not needed for that
is refused. The format: https://github.com/msgpack/msgpack/blob/master/spec.md, with flax's extension 1, an array of
shape, dtype and bytes; larger arrays than a gigabyte are in chunks.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from dallecli.errors import BadFile, reason
from dallecli.limits import FLAX_DEPTH, TENSOR_NAME, TENSORS, open_file
from dallecli.weights.header import FETCH_AGAIN, WIDTHS

DTYPES: Final[Mapping[str, str]] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""numpy's names, and those of safetensors."""

CHUNKED: Final = "__msgpack_chunked_array__"
ARRAY: Final = 1
"""flax's number for an array among msgpack's extensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array of the file: its kind of number ("F32"), its shape, and where its bytes lie, in order."""

    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]
    """The first byte of each piece, and the one behind its last."""

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A tensor that is made of an array, or of one layer of it."""

    source: str
    target: str
    layer: int | None = None
    """Which of the matrices that are stacked in it; None for all of it."""
    turned: bool = False
    """Whether rows become columns: flax multiplies from the right."""

    def shape(self, array: Array) -> tuple[int, ...]:
        """The shape of the tensor."""
        own = array.shape if self.layer is None else array.shape[1:]
        return own[::-1] if self.turned else own


def read_flax(path: Path) -> dict[str, Array]:
    """The arrays of a file by the names on their way joined by "/".

    Raises BadFile: the file cannot be read, is cut short or damaged, or holds anything but arrays of floats.
    """
    try:
        with open_file(path) as file:
            walk = _Walk(file, os.fstat(file.fileno()).st_size)
            arrays = dict(walk.arrays())
            if walk.place != walk.size:
                raise ValueError(f"{walk.size - walk.place} bytes too many follow the last array")
    except OSError as problem:
        raise BadFile(f"the weights cannot be read: {reason(problem)}", str(path), FETCH_AGAIN) from problem
    except ValueError as problem:
        raise BadFile(f"this is no whole flax_model.msgpack: {problem}", str(path), FETCH_AGAIN) from problem
    if not arrays:
        raise BadFile("there are no arrays in this file", str(path), FETCH_AGAIN)
    return arrays


def copy_flax(path: Path, arrays: Mapping[str, Array], copies: Sequence[Copy], target: Path) -> None:
    """Write tensors into a new safetensors file, one after the other; dtypes stay.

    No more is held in memory than the largest of them. Raises BadFile if the file changed, OSError.
    """
    entries, end = {}, 0
    for copy in copies:
        array, shape = arrays[copy.source], copy.shape(arrays[copy.source])
        start, end = end, end + math.prod(shape) * WIDTHS[array.dtype]
        entries[copy.target] = {"dtype": array.dtype, "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    with open_file(path) as file, target.open("xb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        for copy in copies:
            out.write(_numbers(file, path, arrays[copy.source], copy))


def _numbers(file: BinaryIO, path: Path, array: Array, copy: Copy) -> bytes:
    """The bytes of a tensor."""
    width, shape = WIDTHS[array.dtype], array.shape if copy.layer is None else array.shape[1:]
    length = math.prod(shape) * width
    first = 0 if copy.layer is None else copy.layer * length
    data = b"".join(_parts(file, array, first, first + length))
    if len(data) != length:
        raise BadFile("this file changed while it was read", str(path), FETCH_AGAIN)
    if not copy.turned:
        return data
    # The bytes of a number stay together, whatever it is.
    turned = np.frombuffer(data, dtype=f"u{width}").reshape(shape).transpose()
    return turned.tobytes()


def _parts(file: BinaryIO, array: Array, first: int, end: int) -> Iterator[bytes]:
    """The bytes of an array from `first` up to `end`."""
    passed = 0
    for start, stop in array.pieces:
        low, high = max(first - passed, 0), min(end - passed, stop - start)
        if low < high:
            file.seek(start + low)
            yield file.read(high - low)
        passed += stop - start


class _Walk:
    """Goes through a file once. Raises ValueError, in words, where it is not what flax writes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.place = 0
        self.count = 0

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """All arrays from here on, of the map that begins here."""
        yield from self._map("", 1)

    def _map(self, name: str, depth: int) -> Iterator[tuple[str, Array]]:
        if depth > FLAX_DEPTH:
            raise ValueError(f"it is more than {FLAX_DEPTH} maps deep")
        seen: set[str] = set()
        for _ in range(self._length(0x80, 0x0F, {0xDE: 2, 0xDF: 4}, "a map")):
            key = self._text()
            if key in seen or "/" in key:
                raise ValueError(f"the name {key} appears twice, or is none")
            seen.add(key)
            if key == CHUNKED and len(seen) == 1:
                raise ValueError("an array in chunks is out of place")
            inner = f"{name}/{key}" if name else key
            if len(inner) > TENSOR_NAME or not inner.isprintable():
                raise ValueError("an array has a name that no network uses")
            yield from self._value(inner, depth)

    def _value(self, name: str, depth: int) -> Iterator[tuple[str, Array]]:
        kind = int.from_bytes(self._peek(1), "big")  # 0 at the end of the file, which is no array either
        if kind & 0xF0 == 0x80 or kind in (0xDE, 0xDF):
            if self._chunked(kind):
                yield name, self._chunks(depth)
            else:
                yield from self._map(name, depth + 1)
        else:
            yield name, self._array()
        self.count += 1
        if self.count > TENSORS:
            raise ValueError(f"it has more than {TENSORS} arrays")

    def _chunked(self, kind: int) -> bool:
        """Whether the map that begins here is an array in chunks."""
        head = {0xDE: 3, 0xDF: 5}.get(kind, 1)
        key = CHUNKED.encode()
        return self._peek(head + 1 + len(key))[head:] in (bytes([0xA0 | len(key)]) + key,)

    def _chunks(self, depth: int) -> Array:
        if self._length(0x80, 0x0F, {0xDE: 2, 0xDF: 4}, "a map") != 3 or self._text() != CHUNKED:
            raise ValueError("an array in chunks is damaged")
        if self._take(1) != b"\xc3" or self._text() != "shape":
            raise ValueError("an array in chunks is damaged")
        shape = tuple(self._whole() for _ in self._numbered())
        if self._text() != "chunks":
            raise ValueError("an array in chunks is damaged")
        parts = [self._array() for _ in self._numbered()]
        if not parts or len({part.dtype for part in parts}) != 1 or any(len(part.shape) != 1 for part in parts):
            raise ValueError("the chunks of an array do not fit each other")
        array = Array(dtype=parts[0].dtype, shape=shape, pieces=tuple(piece for part in parts for piece in part.pieces))
        return _checked(array)

    def _numbered(self) -> Iterator[int]:
        """Goes through a map whose names are 0, 1, 2 …"""
        for number in range(self._length(0x80, 0x0F, {0xDE: 2, 0xDF: 4}, "a map")):
            if number > TENSORS or self._text() != str(number):
                raise ValueError("the parts of an array are not in order")
            yield number

    def _array(self) -> Array:
        """An extension with an array."""
        kind = self._take(1)[0]
        if kind not in (0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8):
            raise ValueError(f"there is something else than an array at byte {self.place - 1}")
        length = 1 << (kind - 0xD4) if kind >= 0xD4 else self._number(1 << (kind - 0xC7))
        if self._take(1)[0] != ARRAY:
            raise ValueError("there is an extension that is no array")
        end = self.place + length
        if self._length(0x90, 0x0F, {}, "an array") != 3:
            raise ValueError("an array has no shape, dtype and bytes")
        shape = tuple(self._whole() for _ in range(self._length(0x90, 0x0F, {}, "a shape")))
        dtype = self._text()
        if dtype not in DTYPES:
            raise ValueError(f"an array holds numbers of the kind {dtype}")
        kind = self._take(1)[0]
        if kind not in (0xC4, 0xC5, 0xC6):
            raise ValueError("an array has no bytes")
        size = self._number(1 << (kind - 0xC4))
        if self.place + size != end or end > self.size:
            raise ValueError(f"it is cut short, or an array claims more bytes than there are ({size})")
        array = Array(dtype=DTYPES[dtype], shape=shape, pieces=((self.place, end),))
        self.place = end
        return _checked(array)

    def _whole(self) -> int:
        kind = self._take(1)[0]
        if kind < 0x80:
            return kind
        if 0xCC <= kind <= 0xCF:
            return self._number(1 << (kind - 0xCC))
        raise ValueError("a side of an array is no whole number")

    def _text(self) -> str:
        length = self._length(0xA0, 0x1F, {0xD9: 1, 0xDA: 2, 0xDB: 4}, "a name")
        if length > TENSOR_NAME:
            raise ValueError("a name is too long")
        return self._take(length).decode("utf-8")

    def _length(self, fixed: int, bits: int, longer: Mapping[int, int], what: str) -> int:
        """A length, which is in the byte of its kind itself, or in those behind it."""
        kind = self._take(1)[0]
        if kind & ~bits & 0xFF == fixed:
            return kind & bits
        if kind not in longer:
            raise ValueError(f"{what} was expected at byte {self.place - 1}")
        return self._number(longer[kind])

    def _number(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _take(self, count: int) -> bytes:
        data = self._peek(count)
        if len(data) != count:
            raise ValueError("it is cut short")
        self.place += count
        return data

    def _peek(self, count: int) -> bytes:
        self.file.seek(self.place)
        return self.file.read(count)


def _checked(array: Array) -> Array:
    """An array whose bytes are as many as its shape needs. Raises ValueError."""
    if len(array.shape) > 8 or math.prod(array.shape) * WIDTHS[array.dtype] != array.size:
        raise ValueError("an array has more or fewer bytes than its shape needs")
    return array
