"""How often pictures of each kind are called strange to the starter: the figures in docs/starter.md.

    pip download --no-deps scikit-image scikit-learn matplotlib    # each wheel carries a few photographs
    python benchmarks/familiar.py PHOTOGRAPH...

Of every photograph, the middle square and squares cut at random are looked at. The rest is drawn or painted here.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dallecli.model import ignore
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.training.world.known import drawn, strangeness_of
from dallecli.training.world.pool import scenes
from dallecli.training.world.prompts import PROMPT_SEED
from dallecli.training.world.worlds import find_world
from dallecli.weights.known import read_strangeness
from dallecli.weights.registry import find, locate

CUT = 30
SIDE = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("photographs", nargs="*", type=Path)
    parser.add_argument("-n", type=int, default=400, help="pictures of each other kind")
    options = parser.parse_args()
    folder = locate(find("starter")).path
    most = read_strangeness(folder)
    assert most is not None
    for name, pictures in _kinds(options.photographs, options.n).items():
        if pictures:
            found = np.array(strangeness_of(folder, pictures, torch.device("cpu")))
            print(f"| {name} | {len(found)} | {np.median(found):.3f} | {(found > most).mean():.1%} |", flush=True)


def _kinds(photographs: list[Path], count: int) -> Mapping[str, list[Image.Image]]:
    rng = np.random.default_rng(0)
    opened = [Image.open(path).convert("RGB") for path in photographs]
    noise = rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    coarse = [Image.fromarray(one[:16, :16]) for one in noise]
    return {
        "drawn scenes that it never saw": drawn(find_world("first"), PROMPT_SEED + 2**21, count),
        "its own paintings": _painted(count),
        "photographs, whole": opened,
        f"{CUT} squares of each photograph": [_cut(photo, rng) for photo in opened for _ in range(CUT)],
        "noise of every pixel": [Image.fromarray(one) for one in noise],
        "coarse noise": coarse,
        "scenes of the next world": drawn(find_world("looks"), PROMPT_SEED + 2**21, count),
    }


def _painted(count: int) -> list[Image.Image]:
    """Pictures of captions of this world, painted by the starter."""
    engine = LocalEngine(batch=16)
    captions = [scene.caption for scene in scenes(PROMPT_SEED + 2**19, count, find_world("first").held_out)]
    asked = [Generate(model="starter", prompt=caption, seed=k, size=SIDE) for k, caption in enumerate(captions)]
    return [picture.image for picture in engine.paint_together([engine.resolve(one) for one in asked], ignore)]


def _cut(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A square from a third of the shorter side up to all of it."""
    side = int(min(photo.size) * rng.uniform(1 / 3, 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
    return photo.crop((left, top, left + side, top + side))


if __name__ == "__main__":
    main()
