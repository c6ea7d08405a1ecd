"""What the files of a model folder were when it was made: `SHA256SUMS`, as `sha256sum` writes and checks it.

The starter has one, and so has any folder to which somebody adds it:

    cd FOLDER && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum > SHA256SUMS
"""

import re
from pathlib import Path, PurePosixPath
from typing import Final

from dallecli.errors import BadFile, reason
from dallecli.limits import MODEL_JSON_BYTES, read_file
from dallecli.weights.digest import bytes_digest

SUMS: Final = "SHA256SUMS"


def recorded(folder: Path) -> dict[str, str] | None:
    """The sha256, in hex, of each recorded file; None where nothing is recorded.

    Raises:
        BadFile: the list cannot be read, or is none.
    """
    file = folder / SUMS
    if not file.is_file():
        return None
    try:
        lines = read_file(file, MODEL_JSON_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise BadFile(f"the list of hashes cannot be read: {reason(problem)}", str(file)) from problem
    sums = {}
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](?:\./)?(.+)", line)
        if match is None or ".." in PurePosixPath(match[2]).parts or match[2].startswith("/"):
            raise BadFile(f"line {number} is not a sha256 and the name of a file in this folder", str(file))
        sums[match[2]] = match[1]
    if not sums:
        raise BadFile("the list of hashes is empty", str(file))
    return sums


def write_sums(folder: Path) -> None:
    """Record what all files of a folder are now."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != SUMS)
    lines = [f"{bytes_digest(file)}  ./{file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def wrong_files(folder: Path, sums: dict[str, str]) -> list[str]:
    """The recorded files that are missing or have other bytes; every byte is read."""
    wrong = []
    for name, digest in sums.items():
        try:
            if bytes_digest(folder / name) != digest:
                wrong.append(name)
        except OSError:
            wrong.append(name)
    return wrong
