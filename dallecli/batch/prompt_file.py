"""Prompt files, read as a stream: .txt, .jsonl, .csv and .tsv, one request a line.

A line becomes a `Line` of named values, or a `BadLine` that says what is wrong with it; reading goes on after either.
However long the file, or a line of it, the memory stays the same. What is read is a private copy, so that what was
checked is what is painted, whatever happens to the file meanwhile.
"""

import csv
import json
import os
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from dallecli.batch.recognition import Kind, recognise
from dallecli.errors import BadPromptFile, reason
from dallecli.fields import read_json
from dallecli.limits import LINE_BYTES, PROMPT_FILE_BYTES, in_words, open_stream
from dallecli.publish import disk_errors

KINDS: Final[Mapping[str, Kind]] = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
"""What a file holds, by its suffix."""

STDIN: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line, or one row of a table."""

    number: int
    """From 1."""
    values: Mapping[str, object]
    text: str = ""
    """The whole line, "" for a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """A line that cannot be used."""

    number: int
    """From 1."""
    reason: str
    """What is wrong."""
    column: int | None = None
    """Where in the line, from 1, if that is known."""
    text: str = ""
    """The whole line, "" where it is no text or too long."""

    def where(self, name: str) -> str:
        """The place as compilers write it: file:line:column."""
        return f"{name}:{self.number}" if self.column is None else f"{name}:{self.number}:{self.column}"


class PromptFile:
    """A prompt file, copied to a temporary file, which can be read several times and holds the same every time.

    `plain` names what each line of a text file is: "prompt", or "image" for `dalle vary`.
    """

    def __init__(self, path: str, plain: str) -> None:
        """Raises BadPromptFile if it cannot be read, or its format is unknown."""
        self.name = "stdin" if path == STDIN else path
        self.plain = plain
        self._file, suffix = _opened(path)
        try:
            _check_kind(self._file, suffix, None if path == STDIN else path)
            self.kind = _kind(self._file, suffix, self.name)
        except BadPromptFile:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def lines(self) -> Iterator[Line | BadLine]:
        """All lines from the beginning, without blank lines and comments."""
        self._file.seek(0)
        if self.kind == "txt":
            yield from (self._plain(line) for line in _text_lines(self._file) if not _is_comment(line))
        elif self.kind == "jsonl":
            yield from (_object(line) for line in _text_lines(self._file) if not _is_blank(line))
        else:
            yield from _table(self._file, "," if self.kind == "csv" else "\t")

    def _plain(self, line: "_Text | BadLine") -> Line | BadLine:
        if isinstance(line, BadLine):
            return line
        text = line.text.strip()
        if "\r" in text:
            return BadLine(number=line.number, reason="a carriage return stands inside of the line", text=line.text)
        # A prompt may begin with # after all.
        text = text.removeprefix("\\") if text.startswith("\\#") else text
        return Line(number=line.number, values={self.plain: text}, text=line.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    number: int
    text: str


def _opened(path: str) -> tuple[BinaryIO, str | None]:
    """A copy of a file, and its suffix; None for a pipe."""
    try:
        if path == STDIN:
            if sys.stdin is None or sys.stdin.isatty():
                raise BadPromptFile("standard input is a terminal", hint="name a file, or pipe one in")
            return _copy(sys.stdin.buffer, "stdin"), None
        with open_stream(Path(path)) as file:
            mode = os.fstat(file.fileno()).st_mode
            return _copy(file, path), Path(path).suffix.lower() if stat.S_ISREG(mode) else None
    except (OSError, ValueError) as error:
        raise BadPromptFile(f"the prompt file cannot be read: {reason(error)}", where=path) from error


def _copy(stream: BinaryIO, name: str) -> BinaryIO:
    """A copy on disk: it is read twice, once to check it and once to paint. Raises BadPromptFile if it never ends."""
    with ExitStack() as stack:
        with disk_errors(Path("temporary files")):
            copy = stack.enter_context(tempfile.TemporaryFile())
        size = 0
        while block := stream.read(2**20):
            size += len(block)
            if size > PROMPT_FILE_BYTES:
                what = f"there are more than {in_words(PROMPT_FILE_BYTES)} in it"
                raise BadPromptFile(what, where=name, hint="divide it into several files")
            with disk_errors(Path("temporary files")):
                copy.write(block)
        with disk_errors(Path("temporary files")):
            copy.flush()
        stack.pop_all()
    return copy


def _check_kind(file: BinaryIO, suffix: str | None, name: str | None) -> None:
    """Raises BadPromptFile for what is no prose, no JSON lines and no such table, but would be read as one."""
    found = recognise(file, KINDS.get(suffix) if suffix is not None else None, name)
    if found is not None:
        raise BadPromptFile(f"this is {found.what}", where=name if name is not None else "stdin", hint=found.hint)


def _kind(file: BinaryIO, suffix: str | None, name: str) -> Kind:
    if suffix is not None and suffix in KINDS:
        return KINDS[suffix]
    if suffix is not None:
        hint = f"end its name in {', '.join(KINDS)}, or pipe it in"
        raise BadPromptFile(f"what does a {suffix if suffix else 'nameless'} file hold?", where=name, hint=hint)
    file.seek(0)
    start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return "jsonl" if start.startswith(b"{") else "txt"


def _text_lines(file: BinaryIO) -> Iterator[_Text | BadLine]:
    """The lines of a file, without what ends them. Lines end with a line feed, and with nothing else."""
    number = 0
    while raw := file.readline(LINE_BYTES + 2):
        number += 1
        if not raw.endswith(b"\n") and len(raw) > LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LINE_BYTES)
            yield BadLine(number=number, reason=f"the line has more than {LINE_BYTES} bytes")
            continue
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            yield _Text(number=number, text=raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            reason = f"this is not UTF-8: byte 0x{raw[error.start]:02x}"
            text = raw.decode("utf-8", "backslashreplace")
            yield BadLine(number=number, reason=reason, column=error.start + 1, text=text)


def _is_blank(line: _Text | BadLine) -> bool:
    return isinstance(line, _Text) and not line.text.strip()


def _is_comment(line: _Text | BadLine) -> bool:
    return _is_blank(line) or (isinstance(line, _Text) and line.text.lstrip().startswith("#"))


def _object(line: _Text | BadLine) -> Line | BadLine:
    if isinstance(line, BadLine):
        return line
    try:
        values = read_json(line.text)
    except json.JSONDecodeError as error:
        return BadLine(number=line.number, reason=f"this is not JSON: {error.msg}", column=error.colno, text=line.text)
    except ValueError as error:
        return BadLine(number=line.number, reason=f"this is not JSON: {error}", text=line.text)
    if not isinstance(values, dict):
        return BadLine(number=line.number, reason="this is not a JSON object", text=line.text)
    return Line(number=line.number, values=values, text=line.text)


def _table(file: BinaryIO, delimiter: str) -> Iterator[Line | BadLine]:
    """The rows of a table by the names in its first one. An empty cell says nothing."""
    bad: list[BadLine] = []
    lines = _RowLines(_table_text(file, bad))
    rows = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    header: Sequence[str] | None = None
    while True:
        number = lines.begin()
        try:
            cells = next(rows)
        except StopIteration:
            yield from bad
            return
        except csv.Error as error:
            # A quote that never closes takes all lines with it up to the next one: only its own is bad.
            lines.give_back()
            yield BadLine(number=number, reason=f"this is not a row of a table: {error}")
            yield from bad
            bad.clear()
            continue
        if bad:
            # What stood in the place of undecodable bytes is in this row.
            yield from bad
            bad.clear()
            if header is None:
                return
        elif header is None:
            header = [cell.strip() for cell in cells]
            doubled = next((cell for k, cell in enumerate(header) if cell in header[:k]), None)
            if doubled is not None:
                yield BadLine(number=number, reason=f"two columns are called {doubled!r}")
                return
        elif any(cell.strip() for cell in cells):
            yield _row(number, lines.number, header, cells)


class _RowLines:
    """The lines of a table, one after the other; those of the row that is being read can be given back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self._row: list[str] = []
        self._size = 0
        self.number = 0
        """Of the line that was read last."""

    def __iter__(self) -> "_RowLines":
        return self

    def __next__(self) -> str:
        if self._size > LINE_BYTES:
            raise csv.Error(f"it has more than {LINE_BYTES} characters")
        line = self._again.popleft() if self._again else next(self._lines)
        self._row.append(line)
        self._size += len(line)
        self.number += 1
        return line

    def begin(self) -> int:
        """Begin a row; the number of its first line."""
        self._row.clear()
        self._size = 0
        return self.number + 1

    def give_back(self) -> None:
        """Let all lines of the row but the first be read again."""
        self._again.extendleft(reversed(self._row[1:]))
        self.number -= max(len(self._row) - 1, 0)


def _row(number: int, last: int, header: Sequence[str], cells: Sequence[str]) -> Line | BadLine:
    if len(cells) != len(header):
        lines = f", down to line {last}" if last > number else ""
        return BadLine(number=number, reason=f"{len(cells)} cells in a table of {len(header)} columns{lines}")
    return Line(number=number, values={name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()})


def _table_text(file: BinaryIO, bad: list[BadLine]) -> Iterator[str]:
    for line in _text_lines(file):
        if isinstance(line, BadLine):
            bad.append(line)
            yield "\n"
        else:
            yield line.text + "\n"
