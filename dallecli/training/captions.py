"""What a caption may be: one text in UTF-8, neither empty nor longer than any prompt. Anything else is a fault."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dallecli.errors import reason
from dallecli.fields import read_json
from dallecli.limits import CAPTION_BYTES, PROMPT_BYTES, read_file
from dallecli.training.listing import Fault, Item

CAPTION_KEYS: Final = ("text", "caption")
_KINDS: Final = {list: "a list", dict: "an object", bool: "true or false", int: "a number", float: "a number"}


class NoCaption(Exception):
    """There is none, or none that can be used: the kind of fault, and why."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


def missing(why: str) -> NoCaption:
    """There is no caption."""
    return NoCaption("without a caption", why)


def unreadable(why: str) -> NoCaption:
    """There is a caption that cannot be used."""
    return NoCaption("with an unreadable caption", why)


def caption_of_text(data: bytes) -> str:
    """The caption in a text file. Raises NoCaption."""
    try:
        return checked(data.decode("utf-8-sig"))
    except UnicodeDecodeError as problem:
        raise unreadable(f"it is not UTF-8: {problem}") from problem


def caption_of_json(data: bytes) -> str:
    """The caption in a JSON object. Raises NoCaption."""
    try:
        row = read_json(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as problem:
        raise unreadable(f"its .json is not JSON: {problem}") from problem
    if not isinstance(row, dict):
        raise unreadable("its .json is not a JSON object")
    return caption_of_row(row)


def caption_of_row(row: Mapping[str, Any]) -> str:
    """The caption among the fields of a row: `text`, or `caption`. Raises NoCaption."""
    there = [key for key in CAPTION_KEYS if row.get(key) is not None]
    if not there:
        nulls = [key for key in CAPTION_KEYS if key in row]
        raise missing(f"its {nulls[0]} is null" if nulls else f"there is no {' or '.join(CAPTION_KEYS)} in it")
    if len(there) > 1 and row[there[0]] != row[there[1]]:
        raise unreadable("its text is not its caption: leave one of them out")
    value = row[there[0]]
    if not isinstance(value, str):
        raise unreadable(f"its {there[0]} is {_KINDS[type(value)]}, not a text: {json.dumps(value)[:80]}")
    return checked(value)


def checked(caption: str) -> str:
    """A caption on one line. Raises NoCaption."""
    caption = " ".join(caption.split())
    if not caption:
        raise missing("the caption is empty")
    try:
        size = len(caption.encode("utf-8"))
    except UnicodeEncodeError as problem:
        raise unreadable("it holds half of a character, which no text file can") from problem
    if size > PROMPT_BYTES:
        raise unreadable(f"it is longer than any prompt, {PROMPT_BYTES} bytes")
    return caption


def captioned_by_file(name: str, picture: Path, text: Path) -> Item | Fault:
    """A picture whose caption is the whole of a text file."""
    try:
        return Item(name=name, caption=caption_of_text(read_file(text, CAPTION_BYTES)), file=picture)
    except NoCaption as problem:
        return fault(name, problem)
    except OSError as problem:
        return fault(name, unreadable(f"{text.name} cannot be read: {reason(problem)}"))


def fault(name: str, problem: NoCaption) -> Fault:
    """The fault of a picture without a caption that can be used."""
    return Fault(name=name, kind=problem.kind, why=problem.why)
