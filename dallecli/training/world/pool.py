"""Pools of drawn scenes with captions and labels: what a training run reads, and the prompts a judge is shown."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dallecli.training.world.backdrops import COLOURS, NAMES
from dallecli.training.world.captions import STYLE_PHRASES, STYLES, article
from dallecli.training.world.scenes import HELD_OUT_SEEDS, Mix, Scene, render, sample_scene
from dallecli.training.world.sprites import mean_colour
from dallecli.training.world.vocabulary import thing_index, things


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


Axis = Literal["x", "y"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A caption to paint, and what a judge should find in the picture, as class indices.

    order: None, or (first, second, axis) where the first thing stands left of the second ("x") or above it ("y").
    """

    caption: str
    things: tuple[int, ...]
    background: int = 0
    style: int = 0
    order: tuple[int, int, Axis] | None = None


def single_prompts(count: int, seed: int, named_background: bool = False) -> tuple[Prompt, ...]:
    """Single-thing prompts, every thing equally often: "a dog", or "a dog on a red background".

    A named colour is never one that the thing would drown in.
    """
    rng = np.random.default_rng(seed)
    prompts = []
    for thing in _in_rounds(count, rng):
        phrase, background = article(things()[thing].name), 0
        if named_background:
            tone = np.asarray(mean_colour(thing), dtype=np.float64)
            clear = [name for name, colour in COLOURS.items() if np.linalg.norm(tone - colour) >= 75]
            colour = clear[int(rng.integers(len(clear)))]
            phrase, background = f"{phrase} on {article(colour)} background", NAMES.index(colour)
        prompts.append(Prompt(caption=phrase, things=(thing,), background=background))
    return tuple(prompts)


def style_prompts(count: int, seed: int) -> tuple[Prompt, ...]:
    """Single things in every style by turns: "a pencil sketch of a dog"."""
    rng = np.random.default_rng(seed)
    prompts = []
    for number, thing in enumerate(_in_rounds(count, rng)):
        style = 1 + number % (len(STYLES) - 1)
        phrases = STYLE_PHRASES[STYLES[style]]
        caption = phrases[int(rng.integers(len(phrases)))].format(article(things()[thing].name))
        prompts.append(Prompt(caption=caption, things=(thing,), style=style))
    return tuple(prompts)


def scene_prompts(found: Iterable[Scene]) -> tuple[Prompt, ...]:
    """The captions of some scenes, with all that is known about them."""
    return tuple(
        Prompt(
            caption=scene.caption,
            things=tuple(thing_index()[name] for name in scene.counts),
            background=NAMES.index(scene.background),
            style=STYLES.index(scene.style),
            order=_order(scene),
        )
        for scene in found
    )


def _order(scene: Scene) -> tuple[int, int, Axis] | None:
    if len(scene.counts) != 2:
        return None
    first, second = (placed.thing for placed in scene.placed)
    match scene.arrangement:
        case "left of":
            return first, second, "x"
        case "riding" | "on" | "wearing":  # the mount, the seat or the wearer is painted first
            return second, first, "y"
        case "under":
            return first, second, "y"
        case _:
            return None


def _in_rounds(count: int, rng: np.random.Generator) -> list[int]:
    """Things in shuffled rounds of the vocabulary."""
    rounds = [rng.permutation(len(things())) for _ in range(-(-count // len(things())))]
    return [int(thing) for thing in np.concatenate(rounds)[:count]]
