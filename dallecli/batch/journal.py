"""The journal of a folder: what became of every picture, one JSON object a line, each on disk before the next begins.

A picture is known by its key, the sha256 of everything that decides its pixels. Its line is written after its file has
been published, so every picture that the journal calls done is there, and whole.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from dallecli.cleaning import is_rewritten
from dallecli.errors import BadOutput, DiskFull, reason
from dallecli.limits import ENTRY_BYTES, JOURNAL_BYTES, Unfit, in_words, open_file
from dallecli.publish import disk_errors, open_own
from dallecli.recipe import Recipe

NAME: Final = "journal.jsonl"
HIDDEN: Final = ".dalle"
"""The folder beside the journal with the locks of the processes that work here."""

MATH: Final = 1
"""Goes up when the same recipe with the same weights would give other pictures than before."""

READING: Final = 2
"""Goes up when prompts are cleaned in another way. Only the keys of prompts that are rewritten have it, so pictures of
plain prompts keep theirs; up to 0.1.0 none was rewritten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the journal: a picture that is done, or that failed."""

    key: str
    status: str
    """"done" or "failed"."""
    line: int
    """Of the prompt file."""
    prompt: str
    seed: int
    model: str
    asked: str = ""
    """What the line says, where a language model rewrote it; `prompt` is then what was painted."""
    file: str = ""
    """The path of the picture, relative to the journal's folder."""
    sha256: str = ""
    """Of the file's bytes, in hex."""
    bytes: int = 0
    """The file's size."""
    mtime_ns: int = 0
    """The file's time stamp when it was published."""
    machine: str = ""
    """What painted it, in words; "" in journals up to 0.1.0."""
    seconds: float = 0.0
    scores: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    error: Mapping[str, Any] | None = None
    """The facts of what failed."""
    again: Mapping[str, Any] | None = None
    """The values of a prompt line that asks for a failed picture once more."""

    def to_json(self) -> str:
        """One line of ASCII, without empty values."""
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return json.dumps({name: value for name, value in facts.items() if value or name in _ALWAYS}) + "\n"


_ALWAYS = ("key", "status", "line", "seed")
_NEEDED = frozenset(_ALWAYS)
_IN_ORDER: Final = json.JSONEncoder(sort_keys=True)


def item_key(recipe: Recipe, k: int, form: str) -> str:
    """The key of picture k of a recipe that has its digest; `form` is what else decides the bytes of the file.

    The machine is not part of it (device, threads, pictures at a time, processor, versions of libraries): a batch may
    move to another one, whose pictures are rounded in another way. Which one painted a picture is in its entry. Nor are
    file names part of it. In a best-of, k is the rank.
    """
    whole = recipe.settings.best_of is not None
    facts = (recipe if whole else recipe.single(k)).to_dict()
    for name in ("device", "threads", "together", "compiled", "versions", "scores", "motion", "dropped"):
        del facts[name]
    facts.pop("rewritten", None)  # what was asked for, and by whom it was said otherwise
    inputs = [source.sha256 if source.sha256 is not None else source.name for source in recipe.sources]
    mask = facts["settings"].get("mask")
    if mask is not None:
        mask["files"] = None
    facts |= {"inputs": inputs, "rank": k if whole else 0, "form": form, "math": MATH}
    words = [source.name for source in recipe.inputs if source.kind == "text"]
    sentences = [recipe.prompt, *facts["settings"].values(), *words]
    if any(isinstance(text, str) and is_rewritten(text) for text in sentences):
        facts["reading"] = READING
    return hashlib.sha256(_IN_ORDER.encode(facts).encode()).hexdigest()


class Journal:
    """The journal of a folder, open for reading and appending; several processes may have it open at once.

    The places of its entries are in a temporary database on disk, so that millions of lines take no memory.
    """

    def __init__(self, folder: Path) -> None:
        """Raises BadOutput if the journal cannot be written."""
        from filelock import FileLock

        self.folder = folder
        self.path = folder / NAME
        with disk_errors(self.path):
            (folder / HIDDEN).mkdir(exist_ok=True)
            self._file = open_own(self.path, os.O_RDWR | os.O_APPEND)
            self._reader = _opened(self.path)
        self._lock = FileLock(folder / HIDDEN / "journal.lock")
        self._read_to = 0
        self._reading = threading.Lock()  # one thread writes, another looks things up
        self._index = _index()
        self.catch_up()

    def close(self) -> None:
        os.close(self._file)
        self._reader.close()
        self._index.close()

    def catch_up(self) -> None:
        """Read what has been appended since, by any process."""
        with self._reading:
            self._read_to = _note_all(self._index, self._reader, self._read_to)

    def append(self, entries: Sequence[Entry]) -> None:
        """Add lines; when this returns, they are on disk. Raises BadOutput, DiskFull: then none of them was added."""
        data = "".join(entry.to_json() for entry in entries).encode("ascii")
        with disk_errors(self.path), self._lock:
            with self._reading:
                self._cut_torn_line()
            start = os.lseek(self._file, 0, os.SEEK_END)
            try:
                written = os.write(self._file, data)
                if written < len(data):
                    raise DiskFull("the disk is full", where=str(self.path))
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, start)
                raise
        self.catch_up()

    def look_up(self, key: str) -> Entry | None:
        """The last entry about a picture."""
        with self._reading:
            row = self._index.execute("SELECT start, size FROM entries WHERE key = ?", (bytes.fromhex(key),)).fetchone()
            return None if row is None else _read(self._reader, *row)

    def count(self) -> int:
        """How many pictures are done."""
        (found,) = self._index.execute("SELECT COUNT(*) FROM entries WHERE done").fetchone()
        return int(found)

    def failures(self) -> Iterator[Entry]:
        """The pictures that failed and have not been done since, in the order in which they were first entered."""
        for start, size in self._index.execute("SELECT start, size FROM entries WHERE NOT done ORDER BY number"):
            yield _read(self._reader, start, size)

    def intact(self, entry: Entry) -> bool | None:
        """Whether the file of a finished picture is as the journal says; None if it is missing.

        Its bytes are read only if its time stamp or size has changed. Raises BadOutput.
        """
        path = os.path.join(self.folder, entry.file)  # noqa: PTH118  # a Path takes longer than the look itself
        try:
            status = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadOutput(f"cannot look at a finished picture: {reason(error)}", where=path) from error
        if (status.st_size, status.st_mtime_ns) == (entry.bytes, entry.mtime_ns):
            return True
        return status.st_size == entry.bytes and same_bytes(Path(path), entry)

    def _cut_torn_line(self) -> None:
        """Remove half a line that a killed process left at the end."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        end, length = size, 1  # nearly always the last byte is a line's end
        while end > 0:
            start = max(0, end - length)
            length = 65536
            self._reader.seek(start)
            block = self._reader.read(end - start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._file, end)


def same_bytes(path: Path, entry: Entry) -> bool:
    """Whether a file has the recorded sha256; reads every byte. Raises BadOutput if it cannot be read."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError as error:
        raise BadOutput(f"a finished picture cannot be read: {reason(error)}", where=str(path)) from error


def unreadable_lines(folder: Path) -> int:
    """How many lines of a journal are no entries; half a line at its end is none. Raises OSError."""
    with (folder / NAME).open("rb") as file:
        return sum(_facts(line) is None for line, _ in _lines(file, 0))


def read_journal(folder: Path) -> Iterator[Entry]:
    """The last entry about every picture of a journal, which is not changed. Raises BadOutput if there is none."""
    path = folder / NAME
    try:
        file = _opened(path)
    except OSError as error:
        raise BadOutput(
            f"there is no journal here: {reason(error)}", where=str(path), hint="dalle generate --prompts writes one"
        ) from error
    index = _index()
    try:
        _note_all(index, file, 0)
        for start, size in index.execute("SELECT start, size FROM entries ORDER BY number"):
            yield _read(file, start, size)
    finally:
        index.close()
        file.close()


def _index() -> sqlite3.Connection:
    index = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # a file without a name
    index.execute("PRAGMA journal_mode = OFF")
    index.execute("PRAGMA synchronous = OFF")
    index.execute(
        "CREATE TABLE entries (number INTEGER PRIMARY KEY, key BLOB UNIQUE, done INTEGER, start INTEGER, size INTEGER)"
    )
    return index


def _opened(path: Path) -> BinaryIO:
    """A journal for reading. Raises OSError for what is none, or is larger than any."""
    file = open_file(path)
    if os.fstat(file.fileno()).st_size > JOURNAL_BYTES:
        file.close()
        raise Unfit(f"it has more than {in_words(JOURNAL_BYTES)}")
    return file


def _note_all(index: sqlite3.Connection, file: BinaryIO, start: int) -> int:
    """Index the complete lines of a journal from an offset on. Returns the offset where the last of them ends."""
    until = start

    def rows() -> Iterator[tuple[bytes, bool, int, int]]:
        nonlocal until
        for line, end in _lines(file, start):
            facts, begun, until = _facts(line), until, end
            if facts is not None:
                yield bytes.fromhex(facts["key"]), facts["status"] == "done", begun, len(line)

    index.execute("BEGIN")  # one for all lines: each of its own would take twice as long
    try:
        index.executemany(
            "INSERT INTO entries (key, done, start, size) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET done = excluded.done, start = excluded.start, size = excluded.size",
            rows(),
        )
    finally:
        index.execute("COMMIT")
    return until


def _lines(file: BinaryIO, start: int) -> Iterator[tuple[bytes, int]]:
    """The complete lines from an offset on, and the offset where each ends; of one that is too long, the beginning."""
    file.seek(0, os.SEEK_END)  # forgets what was read ahead: a torn line may have been cut since
    file.seek(start)
    while line := file.readline(ENTRY_BYTES):
        part = line
        while not part.endswith(b"\n"):
            part = file.readline(ENTRY_BYTES)
            if not part:
                return
        yield line, file.tell()


def _facts(line: bytes) -> dict[str, Any] | None:
    """What a line says, if it is an entry."""
    try:
        facts: dict[str, Any] = json.loads(line)
        bytes.fromhex(facts["key"])
        return facts if facts.keys() >= _NEEDED else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _read(file: BinaryIO, start: int, size: int) -> Entry:
    """The entry at a place of a journal, which is that of its line."""
    file.seek(start)
    return _entry(json.loads(file.read(size)))


def _entry(facts: Mapping[str, Any]) -> Entry:
    # Later versions may have more fields.
    return Entry(**{"prompt": "", "model": ""} | {k: v for k, v in facts.items() if k in Entry.__dataclass_fields__})
