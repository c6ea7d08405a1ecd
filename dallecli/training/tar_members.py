"""Where the members of a tar archive lie, in bounded memory whatever its headers say.

Python's own reader believes them: it reads a name of 8 GB into memory, recurses for each of a thousand long names, and
takes a sparse member's map for its pixels. Here a name has an end, headers are read one after the other, and what is no
plain file is said to be something else. Formats: v7, ustar, GNU (long names) and POSIX (`path` and `size`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

BLOCK: Final = 512
NAME_BYTES: Final = 4096
"""The longest name: the longest path of a file system."""
RECORDS_BYTES: Final = 2**20
"""The most that a POSIX header says about one member."""
HEADERS: Final = 2**18
"""The most headers of one archive: a shard has a few thousand samples."""
BEHIND: Final = 2**24
"""So many bytes behind the end are looked at: an archive ends with zeros."""

_OTHERS: Final = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"M": "the rest of a file in another archive",
}
_ABOUT_OTHERS: Final = (b"L", b"K", b"x", b"g")
_WITHOUT_BYTES: Final = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Whatever their size says."""
_COMPRESSED: Final = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
    b"PK\x03\x04": "unzip",
}


class BadTar(Exception):
    """From here on this is no archive; what came before is whole."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member: bytes `start` to `start + size` of the archive. `other` says what it is instead of a plain file."""

    name: str
    start: int
    size: int
    other: str | None = None


@dataclass(slots=True)
class _Said:
    """What the headers before a member say about it."""

    name: bytes | None = None
    size: int | None = None
    wrong: str | None = None
    seen: set[bytes] = field(default_factory=set)


def members(file: BinaryIO) -> Iterator[Member]:
    """The members of an archive but for its folders, in their order. Raises BadTar where it is damaged; OSError."""
    end = file.seek(0, 2)
    place, said = 0, _Said()
    for _ in range(HEADERS):
        header = _read(file, place, BLOCK, end)
        if not header.strip(b"\0"):
            _check_end(file, place)
            return
        _check_sum(header, place)
        size, kind, start = _number(header[124:136]), header[156:157], place + BLOCK
        if kind in _ABOUT_OTHERS:
            place = start + _padded(size)
            _listen(said, kind, file, start, size, end)
            continue
        member = _member(header, kind, said, start, size)
        said = _Said()
        if kind == b"S":
            start += _map_size(file, start, header, end)
        place = start if kind in _WITHOUT_BYTES else start + _padded(member.size)
        if kind not in _WITHOUT_BYTES and start + member.size > end:
            raise BadTar(f"{member.name[:80]} is cut short")
        if kind != b"5" and not (kind == b"\0" and member.name.endswith("/")):
            yield member
    raise BadTar(f"it has more than {HEADERS} headers")


def _padded(size: int) -> int:
    """Bytes that a member of `size` takes, in whole blocks."""
    return -(-size // BLOCK) * BLOCK


def _read(file: BinaryIO, place: int, size: int, end: int) -> bytes:
    if place + size > end:
        raise BadTar("it is cut short")
    file.seek(place)
    return file.read(size)


def _check_sum(header: bytes, place: int) -> None:
    if place == 0:
        for start, program in _COMPRESSED.items():
            if header.startswith(start):
                raise BadTar(f"it is compressed: {program} it first")
    padded = header[:148] + b" " * 8 + header[156:]
    digits = header[148:156].strip(b" \0")
    stated = int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else -1
    # Some old programs summed the bytes as signed numbers.
    if stated != sum(padded) and stated != sum(byte - 256 if byte > 127 else byte for byte in padded):
        raise BadTar(f"at byte {place} there is no header of a member")


def _number(digits: bytes) -> int:
    """A number in octal, or, behind a byte of 128, in base 256. Raises BadTar."""
    if digits[0] == 128:
        return int.from_bytes(digits[1:], "big")
    text = digits.strip(b" \0")
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise BadTar(f"{text[:12]!r} is no number of a header")
    return int(text, 8)


def _listen(said: _Said, kind: bytes, file: BinaryIO, start: int, size: int, end: int) -> None:
    """Take down what an extending header says of the member behind it."""
    if start + size > end:
        raise BadTar("it is cut short")
    limit = RECORDS_BYTES if kind == b"x" else NAME_BYTES
    if kind == b"g":
        return  # of all members: times, users, comments
    if kind in said.seen:
        said.wrong = "of which one thing is said twice"
    elif size > limit:
        said.wrong = f"of which {size} bytes are said, the limit is {limit}"
    elif kind == b"L":
        said.name = _read(file, start, size, end).partition(b"\0")[0]
    elif kind == b"x":
        _take_records(said, _read(file, start, size, end))
    said.seen.add(kind)


def _take_records(said: _Said, data: bytes) -> None:
    """POSIX's records "LENGTH KEY=VALUE\\n"."""
    place = 0
    while place < len(data) and data[place]:
        length, _, _ = data[place : place + 20].partition(b" ")
        if not length.isdigit() or not 5 <= int(length) <= len(data) - place:
            said.wrong = "of which something unreadable is said"
            return
        record = data[place + len(length) + 1 : place + int(length) - 1]
        key, _, value = record.partition(b"=")
        place += int(length)
        if key == b"path":
            said.name = value
            said.wrong = f"of which the name has {len(value)} bytes" if len(value) > NAME_BYTES else said.wrong
        elif key == b"size":
            said.size = int(value) if value.isdigit() and len(value) < 20 else 0
        elif key.startswith(b"GNU.sparse."):
            said.wrong = "a sparse file"


def _map_size(file: BinaryIO, start: int, header: bytes, end: int) -> int:
    """Bytes that the map of an old GNU sparse member takes behind its header."""
    more, taken = header[482], 0
    while more:
        more = _read(file, start + taken, BLOCK, end)[504]
        taken += BLOCK
    return taken


def _member(header: bytes, kind: bytes, said: _Said, start: int, size: int) -> Member:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    name = said.name if said.name is not None else name
    plain = kind in (b"0", b"\0", b"7")
    other = said.wrong if said.wrong is not None else (None if plain else _OTHERS.get(kind, "of an unknown kind"))
    shown = name[:NAME_BYTES].decode("utf-8", "surrogateescape")
    return Member(shown, start, size if said.size is None else said.size, other)


def _check_end(file: BinaryIO, place: int) -> None:
    """Look for members behind the end, as two archives in one file have them. Raises BadTar."""
    file.seek(place)
    for _ in range(BEHIND // 2**20):
        part = file.read(2**20)
        if part.strip(b"\0"):
            raise BadTar("there is more behind its end: perhaps these are several archives in one file")
        if not part:
            return
