"""What was found out when a prompt file was checked, to be compared with what is read when it is painted.

The lines themselves are a private copy. The pictures, embeddings and masks that they name are not: all of them together
may be larger than the disk. So what was in them is remembered, and whoever changes one meanwhile gets no picture of it.
"""

import hashlib
import json
import sqlite3
import unicodedata
from collections.abc import Sequence

from dallecli.batch.jobs import Job
from dallecli.errors import BadInput, BadSetting
from dallecli.recipe import Recipe


class Checked:
    """The names and files of checked requests, in a temporary database on disk: a million of them take no memory."""

    def __init__(self) -> None:
        self._noted = False
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("BEGIN")  # a transaction that never ends: each of its own would cost a write
        self._database.execute("CREATE TABLE names (name TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._database.execute(
            "CREATE TABLE requests (line INTEGER, part INTEGER, pictures INTEGER, files TEXT, PRIMARY KEY (line, part))"
        )

    def close(self) -> None:
        self._database.close()

    def take_names(self, names: Sequence[str], line: int) -> None:
        """Names that some file systems take for one must not be asked for twice. Raises BadSetting."""
        for name in names:
            same = unicodedata.normalize("NFC", name).casefold()
            known = self._database.execute("SELECT line FROM names WHERE name = ?", (same,)).fetchone()
            if known is not None:
                raise BadSetting(f"the name {name!r} is taken by line {known[0]}")
            self._database.execute("INSERT INTO names VALUES (?, ?)", (same, line))

    def note(self, job: Job, recipe: Recipe) -> None:
        """Remember what is in the files of a request, if it has any."""
        if recipe.sources:
            row = (job.line, job.part, recipe.count, _contents(recipe))
            self._database.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", row)
            self._noted = True

    def compare(self, job: Job, recipe: Recipe) -> None:
        """Raises BadInput if the files of a request are no longer what was checked."""
        if not (self._noted or recipe.sources):
            return
        found = self._database.execute(
            "SELECT files FROM requests WHERE line = ? AND part = ?", (job.line, job.part)
        ).fetchone()
        was, now = json.loads(found[0]) if found is not None else {}, json.loads(_contents(recipe))
        if was != now:
            changed = next(
                (source for source in recipe.sources if was.get(source.where) != now.get(source.where)), None
            )
            where = changed.where if changed is not None else ", ".join(was)
            hint = "paint this line again when the file is as it should be"
            raise BadInput("this file has changed since the line was checked", where=where, hint=hint)

    def pictures(self, line: int) -> int:
        """How many pictures a line with files was going to make."""
        (count,) = self._database.execute("SELECT SUM(pictures) FROM requests WHERE line = ?", (line,)).fetchone()
        return int(count) if count is not None else 0


def _contents(recipe: Recipe) -> str:
    """What is in the files of a request, by their names. Words are their own content, and may be rewritten since."""
    found: dict[str, str] = {}
    for source in recipe.sources:
        if source.kind != "text":
            # One file may be there twice, read at two moments.
            content = f"{found.get(source.where, '')} {source.sha256}"
            found[source.where] = hashlib.sha256(content.encode()).hexdigest()
    return json.dumps(found)
