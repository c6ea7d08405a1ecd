"""What was painted on this machine: one row a picture in a small database, so that earlier pictures can be found.

It is a convenience and never a reason to fail: where it cannot be written, pictures are painted all the same.
"""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.errors import BadConfig
from dallecli.limits import HISTORY_BYTES
from dallecli.own_folders import NOWHERE, SET_ONE, own_folder
from dallecli.recipe import Recipe

log = logging.getLogger(__name__)

BUSY: Final = 5.0
"""Seconds to wait while another process writes."""

BETWEEN: Final = " → "

_TABLE = """
CREATE TABLE IF NOT EXISTS pictures (
    number INTEGER PRIMARY KEY, made INTEGER, path TEXT, task TEXT, prompt TEXT, words TEXT, seed INTEGER, model TEXT,
    inputs TEXT, asked TEXT
)
"""
_COLUMNS = "made, path, task, prompt, words, seed, model, inputs, asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A picture, as it was when it was made."""

    made: int
    """When: seconds since 1970."""
    path: str
    """Its absolute path."""
    task: str
    prompt: str
    """Of an edit, both sentences; where no word was said, the class or "picture"."""
    inputs: tuple[str, ...]
    """The names of the pictures, or the words, that it was made from; of an interpolation its ends."""
    seed: int
    model: str
    asked: str | None = None
    """What was asked for, where a language model rewrote it; None where nobody did."""

    @property
    def subject(self) -> str:
        """What it is of: the prompt, what it was made from, or both; and before it, what was asked for instead."""
        made_from = BETWEEN.join(self.inputs)
        subject = ": ".join(text for text in (made_from, self.prompt) if text)
        return subject if self.asked is None else f"{self.asked} ({subject})"


def history_path() -> Path:
    """The database, which need not exist. Raises BadConfig where there is no place for one."""
    folder = own_folder("state")
    if folder is None:
        raise BadConfig(f"there is no history: {NOWHERE}", hint=SET_ONE)
    return folder / "history.sqlite"


class History:
    """Remembers pictures as they are made; `on` False remembers nothing."""

    def __init__(self, *, on: bool) -> None:
        self._database: sqlite3.Connection | None = None
        self._on = on

    def remember(self, path: Path, recipe: Recipe, seed: int) -> None:
        """Add a file that was just written, a picture or a sheet; `seed` is that of its first picture."""
        if not self._on:
            return
        words = " ".join([recipe.title, recipe.prompt, *(source.name for source in recipe.sources)])
        inputs = json.dumps([source.name for source in recipe.inputs])
        said = [recipe.prompt] if recipe.prompt else recipe.settings.sentences
        prompt = BETWEEN.join(said) if said or recipe.inputs else recipe.title
        asked = recipe.rewritten.asked if recipe.rewritten is not None else None
        words = words if asked is None else f"{asked} {words}"
        row = (int(time.time()), _kept(path), recipe.task, prompt, _searched(words), seed, recipe.model, inputs, asked)
        try:
            if self._database is None:
                self._database = _opened(history_path())
            with self._database:
                self._database.execute(f"INSERT INTO pictures ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        except BadConfig:
            self._on = False
            log.warning("%s: no config file is read, and no history is kept; %s", NOWHERE, SET_ONE)
        except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
            self._on = False
            log.warning("the history cannot be written, and is left alone: %s", error)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def recall(words: Sequence[str], most: int) -> Iterator[Remembered]:
    """The last pictures in whose title, prompt or inputs all of these words occur, in any case; the newest first.

    Raises sqlite3.Error for a file that is not a history.
    """
    path = history_path()
    if not path.is_file():
        return
    with closing(_opened(path)) as database:
        where = " AND ".join(["words LIKE ? ESCAPE '\\'"] * len(words)) if words else "1"
        patterns = [f"%{_literal(_searched(word))}%" for word in words]
        yield from (
            Remembered(
                made=made,
                path=os.fsdecode(place),
                task=task,
                prompt=prompt,
                inputs=_inputs(inputs),
                seed=seed,
                model=model,
                asked=asked,
            )
            for made, place, task, prompt, _, seed, model, inputs, asked in database.execute(
                f"SELECT {_COLUMNS} FROM pictures"
                f" WHERE {where} ORDER BY number DESC LIMIT ?",  # the words themselves are parameters
                (*patterns, most),
            )
        )


def forget() -> bool:
    """Remove the whole history. Returns whether there was one. Raises OSError."""
    path = history_path()
    found = path.exists()
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        name.unlink(missing_ok=True)
    return found


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Prompts are private.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    database = sqlite3.connect(path, timeout=BUSY)
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, HISTORY_BYTES)
    # Do not wait for the disk: after a power failure the last rows may be missing, and nothing worse.
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute(_TABLE)
    there = [column[1] for column in database.execute("PRAGMA table_info(pictures)")]
    for column in ("inputs", "asked"):
        if column not in there:
            with suppress(sqlite3.OperationalError):  # another process added it in this moment
                database.execute(f"ALTER TABLE pictures ADD COLUMN {column} TEXT")
    return database


def _inputs(text: str | None) -> tuple[str, ...]:
    """The inputs of a row; rows of older versions have none."""
    try:
        return tuple(map(str, json.loads(text))) if text is not None else ()
    except ValueError:  # one damaged row must not hide the others
        return ()


def _kept(path: Path) -> str | bytes:
    """A path as it is kept: as bytes, if its name holds some that are not UTF-8."""
    place = str(path.absolute())
    try:
        place.encode()
    except UnicodeEncodeError:
        return os.fsencode(place)
    return place


def _searched(words: str) -> str:
    """Words as they are searched; bytes of names that are not UTF-8 cannot be."""
    return words.encode("utf-8", "replace").decode()


def _literal(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
