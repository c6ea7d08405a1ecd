"""A picture file without what nobody needs to see it: texts, XMP, previews, notes of cameras and programs.

Metadata never refuse a picture: they are cut out by the formats' own framing before any decoder meets them, however
large, damaged or misplaced they are. What decides the pixels stays as it is, and so do the orientation in the EXIF data
and the colour profile. A recipe is found here without a decoder.

Sources: the PNG specification (third edition), ITU-T T.81 annex B (JPEG), RFC 9649 (WebP).
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dallecli.limits import PROFILE_BYTES, RECIPE_BYTES, SCANS, in_words

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"

# What a PNG's pixels are made of. A reader that does not know a critical chunk must stop; none but these is known.
_PIXEL_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")

# Markers of JPEG that stand alone, and those of frames (which have the size).
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END, _COMMENT = 0xDA, 0xD9, 0xFE
_NEXT_MARKER: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")

_WEBP_CHUNKS: Final = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF")
_WEBP_XMP, _WEBP_EXIF = 0x04, 0x08  # flags in VP8X


class Damaged(ValueError):
    """The picture itself is damaged, and how."""


class DamagedText(Damaged):
    """A text in the picture is damaged, and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """A picture file with nothing but what decides how it looks."""

    format: str
    """"PNG", "JPEG" or "WEBP"."""
    data: bytes
    size: tuple[int, int] | None
    """Width and height as the file states them; None where only a decoder finds them."""
    frames: int = 1
    """Of a PNG; a decoder counts those of a WebP."""
    profile: bytes | None = None
    """The colour profile of a PNG."""
    doubts: tuple[str, ...] = ()
    """What was left out, if it might have changed the colours."""


def format_of(data: bytes) -> str | None:
    """ "PNG", "JPEG" or "WEBP" by the first bytes; None for anything else."""
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data.startswith(JPEG_SIGNATURE):
        return "JPEG"
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def plain(data: bytes, format: str) -> Plain:
    """The file without what nobody needs to see it.

    Raises: Damaged for what no decoder could read either, and a JPEG of more than `SCANS` scans.
    """
    return {"PNG": _plain_png, "JPEG": _plain_jpeg, "WEBP": _plain_webp}[format](data)


# PNG


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk of a PNG: its bytes with length and checksum, its content, and whether the checksum is right."""

    kind: bytes
    whole: memoryview
    content: memoryview
    right: bool


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """The chunks up to IEND, or to the last whole one. Raises Damaged where pixels are cut off, or framing is lost."""
    view, place = memoryview(data), len(PNG_SIGNATURE)
    while place < len(data):
        kind = bytes(view[place + 4 : place + 8])
        length = int.from_bytes(view[place : place + 4], "big")
        end = place + 12 + length
        if len(kind) == 4 and not kind.isalpha():
            raise Damaged("something else stands where a chunk should begin")
        if end > len(data):
            if kind in (b"IHDR", b"PLTE", b"IDAT"):
                raise Damaged("the file is cut short")
            yield _Chunk(kind, view[place:], view[place + 8 :], False)
            return
        content = view[place + 8 : end - 4]
        right = zlib.crc32(view[place + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        yield _Chunk(kind, view[place:end], content, right)
        if kind == b"IEND":
            return
        place = end


def _plain_png(data: bytes) -> Plain:
    kept: list[memoryview | bytes] = [PNG_SIGNATURE]
    size, frames, profile, doubts, seen = (0, 0), 1, None, list[str](), set[bytes]()
    for chunk in _chunks(data):
        if not seen and (chunk.kind != b"IHDR" or len(chunk.content) != 13):
            raise Damaged("its header does not come first")
        if chunk.kind in _PIXEL_CHUNKS:
            if not chunk.right:
                raise Damaged(f"the checksum of its {chunk.kind.decode()} is wrong")
            kept.append(chunk.whole)
        if chunk.kind == b"IHDR":
            size = struct.unpack(">II", chunk.content[:8])
        elif chunk.kind == b"eXIf" and chunk.right and b"eXIf" not in seen:
            kept.insert(2, chunk.whole)
        elif chunk.kind == b"acTL" and chunk.right and len(chunk.content) == 8:
            frames = int.from_bytes(chunk.content[:4], "big")
        elif chunk.kind == b"iCCP" and not seen & {b"iCCP", b"PLTE", b"IDAT"}:
            profile = _profile(chunk)
            if profile is None:
                doubts.append("its colour profile is damaged or too large, its colours are read as sRGB")
        seen.add(chunk.kind)
    if b"IDAT" not in seen:
        raise Damaged("the file is cut short")
    return Plain(
        format="PNG", data=b"".join(kept), size=size, frames=max(frames, 1), profile=profile, doubts=tuple(doubts)
    )


def _profile(chunk: _Chunk) -> bytes | None:
    """The unpacked colour profile; None if there is none that can be used."""
    _, _, packed = bytes(chunk.content).partition(b"\0")
    if not chunk.right or packed[:1] != b"\0":
        return None
    return _unpacked(packed[1:], PROFILE_BYTES)


def _unpacked(packed: bytes, most: int) -> bytes | None:
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(packed, most)
    except zlib.error:
        return None
    return data if unpacking.eof and data else None


def text_in_png(data: bytes, key: bytes) -> str | None:
    """The text of the iTXt chunk with this keyword; None if there is none.

    Raises: DamagedText if there is one that cannot be read, or that has more than `RECIPE_BYTES`; Damaged.
    """
    for chunk in _chunks(data):
        if chunk.kind == b"iTXt" and bytes(chunk.content[: len(key) + 1]) == key + b"\0":
            if not chunk.right:
                raise DamagedText("it is cut short, or its checksum is wrong")
            return _text(bytes(chunk.content[len(key) + 1 :]))
    return None


def _text(content: bytes) -> str:
    """The text behind the keyword of an iTXt chunk: compression flag and method, language, translated keyword, text."""
    packed, fields = content[:1] == b"\1", content[2:].split(b"\0", 2)
    if len(fields) < 3:
        raise DamagedText("it is cut short")
    text = _unpacked(fields[2], RECIPE_BYTES + 1) if packed else fields[2]
    if text is None:
        raise DamagedText("it cannot be unpacked")
    if len(text) > RECIPE_BYTES:
        raise DamagedText(f"it has more than {in_words(RECIPE_BYTES)}")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedText("it is not UTF-8") from error


# JPEG


def _plain_jpeg(data: bytes) -> Plain:
    view = memoryview(data)
    kept: list[memoryview | bytes] = [view[:2]]
    place, size, scans = 2, None, 0
    while place < len(data):
        # Encoders may fill up with 0xFF before a marker, and have left other bytes there: decoders look for the next.
        found = _NEXT_MARKER.search(data, place)
        if found is None:
            break
        marker, place = data[found.end() - 1], found.end()
        if marker in _ALONE:
            continue
        if marker == _END:
            kept.append(b"\xff\xd9")
            break
        end = place + int.from_bytes(view[place : place + 2], "big")
        if end > len(data) or end < place + 2:
            raise Damaged("the file is cut short" if end > len(data) else "a segment has no length")
        if marker in _FRAMES and size is None and end - place >= 7:
            height, width = struct.unpack(">HH", view[place + 3 : place + 7])
            size = (width, height) if height > 0 else None
        if marker == _SCAN:
            scans += 1
            if scans > SCANS:
                raise Damaged(f"it has more than {SCANS} scans, each of which is worth a whole decoding")
            following = _NEXT_MARKER.search(data, end)
            end = following.start() if following is not None else len(data)
        if _matters(marker, bytes(view[place + 2 : min(end, place + 20)])):
            kept += [b"\xff" + data[found.end() - 1 : found.end()], view[place:end]]
        place = end
    if scans == 0:
        raise Damaged("the file is cut short")
    return Plain(format="JPEG", data=b"".join(kept), size=size)


def _matters(marker: int, content: bytes) -> bool:
    """Whether a segment decides how the picture looks: all but comments and the notes of programs do."""
    if marker == 0xE0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    if marker == 0xE1:
        return content.startswith(b"Exif\0")
    if marker == 0xE2:
        return content.startswith(b"ICC_PROFILE\0")
    return marker != _COMMENT and (marker == 0xEE or not 0xE0 <= marker <= 0xEF)


# WebP


def _plain_webp(data: bytes) -> Plain:
    view, place, flags = memoryview(data), 12, 0xFF ^ _WEBP_XMP
    kept: list[tuple[bytes, memoryview]] = []
    while place + 8 <= len(data):
        kind, length = bytes(view[place : place + 4]), int.from_bytes(view[place + 4 : place + 8], "little")
        end = place + 8 + length
        if end > len(data):
            if kind in _WEBP_CHUNKS and kind != b"EXIF":
                raise Damaged("the file is cut short")
            flags ^= _WEBP_EXIF if kind == b"EXIF" else 0
            break
        if kind in _WEBP_CHUNKS:
            kept.append((kind, view[place + 8 : end]))
        place = end + length % 2
    if not any(kind in (b"VP8 ", b"VP8L", b"ANMF") for kind, _ in kept):
        raise Damaged("the file is cut short")
    body = b"WEBP" + b"".join(_webp_chunk(kind, content, flags) for kind, content in kept)
    return Plain(format="WEBP", data=b"RIFF" + struct.pack("<I", len(body)) + body, size=_webp_size(*kept[0]))


def _webp_chunk(kind: bytes, content: memoryview, flags: int) -> bytes:
    if kind == b"VP8X" and len(content) >= 1:
        content = memoryview(bytes([content[0] & flags]) + content[1:])
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _webp_size(kind: bytes, content: memoryview) -> tuple[int, int] | None:
    if kind == b"VP8X" and len(content) >= 10:
        return 1 + int.from_bytes(content[4:7], "little"), 1 + int.from_bytes(content[7:10], "little")
    if kind == b"VP8L" and len(content) >= 5:
        bits = int.from_bytes(content[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(content) >= 10:
        width, height = struct.unpack("<HH", content[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None
