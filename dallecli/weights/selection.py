"""Which files of a repository a model needs: those of its parts, with one set of weights each.

Published repositories hold the same weights several times: as safetensors and as pickles, in full and in half
precision, for several libraries. One of them is enough.
"""

import re
from collections.abc import Sequence
from typing import Final

from dallecli.errors import BadFile, BadFolder
from dallecli.weights.hub import Listing
from dallecli.weights.lock import LockedFile, cached

STEMS: Final = ("diffusion_pytorch_model", "model", "pytorch_model")
"""The names of weights before their precision and suffix; the last one is for pickles only."""

TEXTS: Final = (".json", ".txt")


def select(listing: Listing, parts: Sequence[str], folder: str, *, half: bool) -> list[LockedFile]:
    """The files of some parts and the index of the repository, to be put into `folder` of a model's folder.

    Safetensors are preferred to pickles, and full precision to half, or with `half` half to full.

    Raises:
        BadFolder: a part is not in the repository, or has no weights that can be read here.
        BadFile: weights are split into shards.
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
    names = [path.removeprefix(f"{part}/") for path in listing.files if path.startswith(f"{part}/")]
    names = [name for name in names if "/" not in name]
    if not names:
        raise BadFolder(f"the part {part} is not in this repository", listing.repository)
    texts = [name for name in names if name.endswith(TEXTS) and not name.endswith(".index.json")]
    weights = _weights(names, half=half)
    if weights is None:
        shards = [name for name in names if name.endswith(".index.json")]
        if shards:
            raise BadFile(f"the weights of {part} are split into shards, which dalle cannot read", listing.repository)
        others = [name for name in names if not name.endswith(TEXTS)]
        if others or "config.json" in names:
            raise BadFolder(f"{part} has no weights that dalle can read", listing.repository)
        return [f"{part}/{name}" for name in texts]
    return [f"{part}/{name}" for name in [*texts, weights]]


def _weights(names: Sequence[str], *, half: bool) -> str | None:
    precisions = (".fp16", "") if half else ("", ".fp16")
    candidates = (
        f"{stem}{precision}{suffix}"
        for suffix in (".safetensors", ".bin")
        for precision in precisions
        for stem in STEMS
    )
    return next((name for name in candidates if name in names), None)
