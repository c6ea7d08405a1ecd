"""Pools of drawn scenes with captions and labels: what a training run reads, and the prompts a judge is shown."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dallecli.training.backdrops import COLOURS, NAMES
from dallecli.training.captions import STYLES, article
from dallecli.training.scenes import HELD_OUT_SEEDS, Mix, Scene, render, sample_scene
from dallecli.training.sprites import mean_colour
from dallecli.training.vocabulary import thing_index, things


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a judge should find in n pictures.

    objects: uint8 [n, 48], how many of each thing (above zero: it is there); background: int64 [n], an index into
    ``backdrops.NAMES`` (0: not named); style: int64 [n], an index into ``captions.STYLES`` (0: plain).
    """

    objects: NDArray[np.uint8]
    background: NDArray[np.int64]
    style: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """n scenes. pictures: by size, uint8 RGB [n, size, size, 3]; captions: n strings."""

    pictures: dict[int, NDArray[np.uint8]]
    captions: tuple[str, ...]
    labels: Labels


def scenes(seed: int, count: int, mix: Mix) -> Iterator[Scene]:
    """The scenes of seeds ``seed`` to ``seed + count - 1``.

    Raises ValueError if the range reaches from training seeds into held-out ones: a pool is one or the other.
    """
    if seed < HELD_OUT_SEEDS < seed + count:
        raise ValueError(f"seeds {seed} to {seed + count - 1} cross into the held-out ones, which begin at 2**31")
    for one in range(seed, seed + count):
        yield sample_scene(np.random.default_rng(one), mix)


def label(found: Sequence[Scene]) -> Labels:
    """The labels of some scenes."""
    objects = np.zeros((len(found), len(things())), dtype=np.uint8)
    for row, scene in enumerate(found):
        for placed in scene.placed:
            objects[row, placed.thing] += 1
    return Labels(
        objects=objects,
        background=np.array([NAMES.index(scene.background) for scene in found], dtype=np.int64),
        style=np.array([STYLES.index(scene.style) for scene in found], dtype=np.int64),
    )


def render_pool(path: Path | None, count: int, seed: int, sizes: Sequence[int], mix: Mix) -> Pool:
    """Draw ``count`` scenes at each of ``sizes``; the same arguments give the same bytes, and shards join by seed.

    path: None keeps the pictures in memory; a folder gets ``pictures_<size>.npy`` (memory-mapped, so that a pool may be
    larger than memory), ``captions.json``, ``labels.npz`` and ``mix.json``; ``open_pool`` reads it back.
    Raises ValueError on a bad size or a range of seeds that crosses into the held-out ones.
    """
    found = list(scenes(seed, count, mix))
    pictures: dict[int, NDArray[np.uint8]] = {}
    for size in sizes:
        shape = (count, size, size, 3)
        if path is None:
            pictures[size] = np.empty(shape, dtype=np.uint8)
        else:
            path.mkdir(parents=True, exist_ok=True)
            file = path / f"pictures_{size}.npy"
            pictures[size] = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        for row, scene in enumerate(found):
            pictures[size][row] = render(scene, size)
    pool = Pool(pictures=pictures, captions=tuple(scene.caption for scene in found), labels=label(found))
    if path is not None:
        labels = pool.labels
        np.savez(path / "labels.npz", objects=labels.objects, background=labels.background, style=labels.style)
        (path / "captions.json").write_text(json.dumps(pool.captions), encoding="utf-8")
        (path / "mix.json").write_text(json.dumps({"seed": seed, "count": count, **asdict(mix)}), encoding="utf-8")
    return pool


def open_pool(path: Path) -> Pool:
    """Read a folder that ``render_pool`` wrote; pictures stay on disk until used."""
    pictures = {
        int(file.stem.removeprefix("pictures_")): np.load(file, mmap_mode="r")
        for file in sorted(path.glob("pictures_*.npy"))
    }
    captions = tuple(json.loads((path / "captions.json").read_text(encoding="utf-8")))
    with np.load(path / "labels.npz") as stored:
        labels = Labels(objects=stored["objects"], background=stored["background"], style=stored["style"])
    return Pool(pictures=pictures, captions=captions, labels=labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A caption to paint, and the class indices that a judge should find in the picture."""

    caption: str
    thing: int
    background: int


def prompts_for_judging(count: int, seed: int, named_background: bool) -> tuple[Prompt, ...]:
    """Single-thing prompts, every thing equally often: "a dog", or "a dog on a red background".

    Things come in shuffled rounds of the vocabulary; a named colour is never one that the thing would drown in.
    """
    rng = np.random.default_rng(seed)
    order: Iterable[int] = np.concatenate([rng.permutation(len(things())) for _ in range(-(-count // len(things())))])
    prompts = []
    for thing in list(order)[:count]:
        phrase, background = article(things()[thing].name), 0
        if named_background:
            tone = np.asarray(mean_colour(int(thing)), dtype=np.float64)
            clear = [name for name, colour in COLOURS.items() if np.linalg.norm(tone - colour) >= 75]
            colour = clear[int(rng.integers(len(clear)))]
            phrase, background = f"{phrase} on {article(colour)} background", NAMES.index(colour)
        prompts.append(Prompt(caption=phrase, thing=thing_index()[things()[thing].name], background=background))
    return tuple(prompts)
