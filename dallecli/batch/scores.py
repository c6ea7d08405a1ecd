"""The scores of a best-of that is being painted, on disk: a run that was killed need not paint all of it again.

One JSON object a line, with a seed and its score, in the hidden folder beside the journal. The file goes when the
pictures that were kept are in the journal. Of these only the scores are there, so a run that goes on paints them again.
A command line without a prompt file has such a file in dalle's own folder.
"""

import json
import logging
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from dallecli.batch.journal import item_key
from dallecli.errors import BadOutput, DiskFull, reason
from dallecli.limits import ENTRY_BYTES, read_file
from dallecli.own_folders import own_folder
from dallecli.publish import disk_errors, open_own
from dallecli.recipe import Recipe
from dallecli.shortlist import Scores

log = logging.getLogger(__name__)

STALE: Final = 60 * 60 * 24 * 30
"""A month."""


class ScoreFile(Scores):
    """Scores that stay in a file until `remove`. Several processes may have it open. Raises BadOutput, DiskFull."""

    lasts = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_own(path, os.O_WRONLY | os.O_APPEND)
        self.known |= _read(path)
        if self.known or path.stat().st_size > 0:
            self._write(b"\n")  # ends a line that was torn

    def note(self, seed: int, score: float) -> None:
        """When this returns, the score is on disk. Raises BadOutput, DiskFull."""
        super().note(seed, score)
        self._write(json.dumps({"seed": seed, "score": score}).encode("ascii") + b"\n")
        with disk_errors(self.path):
            os.fsync(self._file)

    def remove(self) -> None:
        """Remove the file, too. Raises BadOutput."""
        super().remove()
        os.close(self._file)
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        with disk_errors(self.path):
            if os.write(self._file, data) < len(data):
                raise DiskFull("the disk is full", where=str(self.path))


def own_scores(recipe: Recipe) -> Scores:
    """The scores of a best-of of a command line, in dalle's own folder; forgotten ones where there is no place.

    The recipe has its digests. Files that nobody came back for in `STALE` seconds are removed.
    """
    folder = own_folder("state")
    if folder is None:
        return Scores()
    try:
        found = ScoreFile(folder / "scores" / f"{item_key(recipe, 0, '')}.jsonl")
    except (BadOutput, DiskFull) as error:
        log.warning("a run that is stopped will start again: %s", error.what)
        return Scores()
    with suppress(OSError):
        for path in found.path.parent.glob("*.jsonl"):
            if path != found.path and path.stat().st_mtime < time.time() - STALE:
                path.unlink()
    return found


def _read(path: Path) -> dict[int, float]:
    """The scores in a file; lines that are none are passed over. Raises BadOutput."""
    try:
        lines = read_file(path, ENTRY_BYTES).split(b"\n")
    except OSError as error:
        raise BadOutput(f"the scores of an earlier run cannot be read: {reason(error)}", where=str(path)) from error
    found: dict[int, float] = {}
    for line in lines:
        match _parsed(line):
            case {"seed": int(seed), "score": float(score)} if math.isfinite(score):
                found[seed] = score
    return found


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
