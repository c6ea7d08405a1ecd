"""How closely an inverted picture comes back, and how evenly an interpolation walks: `python benchmarks/verbs.py`.

Prints the two tables of docs/guides/vary.md and docs/guides/interpolate.md, measured on the starter with pictures that
it never saw: drawn scenes of held-out seeds. `--pictures N` sets how many (16), `--json FILE` keeps the figures.
"""

import argparse
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from dallecli.source import Source, read_source, words
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.embed import Embed
from dallecli.tasks.interpolate import Interpolate, NoiseKind
from dallecli.tasks.stages import Dials
from dallecli.tasks.vary import Vary
from dallecli.training.world.pool import scenes
from dallecli.training.world.scenes import HELD_OUT_SEEDS, SINGLES, render

MODEL = "starter"
INVERSION_STEPS = (25, 50, 100, 250)
SIZES = (16, 64)
FRAMES = 9
SEED = HELD_OUT_SEEDS + 2**22


def drawn(count: int, folder: Path) -> list[Source]:
    """Scenes of one thing, 256 px, as files."""
    found = []
    for k, scene in enumerate(scenes(SEED, count, SINGLES)):
        file = folder / f"{k}.png"
        Image.fromarray(render(scene, 256)).save(file)
        found.append(read_source(str(file)))
    return found


def psnr(one: Image.Image, other: Image.Image) -> float:
    """The peak signal-to-noise ratio of two pictures of one size in dB: 10 log10(255^2 / mean squared difference)."""
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return 10 * math.log10(255**2 / float((difference**2).mean()))


def reconstruction(engine: LocalEngine, pictures: Sequence[Source], size: int, steps: int) -> list[float]:
    """The PSNR with which `vary --fidelity 1` gives each picture back at a size."""
    ratios = []
    for picture in pictures:
        ask = Vary(model=MODEL, image=picture, fidelity=1.0, size=size, seed=0, inverting=Dials(steps=steps))
        (painted,) = engine.paint(engine.resolve(ask), lambda _: None)
        assert picture.data is not None  # it was just read
        with Image.open(io.BytesIO(picture.data)) as image:
            wanted = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
        ratios.append(psnr(painted.image, wanted))
    return ratios


def evenness(engine: LocalEngine, ends: tuple[Source, Source], noise: NoiseKind, folder: Path) -> float:
    """The largest step between two frames of a way, as a multiple of the mean step: angles between CLIP embeddings."""
    ask = Interpolate(model=MODEL, ends=ends, frames=FRAMES, noise=noise, seed=0, size=64)
    files = []
    for k, frame in enumerate(engine.paint(engine.resolve(ask), lambda _: None)):
        files.append(folder / f"frame-{k}.png")
        frame.image.save(files[-1])
    request = Embed(model=MODEL, inputs=tuple(read_source(str(file)) for file in files))
    seen = np.stack([found.vector for found in engine.embed(request, lambda _: None)]).astype(np.float64)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    steps = np.arccos(np.clip((seen[:-1] * seen[1:]).sum(axis=1), -1, 1))
    return float(steps.max() / steps.mean())


def main() -> None:
    """Measure and print."""
    import tempfile

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine = LocalEngine()
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = drawn(options.pictures, Path(folder))
        print("| --inversion-steps | " + " | ".join(f"{size} px" for size in SIZES) + " |")
        print("| --- |" + " --- |" * len(SIZES))
        for steps in INVERSION_STEPS:
            row = {size: reconstruction(engine, pictures, size, steps) for size in SIZES}
            figures |= {f"psnr_{size}px_{steps}": ratios for size, ratios in row.items()}
            cells = (f"{median(ratios):.1f} dB ({min(ratios):.1f})" for ratios in row.values())
            print(f"| {steps} | {' | '.join(cells)} |", flush=True)
        print("\n| ends | --noise | largest step / mean step: median (largest) |\n| --- | --- | --- |")
        pairs = list(zip(pictures[::2], pictures[1::2], strict=False))
        sentences = [(words("a cat"), words("a fish")), (words("an apple on a blue background"), words("a car"))]
        ways: list[tuple[str, NoiseKind, Sequence[tuple[Source, Source]]]] = [
            ("pictures", "fixed", pairs),
            ("pictures", "inverted", pairs),
            ("sentences", "fixed", sentences),
        ]
        for name, noise, ends in ways:
            ratios = [evenness(engine, both, noise, Path(folder)) for both in ends]
            figures[f"evenness_{name}_{noise}"] = ratios
            print(f"| {name} | {noise} | {median(ratios):.2f} ({max(ratios):.2f}) |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
