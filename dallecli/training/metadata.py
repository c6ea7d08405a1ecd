"""Captions in Hugging Face's imagefolder form: `metadata.jsonl` or `metadata.csv`, a picture's file name in each row.

Rows are read as strictly as those of prompt files (batch/prompt_file.py): a row that is not quite in the form is left
out, with the reason, and never guessed at.
"""

import posixpath
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from dallecli.batch.prompt_file import BadLine, Line, PromptFile
from dallecli.errors import BadPromptFile, reason
from dallecli.training.captions import NoCaption, caption_of_row, fault
from dallecli.training.listing import Fault, Item

NAMES: Final = ("metadata.jsonl", "metadata.csv")
SUFFIXES: Final = (".jsonl", ".csv")


def pairs_in_metadata(metadata: Path, prefix: str) -> Iterator[Item | Fault]:
    """The pictures that a metadata file names, and its faults; `prefix` is put before all names."""
    try:
        with closing(PromptFile(str(metadata), "text")) as file:
            for line in file.lines():
                yield _pair(line, metadata, prefix)
    except BadPromptFile as problem:  # its hint is for prompts
        yield _unread(f"{prefix}{metadata.name}", problem.what)
    except OSError as problem:
        yield _unread(f"{prefix}{metadata.name}", f"it cannot be read: {reason(problem)}")


def _pair(line: Line | BadLine, metadata: Path, prefix: str) -> Item | Fault:
    where = f"{prefix}{metadata.name}, line {line.number}"
    if isinstance(line, BadLine):
        return _unread(where, line.reason)
    row = {key.strip(): value for key, value in line.values.items()}
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name or "\0" in file_name:
        return _unread(where, f"there is no file_name in it, only {', '.join(map(repr, row)) if row else 'nothing'}")
    inside = posixpath.normpath(file_name)
    picture = metadata.parent / inside
    if inside.startswith(("/", "../")):
        return _unread(where, "its file_name leads out of the folder")
    if not _is_file(picture):
        return Fault(name=prefix + inside, kind="missing pictures", why=f"named in {where}")
    try:
        return Item(name=prefix + inside, caption=caption_of_row(row), file=picture)
    except NoCaption as problem:
        return fault(prefix + inside, problem)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _unread(where: str, why: str) -> Fault:
    return Fault(name=where, kind="rows that cannot be read", why=why)
