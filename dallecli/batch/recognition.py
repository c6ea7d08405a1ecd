"""Recognises text that is no prose: what it is, and the command that makes lines of prompts of it.

Whoever pipes a spreadsheet into a program that paints lines of text would get a picture of every row. So the whole of a
text is looked at before it is taken for prompts, by its first bytes, and where these leave a doubt, by all of it.
"""

import json
import re
import shlex
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

Kind = Literal["txt", "jsonl", "csv", "tsv"]

HEAD_BYTES: Final = 2**16
"""So much of a text is looked at."""

WHOLE_BYTES: Final = 64 * 2**20
"""A text of more bytes is judged by its beginning alone."""

_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_FILES: Final = (
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF"),
    (b"RIFF", "a WebP picture or a sound"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive, as spreadsheets and documents are"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"{\\rtf", "a document in RTF"),
)
_PAGES: Final = re.compile(rb"<(!doctype|html|\?xml|svg)\b", re.IGNORECASE)
_NAME: Final = re.compile(r"\"?[A-Za-z][A-Za-z0-9_ -]{0,30}\"?")
_COLUMNS: Final = {"prompt", "image", "ends", "caption", "text"}
"""Columns that tables of prompts have; one of them is among those of a header."""

_SEMICOLONS: Final = (
    "python3 -c \"import csv,sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, delimiter=';'))\""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What a text is, as "a JSON array", and the command that helps, if there is one."""

    what: str
    hint: str | None


def recognise(file: BinaryIO, kind: Kind | None, name: str | None, option: str = "--prompts") -> Recognised | None:
    """What a text is that is not of its kind; None if there is nothing to say against it.

    `file` is read and left at its start. `kind` None leaves the kind open, as of a pipe; `name` None is standard input.
    `option` is what the text was given to.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    size = file.seek(0, 2)
    file.seek(0)
    found = _foreign(head, name, option)
    if found is None and kind in (None, "txt", "jsonl"):
        found = _json(file, head, size, name, option)
    if found is None and kind in (None, "txt"):
        found = _table_in_prose(head, name, option)
    if found is None and kind in ("csv", "tsv"):
        found = _other_table(head, kind, name, option)
    file.seek(0)
    return found


def is_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    return line.lstrip().startswith(b"{") and isinstance(_parsed(line), dict)


def _foreign(head: bytes, name: str | None, option: str) -> Recognised | None:
    """Other encodings, other line ends, and files that are no text."""
    encoding = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if encoding is None and len(head) >= 4 and b"\0" in head[:200]:
        zeros, half = (head[0:200:2].count(0), head[1:200:2].count(0)), len(head[:200]) / 2
        if max(zeros) > 0.6 * half and min(zeros) < 0.2 * half:
            encoding = "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
    if encoding is not None:
        return Recognised(
            what=f"text in {encoding}, and not in UTF-8", hint=_command(f"iconv -f {encoding} -t UTF-8", name, option)
        )
    file = next((what for mark, what in _FILES if head.startswith(mark)), None)
    if file is not None:
        return Recognised(what=f"{file}, and no text", hint=None)
    if _PAGES.match(head.removeprefix(b"\xef\xbb\xbf").lstrip()):
        return Recognised(what="a web page or XML", hint=None)
    if b"\n" not in head and b"\r" in head.rstrip(b"\r"):
        what = "text whose lines end with carriage returns alone, as on old Macs"
        return Recognised(what=what, hint=_command("tr '\\r' '\\n'", name, option))
    return None


def _json(file: BinaryIO, head: bytes, size: int, name: str | None, option: str) -> Recognised | None:
    """A JSON array, or one object over several lines."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] not in (b"[", b"{"):
        return None
    if start[:1] == b"{":
        first, _, rest = start.partition(b"\n")
        if first.strip() == b"{" and re.match(rb'\s*"', rest):
            return Recognised(what="JSON objects over several lines", hint=_command("jq -c .", name, option))
        if not rest.strip() or _parsed(first) is not None or not re.match(rb'\{\s*"', start):
            return None
        if size <= WHOLE_BYTES and isinstance(_parsed(_whole(file)), dict):
            return Recognised(what="a JSON object over several lines", hint=_command("jq -c .", name, option))
        return None
    whole = _parsed(_whole(file)) if size <= WHOLE_BYTES else None
    lines = [line for line in start.split(b"\n") if line.strip()]
    if isinstance(whole, list) and len(lines) > 1 and all(isinstance(_parsed(line), list) for line in lines):
        return None
    if not isinstance(whole, list) and not re.match(rb'\[\s*(\{\s*"|"[^"\n]*"\s*,)', start):
        return None
    plain = isinstance(whole, list) and any(isinstance(value, str) for value in whole)
    plain = plain or (whole is None and re.match(rb'\[\s*"', start) is not None)
    what = "a JSON array" if whole is not None else "a JSON array that is cut off or invalid"
    program = ".[] | {prompt: .}" if plain else ".[]"
    return Recognised(what=what, hint=_command(f"jq -c '{program}'", name, option, ".jsonl"))


def _table_in_prose(head: bytes, name: str | None, option: str) -> Recognised | None:
    """A table whose rows would be taken for prompts."""
    lines = _lines(head)
    if lines and re.fullmatch(r"sep=.", lines[0], re.IGNORECASE):
        return Recognised(
            what="a table as Excel writes it (sep=)", hint=_as_table(lines[0][4], name, option, skip=True)
        )
    if len(lines) < 2:
        return None
    for delimiter in (",", ";", "\t"):
        cells = [cell.strip() for cell in lines[0].split(delimiter)]
        known = any(cell.strip('"').lower() in _COLUMNS for cell in cells)
        alone = cells[0].strip('"').lower() == "prompt"
        if (
            known
            and all(_NAME.fullmatch(cell) for cell in cells)
            and (delimiter in lines[1] if len(cells) > 1 else alone)
        ):
            return Recognised(
                what=f"a table with the columns {', '.join(cells)}", hint=_as_table(delimiter, name, option)
            )
    return None


def _other_table(head: bytes, kind: Kind, name: str | None, option: str) -> Recognised | None:
    """A table with other delimiters than its name says."""
    lines = _lines(head)
    if not lines:
        return None
    if re.fullmatch(r"sep=.", lines[0], re.IGNORECASE):
        what = f"a table as Excel writes it, whose first line is {lines[0]}"
        return Recognised(what=what, hint=_as_table(lines[0][4], name, option, skip=True))
    own = "," if kind == "csv" else "\t"
    for delimiter, called in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")):
        if delimiter != own and delimiter in lines[0] and own not in lines[0]:
            what = f"a table with {called} between its cells"
            return Recognised(what=what, hint=_as_table(delimiter, name, option))
    return None


def _as_table(delimiter: str, name: str | None, option: str, *, skip: bool = False) -> str:
    """The command that makes a table which is read, in a file of its own: a pipe has no name that says so."""
    source = f" < {shlex.quote(name)}" if name is not None else ""
    first = f"tail -n +2{source}" if skip else ""
    if delimiter == ";":
        command = f"{first} | {_SEMICOLONS}" if skip else f"{_SEMICOLONS}{source}"
        suffix = ".csv"
    else:
        command, suffix = first if skip else f"cat{source}", ".tsv" if delimiter == "\t" else ".csv"
    return f"{'… | ' if name is None else ''}{command} > table{suffix}, then {option} table{suffix}"


def _command(filter: str, name: str | None, option: str, suffix: str | None = None) -> str:
    """The command that passes a text through a filter into a command that paints lines."""
    if name is None:
        return f"… | {filter} | dalle generate {option} -"
    return f"{filter} < {shlex.quote(name)} | dalle generate {option} -"


def _lines(head: bytes) -> list[str]:
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    return [line.strip("\r") for line in text.split("\n") if line.strip()]


def _whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(WHOLE_BYTES)


def _parsed(data: bytes) -> object:
    """The JSON value, None if it is not JSON."""
    try:
        return json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None
