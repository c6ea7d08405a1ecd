"""Pools of drawn scenes of a world, with captions and labels: what a training run reads."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from dallecli.training.world.scenes import HELD_OUT_SEEDS
from dallecli.training.world.world import UNKNOWN, Drawable, Grammar, World

S = TypeVar("S", bound=Drawable)

CLASSES: Final = ("background", "style", "look", "mirrored")
"""What a picture has one of, as ``world.Label`` and ``Labels`` call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a judge should find in n pictures.

    objects: uint8 [n, things], how many of each thing (above zero: it is there). background, style, look and mirrored:
    int64 [n], classes as in ``world.Label``.
    """

    objects: NDArray[np.uint8]
    background: NDArray[np.int64]
    style: NDArray[np.int64]
    look: NDArray[np.int64]
    mirrored: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """n scenes. pictures: by size, uint8 RGB [n, size, size, 3]; captions: n strings."""

    pictures: dict[int, NDArray[np.uint8]]
    captions: tuple[str, ...]
    labels: Labels


def scenes(seed: int, count: int, grammar: Grammar[S]) -> Iterator[S]:
    """The scenes of seeds ``seed`` to ``seed + count - 1``.

    Raises ValueError if the range reaches from training seeds into held-out ones: a pool is one or the other.
    """
    if seed < HELD_OUT_SEEDS < seed + count:
        raise ValueError(f"seeds {seed} to {seed + count - 1} cross into the held-out ones, which begin at 2**31")
    for one in range(seed, seed + count):
        yield grammar.sample(np.random.default_rng(one))


def label(world: World, found: Sequence[Drawable]) -> Labels:
    """The labels of some scenes of a world."""
    labels = [scene.label for scene in found]
    objects = np.zeros((len(found), len(world.things)), dtype=np.uint8)
    for row, one in enumerate(labels):
        for thing in one.things:
            objects[row, thing] += 1

    def classes(name: str) -> NDArray[np.int64]:
        return np.array([getattr(one, name) for one in labels], dtype=np.int64)

    return Labels(objects=objects, **{name: classes(name) for name in CLASSES})


def render_pool(
    world: World, path: Path | None, count: int, seed: int, sizes: Sequence[int], grammar: Grammar[Drawable]
) -> Pool:
    """Draw ``count`` scenes at each of ``sizes``; the same arguments give the same bytes, and shards join by seed.

    path: None keeps the pictures in memory; a folder gets ``pictures_<size>.npy`` (memory-mapped, so that a pool may be
    larger than memory), ``captions.json`` and ``labels.npz``; ``open_pool`` reads it back.
    Raises ValueError on a bad size or a range of seeds that crosses into the held-out ones.
    """
    found = list(scenes(seed, count, grammar))
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
            pictures[size][row] = scene.draw(size)
    pool = Pool(pictures=pictures, captions=tuple(scene.caption for scene in found), labels=label(world, found))
    if path is not None:
        labels = pool.labels
        kept = {name: getattr(labels, name) for name in ("objects", *CLASSES)}
        np.savez(path / "labels.npz", **kept)
        (path / "captions.json").write_text(json.dumps(pool.captions), encoding="utf-8")
    return pool


def open_pool(path: Path) -> Pool:
    """Read a folder that ``render_pool`` wrote; pictures stay on disk until used."""
    pictures = {
        int(file.stem.removeprefix("pictures_")): np.load(file, mmap_mode="r")
        for file in sorted(path.glob("pictures_*.npy"))
    }
    captions = tuple(json.loads((path / "captions.json").read_text(encoding="utf-8")))
    with np.load(path / "labels.npz") as stored:
        unknown = np.full(len(captions), UNKNOWN, dtype=np.int64)
        # Pools of older versions know of one look and no mirror.
        kept = {name: stored.get(name, unknown) for name in ("objects", *CLASSES)}
        labels = Labels(**kept)
    return Pool(pictures=pictures, captions=captions, labels=labels)
