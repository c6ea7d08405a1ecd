"""Networks that a layout names twice, and that are the same: stored once, and twice again where others need them so.

Karlo's layout has a network of its own for an upsampler's last step. Where a model was trained with one for all steps,
the second file is left out, and `dalle.json` says so: `{"shared": ["super_res_last"]}`. Other programs know nothing of
that: `dalle models convert FOLDER NEW` writes a folder that has all of them. The other way is

    python -m dallecli.weights.twins FOLDER
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from dallecli.weights.digest import bytes_digest
from dallecli.weights.folder import DIALS, SHARED, Folder, read_object
from dallecli.weights.recorded import recorded, write_sums
from dallecli.weights.shards import files_of


def share(path: Path) -> list[str]:
    """Leave out the files of a folder that have the same bytes as their twin's; the parts that were left out.

    Raises: BadFolder, BadFile.
    """
    folder = Folder(path)
    twins = {part: twin for part, twin in folder.family.twins.items() if part in folder.parts}
    files = {part: (folder.weights_file(part), folder.weights_file(twin)) for part, twin in twins.items()}
    same = [part for part, (own, other) in files.items() if _digests(own) == _digests(other)]
    dials = read_object(path / DIALS) if (path / DIALS).is_file() else {}
    # Said before it is so: a folder that is interrupted here has a file too many, and none too few.
    _write(path, {**dials, SHARED: same})
    for part in same:
        own, other = files[part]
        if own != other:
            for file in files_of(own):
                file.unlink()
    write_sums(path)
    return same


def unshare(source: Folder, target: Path) -> None:
    """Write what `source` shares into its copy at `target`, under both names."""
    for part in source.shared():
        for file in files_of(source.weights_file(part)):
            shutil.copyfile(file, target / source.path_of(part).relative_to(source.path) / file.name)
    _write(target, {key: value for key, value in read_object(target / DIALS).items() if key != SHARED})
    if recorded(target) is not None:
        write_sums(target)


def _digests(weights: Path) -> list[str]:
    return [bytes_digest(file) for file in files_of(weights)]


def _write(path: Path, dials: dict[str, Any]) -> None:
    (path / DIALS).write_text(json.dumps(dials, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for given in sys.argv[1:]:
        share(Path(given))
