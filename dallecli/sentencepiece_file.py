"""Reads the file of a SentencePiece unigram model: `spiece.model`, a Protocol Buffers message. No torch here.

What a tokenizer needs is read: the pieces with their scores and kinds, and the rules by which characters are
normalised. The rules are a double-array trie, as darts-clone writes it, behind the number of its bytes, and the texts
that it leads to, each with a NUL behind it. The `tokenizers` library believes every place that the trie names, and ends
in a panic where there is none; so the trie is walked here first.
"""

import math
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.errors import BadFile, reason
from dallecli.limits import NORMAL_BYTES, TOKENIZER_BYTES, TOKENS, read_file

REPAIR: Final = "correct it, or pull or copy the model again"

UNIGRAM: Final = 1
UNKNOWN: Final = 2
"""The kind of the piece that stands for all that no piece is for."""

_PIECES, _TRAINING, _NORMALISATION = 1, 2, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE: Final = 3
_CHARACTERS: Final = 2
_NORMAL: Final = 1
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A unigram model."""

    scores: tuple[tuple[str, float], ...]
    """The pieces with the logarithms of their probabilities; a piece's id is its place."""
    unknown: int
    """The id of the piece for what is in no other."""
    characters: bytes
    """How characters are normalised, as the file has it; nothing where they stay as they are."""


class _Damaged(ValueError):
    """It is no such message; the text says where it stops being one."""


def read_pieces(path: Path) -> Pieces:
    """The model in a file.

    Raises:
        BadFile: it cannot be read, is something else, or is damaged.
    """
    try:
        message = _fields(read_file(path, TOKENIZER_BYTES))
        pieces: list[tuple[str, float, int]] = []
        characters = b""
        for field, value in message:
            if field == _PIECES:
                if len(pieces) == TOKENS:
                    raise _Damaged(f"it has more than {TOKENS} pieces")
                pieces.append(_piece(_part(value)))
            elif field == _NORMALISATION:
                characters = _characters(_part(value))
            elif field == _TRAINING:
                _check_unigram(_part(value))
        unknown = [place for place, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN]
        if len(unknown) != 1:
            raise _Damaged(f"it has {len(unknown)} pieces for what is unknown, not one")
    except OSError as problem:
        raise BadFile(f"this file cannot be read: {reason(problem)}", str(path), REPAIR) from problem
    except _Damaged as problem:
        raise BadFile(f"this is no unigram model of SentencePiece: {problem}", str(path), REPAIR) from problem
    scores = tuple((text, score) for text, score, _ in pieces)
    return checked(Pieces(scores=scores, unknown=unknown[0], characters=characters), path)


def checked(pieces: Pieces, path: Path) -> Pieces:
    """The same pieces, from a file of any form, if the `tokenizers` library can work with them. Raises BadFile."""
    texts = [text for text, _ in pieces.scores]
    if len(texts) > TOKENS:
        raise BadFile(f"the vocabulary has {len(texts)} tokens, the limit is {TOKENS}", str(path), REPAIR)
    if len(set(texts)) != len(texts) or "" in texts:
        raise BadFile("the vocabulary has a token twice, or an empty one", str(path), REPAIR)
    if not all(math.isfinite(score) for _, score in pieces.scores):
        raise BadFile("the vocabulary has a score that is not finite", str(path), REPAIR)
    if not 0 <= pieces.unknown < len(texts):
        raise BadFile(f"the id for unknown tokens is {pieces.unknown}, of {len(texts)}", str(path), REPAIR)
    try:
        if pieces.characters:
            _check_characters(pieces.characters)
    except _Damaged as problem:
        raise BadFile(f"the rules for characters are damaged: {problem}", str(path), REPAIR) from problem
    return pieces


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the value of each field of a message, in their order. Raises _Damaged."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        field, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == _VARINT:
            value, place = _varint(message, place)
        elif wire in (_BYTES, _EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if wire == _EIGHT_BYTES else 4
            if wire == _BYTES:
                length, place = _varint(message, place)
            value = message[place : place + length]
            if len(value) < length:
                raise _Damaged(f"field {field} ends behind the file's end")
            place += length
        else:
            raise _Damaged(f"byte {place} begins no field")
        yield field, value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of up to ten bytes, and the place behind it."""
    number = 0
    for index, byte in enumerate(message[place : place + 10]):
        number |= (byte & 127) << (7 * index)
        if byte < 128:
            return number, place + index + 1
    raise _Damaged(f"byte {place} begins no number")


def _part(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _Damaged("a number stands where a part should")
    return value


def _piece(message: bytes) -> tuple[str, float, int]:
    """The text, score and kind of a piece."""
    text, score, kind = "", 0.0, _NORMAL
    for field, value in _fields(message):
        if field == _TEXT:
            try:
                text = _part(value).decode("utf-8")
            except UnicodeDecodeError as problem:
                raise _Damaged("a piece is not UTF-8") from problem
        elif field == _SCORE:
            if len(_part(value)) != 4:
                raise _Damaged("a score is not of four bytes")
            (score,) = struct.unpack("<f", _part(value))
        elif field == _KIND and isinstance(value, int):
            kind = value
    return text, score, kind


def _characters(message: bytes) -> bytes:
    rules = b""
    for field, value in _fields(message):
        if field == _CHARACTERS:
            rules = _part(value)
    return rules


def _check_unigram(message: bytes) -> None:
    for field, value in _fields(message):
        if field == _MODEL_TYPE and value != UNIGRAM:
            raise _Damaged("it is of another kind, such as byte pairs")


def _check_characters(rules: bytes) -> None:
    """Walk the trie from its root. Raises _Damaged where it leads out of itself, or to the middle of a character."""
    (size,) = struct.unpack("<I", rules[:4].ljust(4, b"\0"))
    if size % 4 or not 4 <= size <= len(rules) - 4:
        raise _Damaged("the trie has another length than it says")
    units = struct.unpack(f"<{size // 4}I", rules[4 : 4 + size])
    texts = rules[4 + size :]
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise _Damaged("what characters become is not UTF-8") from problem
    followers = defaultdict(list)
    for place, unit in enumerate(units):
        if unit >> 31 == 0 and unit & 255:  # else it is a value or free, and nothing leads to it by a byte
            followers[place ^ (unit & 255)].append(place)
    seen, ahead = {0}, [0]
    while ahead:
        place = ahead.pop()
        base = place ^ _offset(units[place])
        if base | 255 >= len(units):
            raise _Damaged("the trie leads out of itself")
        if units[place] >> 8 & 1:
            _check_text(texts, units[base] & (2**31 - 1))
        fresh = [follower for follower in followers[base] if follower not in seen]
        seen.update(fresh)
        ahead += fresh


def _check_text(texts: bytes, start: int) -> None:
    """Raise _Damaged if no text begins there, or one that is longer than what any character becomes."""
    if start > len(texts) or 0x80 <= int.from_bytes(texts[start : start + 1]) < 0xC0:
        raise _Damaged("the trie leads to no text")
    end = texts.find(b"\0", start)
    if (end if end >= 0 else len(texts)) - start > NORMAL_BYTES:
        raise _Damaged(f"a character becomes more than {NORMAL_BYTES} bytes")


def _offset(unit: int) -> int:
    """How far the followers of a unit are from it, as darts-clone packs it."""
    return (unit >> 10) << ((unit & 512) >> 6)
