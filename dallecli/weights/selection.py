"""Which files of a repository a model needs: those of its parts, with one set of weights each.

Published repositories hold the same weights several times: as safetensors and as pickles, in full and in half
precision, for several libraries. One of them is enough, be it one file or an index and several.
"""

import re
from collections.abc import Sequence
from typing import Final

from dallecli.errors import BadFile, BadFolder
from dallecli.limits import SHARDS
from dallecli.weights.hub import Listing
from dallecli.weights.lock import LockedFile, cached
from dallecli.weights.shards import index_names

STEMS: Final = ("diffusion_pytorch_model", "model", "pytorch_model")
"""The names of weights before their precision and suffix; the last one is for pickles only."""

TEXTS: Final = (".json", ".txt", "spiece.model")
"""How the names of other files end that parts have: configs, and what tokenizers are made of."""


HERE: Final = "."
"""The part that lies in a repository itself, and in no folder of it."""


def select(listing: Listing, parts: Sequence[str], folder: str, *, half: bool) -> list[LockedFile]:
    """The files of some parts and the index of the repository, to be put into `folder` of a model's folder.

    Safetensors are preferred to pickles, and full precision to half, or with `half` half to full.

    Raises:
        BadFolder: a part is not in the repository, or has no weights that can be read here, or not all of them.
        BadFile: weights are split into pickles.
    """
    chosen = ["model_index.json"] if "model_index.json" in listing.files else []
    for part in parts:
        chosen += _part(listing, part, half=half)
    prefix = f"{folder}/" if folder else ""
    return [
        LockedFile(
            path=prefix + safetensors_name(path),
            repository=listing.repository,
            source=path,
            size=listing.files[path].size,
            etag=listing.files[path].etag,
            ours=not cached(listing.repository, listing.files[path].etag).exists(),
        )
        for path in chosen
    ]


def safetensors_name(path: str) -> str:
    """The name of a file in a model's folder: that of pickled weights is the name of their conversion."""
    head, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if suffix == "bin":
        name = re.sub("^pytorch_model", "model", stem) + dot + "safetensors"
    return head + slash + name


def _part(listing: Listing, part: str, *, half: bool) -> list[str]:
    folder = "" if part == HERE else f"{part}/"
    names = [path.removeprefix(folder) for path in listing.files if path.startswith(folder)]
    names = [name for name in names if "/" not in name]
    if not names:
        raise BadFolder(f"the part {part} is not in this repository", listing.repository)
    texts = [name for name in names if name.endswith(TEXTS) and ".index." not in name]
    weights = _weights(names, part, listing.repository, half=half)
    if not weights:
        others = [name for name in names if not name.endswith(TEXTS)]
        if others or "config.json" in names:
            raise BadFolder(f"{part} has no weights that dalle can read", listing.repository)
    return [f"{folder}{name}" for name in (*texts, *weights)]


def _weights(names: Sequence[str], part: str, repository: str, *, half: bool) -> list[str]:
    """One set of weights: a file, or an index and the files that it is of; nothing where there are none.

    Raises: BadFolder, BadFile.
    """
    precisions = (".fp16", "") if half else ("", ".fp16")
    for precision in precisions:
        for stem in STEMS:
            if f"{stem}{precision}.safetensors" in names:
                return [f"{stem}{precision}.safetensors"]
            index = next((name for name in index_names(stem, precision) if name in names), None)
            if index is not None:
                return [index, *_shards(names, stem, precision, f"{repository}/{part}")]
    pickles = (f"{stem}{precision}.bin" for precision in precisions for stem in STEMS)
    found = next((name for name in pickles if name in names), None)
    if found is None and any(".index." in name for name in names):
        what = f"the weights of {part} are split into pickled files, which a pull does not convert"
        raise BadFile(what, repository, "download them, and convert the folder: dalle models convert FOLDER NEW-FOLDER")
    return [] if found is None else [found]


def _shards(names: Sequence[str], stem: str, precision: str, where: str) -> list[str]:
    """The files of split weights, by the numbers in their names. Raises BadFolder if some are not there."""
    place, half = r"-(\d{1,5})-of-(\d{1,5})", re.escape(precision)
    found: dict[int, str] = {}
    count = 0
    for name in names:
        match = re.fullmatch(rf"{stem}{place}{half}\.safetensors|{stem}{half}{place}\.safetensors", name, re.ASCII)
        if match is not None:
            number, of = (int(text) for text in match.groups() if text is not None)
            found[number], count = name, max(count, of)
    if not 0 < count <= SHARDS:
        raise BadFolder(f"the weights are split into {count} files, and may be in up to {SHARDS}", where)
    missing = set(range(1, count + 1)) - set(found)
    if missing:
        raise BadFolder(f"of {count} files with weights, number {min(missing)} is missing", where)
    return [found[number] for number in range(1, count + 1)]
