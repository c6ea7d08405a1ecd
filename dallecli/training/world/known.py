"""Writes what a starter knows into its folder: the words of its world, and from where on a picture is strange to it.

`dalle train starter --out` does so by itself. To do it again for a folder, and the name of the world it was made for:

    python -m dallecli.training.world.known FOLDER first
"""

import math
import sys
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image

from dallecli.pipelines.familiarity import strangeness
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.unclip import UnClip
from dallecli.training.model_folder import write_json
from dallecli.training.world.pool import scenes
from dallecli.training.world.prompts import PROMPT_SEED
from dallecli.training.world.world import World
from dallecli.training.world.worlds import find_world
from dallecli.weights.folder import Folder
from dallecli.weights.known import FAMILIAR, WORDS
from dallecli.weights.layouts import imported
from dallecli.weights.recorded import recorded, write_sums

DRAWN: Final = 1000
"""Drawn scenes of seeds that no pool reaches."""
SHARE: Final = 0.995
"""The share of them that are not strange."""
SIDE: Final = 64
"""The side in pixels at which they are drawn: every world draws it, and the towers look at less."""

_SEED: Final = PROMPT_SEED + 2**19
_TOGETHER: Final = 50


def write_known(folder: Path, world: World, device: torch.device) -> None:
    """Write `words.json` of a finished model folder, and `familiar.json` if it has a CLIP.

    Raises as `publish`, BadFolder, BadFile.
    """
    write_json(folder / WORDS, world.word_kinds())
    (folder / FAMILIAR).unlink(missing_ok=True)
    # Only a CLIP finds pictures strange.
    if Folder(folder).family.clip is not None:
        write_json(folder / FAMILIAR, measured(folder, world, device))


def measured(folder: Path, world: World, device: torch.device) -> dict[str, Any]:
    """From where on a picture is strange to a model of a world, and what was measured for that."""
    found = sorted(strangeness_of(folder, drawn(world, _SEED, DRAWN), device))
    most = found[math.ceil(SHARE * len(found)) - 1]
    return {"strangeness": round(most, 4), "share": SHARE, "scenes": DRAWN, "median": round(found[len(found) // 2], 4)}


def drawn(world: World, seed: int, count: int) -> list[Image.Image]:
    """Scenes of a world that no model of it has seen."""
    return [Image.fromarray(scene.draw(SIDE)) for scene in scenes(seed, count, world.held_out)]


def strangeness_of(path: Path, pictures: list[Image.Image], device: torch.device) -> list[float]:
    """How strange pictures are to the model in a folder (see `pipelines/familiarity.py`)."""
    folder = Folder(path)
    parts = Parts(folder, device, torch.float32, frozenset(folder.networks))
    model: UnClip[Any] = imported(folder.family.opener)(parts, "its own")
    size, found = folder.sizes()[0], []
    for start in range(0, len(pictures), _TOGETHER):
        found += strangeness(model.parts, pictures[start : start + _TOGETHER], size)
    return found


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_known(target, find_world(sys.argv[2]), torch.device("cpu"))
    if recorded(target) is not None:
        write_sums(target)
