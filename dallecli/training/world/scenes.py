"""Captioned training scenes: things from the vocabulary laid out on a 16 x 16 grid, drawn at any size.

The base decoder paints 16 px pictures, so every thing's place and size is a whole number of base pixels: a scene drawn
at 16, 64 and 256 px is the same scene, and a thing looks the same wherever it stands.

Scene ``n`` is drawn by its own generator, seeded by ``n``, so that any range of seeds is a reproducible pool.
Seeds below ``HELD_OUT_SEEDS`` train; the ones from there on are for evaluation only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dallecli.training.world import captions
from dallecli.training.world.arrangements import (
    Arrangement,
    Box,
    Figure,
    Layout,
    Pair,
    Split,
    in_painting_order,
    is_held_out,
    order_of,
)
from dallecli.training.world.backdrops import COLOURS, GRID, NAMES, PASTELS, PLACES, UNNAMED_WHITE, VARIANTS, backdrop
from dallecli.training.world.captions import INKS, STYLES, article, determined
from dallecli.training.world.sprites import LUMA, Colour, aspect, mean_colour, sprite
from dallecli.training.world.vocabulary import thing_index, things
from dallecli.training.world.world import Label

SIZES = (16, 32, 64, 128, 256)
HELD_OUT_SEEDS = 2**31

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Shares of the kinds of scene. The seven arrangements are weights; the others are probabilities.

    plain and place: share of scenes whose caption names a plain colour or a place (the rest is unnamed: white, or a
    pastel); style: share in one of the styles; modified: share of single things that are small, large, aside or
    re-inked. split: which pairs of things may meet (see ``is_held_out``).
    """

    single: float = 0.44
    count: float = 0.08
    riding: float = 0.14
    on: float = 0.08
    adorned: float = 0.08
    beside: float = 0.10
    left_of: float = 0.10
    small: float = 0.05
    large: float = 0.08
    aside: float = 0.12
    inked: float = 0.14
    plain: float = 0.25
    place: float = 0.16
    white: float = 0.55
    style: float = 0.15
    split: Split = "train"

    def sample(self, rng: np.random.Generator) -> "Scene":
        """Make up a scene; the generator decides everything."""
        return sample_scene(rng, self)


SINGLES = Mix(single=1, count=0, riding=0, on=0, adorned=0, beside=0, left_of=0, place=0.08, style=0.06)
"""The first lesson of a curriculum: one thing a picture, mostly on plain ground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A thing on the grid: class index, left, top, width, height in base pixels, and the ink's name if re-inked."""

    thing: int
    x: int
    y: int
    width: int
    height: int
    ink: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All there is to know about one picture; ``placed`` is in painting order.

    ground: a name that ``backdrops.backdrop`` knows; background and style: what a judge should find (members of
    ``backdrops.NAMES`` and ``captions.STYLES``).
    """

    caption: str
    arrangement: Arrangement
    placed: tuple[Placed, ...]
    ground: str
    variant: int
    background: str
    style: str

    @property
    def counts(self) -> dict[str, int]:
        """How many of each thing, by name."""
        names = [things()[placed.thing].name for placed in self.placed]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @property
    def label(self) -> Label:
        """What a judge should find in it."""
        return Label(
            things=tuple(placed.thing for placed in self.placed),
            background=NAMES.index(self.background),
            style=STYLES.index(self.style),
            order=None if self._aboard else order_of(self.arrangement, [placed.thing for placed in self.placed]),
        )

    @property
    def _aboard(self) -> bool:
        """Whether who rides is inside, as in a sailboat, and so not above what it rides."""
        return self.arrangement == "riding" and _figure(self.placed[0].thing).boarded

    def draw(self, size: int) -> NDArray[np.uint8]:
        """Draw it (see `render`)."""
        return render(self, size)


# --- what may meet -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _pairs(relations: tuple[Arrangement, ...], split: Split) -> tuple[Pair, ...]:
    """Every pair that the split allows; frequent mounts and seats are repeated by their weight."""
    crown = thing_index()["crown"]
    found: list[Pair] = []
    for relation in relations:
        for first, thing in enumerate(things()):
            for second, other in enumerate(things()):
                times = {
                    "riding": other.weight if thing.head else 0,
                    "on": other.seat * (3 if thing.head else 1) if thing.head or thing.item else 0,
                    "wearing": 2 if thing.head and second == crown else 0,
                    "under": other.shelter if thing.head else 0,
                }.get(relation, 1)
                kept = split == "any" or is_held_out(thing.name, relation, other.name) == (split == "held_out")
                if kept and first != second:
                    found += [(first, relation, second)] * times
    return tuple(found)


# --- layout ------------------------------------------------------------------------------------------------------


LAYOUT = Layout(GRID)


@lru_cache(maxsize=64)
def _figure(thing: int) -> Figure:
    entry = things()[thing]
    return Figure(aspect=aspect(thing), head=entry.head, saddle=entry.saddle, boarded=entry.saddle[1] > 0.5)


def _at(thing: int, box: Box, ink: str | None = None) -> Placed:
    return Placed(thing=thing, x=box.x, y=box.y, width=box.width, height=box.height, ink=ink)


def _centred(thing: int, size: int, shift: int = 0, ink: str | None = None) -> Placed:
    return _at(thing, LAYOUT.single(_figure(thing), size, shift), ink)


def _both(first: int, relation: Arrangement, second: int) -> tuple[Placed, ...]:
    boxes = LAYOUT.pair(relation, _figure(first), _figure(second))
    return in_painting_order(relation, (_at(first, boxes[0]), _at(second, boxes[1])))


# --- sampling ----------------------------------------------------------------------------------------------------


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _name(rng: np.random.Generator, thing: int) -> str:
    entry = things()[thing]
    return _pick(rng, entry.aliases) if entry.aliases and rng.random() < 0.12 else entry.name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What stands in front, before background and style: the phrase and the things."""

    phrase: str
    arrangement: Arrangement
    placed: tuple[Placed, ...]


def _single(rng: np.random.Generator, mix: Mix) -> _Subject:
    thing = int(rng.integers(len(things())))
    name = _name(rng, thing)
    chance = rng.random()
    determiner = _pick(rng, captions.DETERMINERS)
    shift = _pick(rng, (-1, 0, 0, 1))
    phrase, placed = determined(determiner, name), _centred(thing, 12, shift)
    if (chance := chance - mix.small) < 0:
        phrase, placed = article(f"{_pick(rng, captions.SMALL)} {name}"), _centred(thing, 7, shift)
    elif (chance := chance - mix.large) < 0:
        phrase, placed = article(f"{_pick(rng, captions.LARGE)} {name}"), _centred(thing, 15)
    elif (chance := chance - mix.aside) < 0:
        right = rng.random() < 0.5
        phrase = f"{article(name)} {_pick(rng, captions.RIGHT if right else captions.LEFT)}"
        placed = _at(thing, LAYOUT.aside(_figure(thing), right))
    else:
        if chance < mix.inked and things()[thing].tint is None:
            ink = _pick(rng, INKS)
            phrase, placed = determined(determiner, f"{ink} {name}"), _centred(thing, 12, shift, ink)
    return _Subject(phrase=phrase, arrangement="single", placed=(placed,))


def _several(rng: np.random.Generator) -> _Subject:
    thing, count = int(rng.integers(len(things()))), 2 if rng.random() < 0.6 else 3
    phrase = f"{_pick(rng, captions.COUNTS[count])} {things()[thing].plural}"
    return _Subject(
        phrase=phrase, arrangement="count", placed=tuple(_at(thing, box) for box in LAYOUT.group(_figure(thing), count))
    )


def _together(rng: np.random.Generator, relations: tuple[Arrangement, ...], mix: Mix) -> _Subject:
    first, relation, second = _pick(rng, _pairs(relations, mix.split))
    placed = _both(first, relation, second)
    words: Sequence[str]
    if relation == "wearing":
        phrase = f"{article(_name(rng, first))} {_pick(rng, captions.WEARING)}"
        return _Subject(phrase=phrase, arrangement=relation, placed=placed)
    said_first, said_second = first, second
    if relation == "riding":
        words = things()[second].verbs
    elif relation == "on":
        words = captions.ON
    elif relation == "under":
        words = captions.UNDER + captions.HOLDING * things()[second].item
    elif relation == "beside":
        words = captions.BESIDE
    elif rng.random() < 0.5:
        words = captions.LEFT_OF
    else:
        words, said_first, said_second = captions.RIGHT_OF, second, first
    phrase = f"{article(_name(rng, said_first))} {_pick(rng, words)} {article(_name(rng, said_second))}"
    return _Subject(phrase=phrase, arrangement=relation, placed=placed)


def _subject(rng: np.random.Generator, mix: Mix) -> _Subject:
    shares = (mix.single, mix.count, mix.riding, mix.on, mix.adorned, mix.beside, mix.left_of)
    kind = int(np.searchsorted(np.cumsum(shares), rng.random() * sum(shares), side="right"))
    if kind == 0:
        return _single(rng, mix)
    if kind == 1:
        return _several(rng)
    relations: tuple[tuple[Arrangement, ...], ...] = (
        ("riding",),
        ("on",),
        ("wearing", "under"),
        ("beside",),
        ("left of",),
    )
    wanted = relations[min(kind - 2, len(relations) - 1)]
    # The few pairs with a crown or a shelter may all be on the other side of the split.
    return _together(rng, wanted if _pairs(wanted, mix.split) else ("beside",), mix)


def _ink(placed: Placed) -> Colour | None:
    return None if placed.ink is None else COLOURS[placed.ink]


def _clashes(placed: Sequence[Placed], colour: Colour) -> bool:
    """Whether a thing would drown in a plain background of nearly its own average colour."""
    return any(math.dist(mean_colour(one.thing, _ink(one)), colour) < 75 for one in placed)


def _plain(rng: np.random.Generator, placed: Sequence[Placed], palette: dict[str, Colour]) -> str:
    """A colour of the palette against which the things show; any colour if there is none."""
    clear = [name for name, colour in palette.items() if not _clashes(placed, colour)]
    return _pick(rng, clear if clear else list(palette))


def _style(rng: np.random.Generator, mix: Mix, subject: _Subject) -> str:
    if rng.random() >= mix.style:
        return STYLES[0]
    # Ink shows in pixel art only; the other styles have no colour.
    return "pixel art" if subject.placed[0].ink is not None else _pick(rng, STYLES[1:])


def sample_scene(rng: np.random.Generator, mix: Mix) -> Scene:
    """Draw one scene; the generator decides everything."""
    subject = _subject(rng, mix)
    style = _style(rng, mix, subject)
    # Sketches and grey photographs have no colours to name.
    grey = style in ("pencil sketch", "black and white")
    phrase, background, variant = subject.phrase, NAMES[0], 0
    chance = rng.random()
    if chance < mix.place:
        ground = background = _pick(rng, PLACES)
        variant = int(rng.integers(VARIANTS))
        phrase += f" {_pick(rng, captions.PLACE_PHRASES[ground])}"
    elif chance < mix.place + mix.plain and not grey:
        ground = background = _plain(rng, subject.placed, COLOURS)
        phrase += _pick(rng, captions.PLAIN_GROUND).format(ground, a=article(ground))
    else:
        ground = UNNAMED_WHITE if rng.random() < mix.white else _plain(rng, subject.placed, PASTELS)
    if style != STYLES[0]:
        caption = _pick(rng, captions.STYLE_PHRASES[style]).format(phrase)
    elif phrase.startswith(captions.OPENED):
        caption = _pick(rng, captions.OPENINGS) + phrase
    else:
        caption = phrase
    if rng.random() < 0.03:
        caption += "."
    return Scene(
        caption=caption,
        arrangement=subject.arrangement,
        placed=subject.placed,
        ground=ground,
        variant=variant,
        background=background,
        style=style,
    )


def another(rng: np.random.Generator, caption: str, thing: int, background: str) -> Scene:
    """A scene of one thing of which nothing else is said, on a named colour or, where it is unnamed, on any ground."""
    placed = (_centred(thing, 12, _pick(rng, (-1, 0, 0, 1))),)
    if background != NAMES[0]:
        ground = background
    else:
        ground = UNNAMED_WHITE if rng.random() < Mix().white else _plain(rng, placed, PASTELS)
    return Scene(
        caption=caption,
        arrangement="single",
        placed=placed,
        ground=ground,
        variant=0,
        background=background,
        style=STYLES[0],
    )


# --- drawing -----------------------------------------------------------------------------------------------------


def _average(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Box average of a square picture down to ``size``, rounded half up."""
    factor = pixels.shape[0] // size
    cells = pixels.reshape(size, factor, size, factor, 3)
    total = cells.sum(axis=(1, 3), dtype=np.uint32)
    average: NDArray[np.uint8] = ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
    return average


def _composite(scene: Scene, size: int) -> NDArray[np.uint8]:
    unit = size // GRID
    canvas = backdrop(scene.ground, scene.variant, size).copy()
    ink = 255
    if scene.style == "pencil sketch":
        # Nights are dark lines on paper, too; the ground is drawn fainter than the things, and white things are not
        # quite as white as the paper.
        ground = 255 - canvas if canvas.mean() < 80 else canvas
        canvas, ink = 255 - (255 - ground) // 3, 215
    for one in scene.placed:
        drawn = sprite(one.thing, one.width * unit, one.height * unit, _ink(one))
        rows = slice(one.y * unit, (one.y + one.height) * unit)
        columns = slice(one.x * unit, (one.x + one.width) * unit)
        canvas[rows, columns] = drawn.colour * ink // 255 + (canvas[rows, columns] * drawn.clear + 127) // 255
    return canvas


def _grey(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luma = (pixels @ LUMA + 0.5).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=-1)


def _sketch(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pencil lines by colour dodge: grey divided by its own blur is white where flat and dark along edges."""
    luma = pixels @ LUMA
    size = pixels.shape[0]
    blur = Image.fromarray((255 - luma).astype(np.uint8)).filter(ImageFilter.GaussianBlur(size / 28))
    flat = np.maximum(256 - np.asarray(blur, np.float32), 1)
    lines = np.minimum(luma / flat, 1)
    paper = np.asarray([252, 250, 244], np.float32)
    shading = 0.8 + 0.2 * luma / 255
    pencil = (0.1 + 0.9 * lines**3) * shading
    return (paper * pencil[..., None]).astype(np.uint8)


def _pixel_art(scene: Scene, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Sixteen by sixteen blocks of six levels a channel, and a line of one block around the things.

    The line is black, or white on a dark ground. At 16 px it is what tells pixel art from any other small picture: few
    colours alone are not seen by what enlarges it.
    """
    small = _average(pixels, GRID).astype(np.uint16)
    blocks = ((small + 25) // 51 * 51).astype(np.uint8)
    covered = _covered(scene)
    edge = np.pad(covered, 1)
    line = (edge[:-2, 1:-1] | edge[2:, 1:-1] | edge[1:-1, :-2] | edge[1:-1, 2:]) & ~covered
    if line.any():
        blocks[line] = 0 if (blocks[line] @ LUMA).mean() > 100 else 255
    factor = pixels.shape[0] // GRID
    return blocks.repeat(factor, axis=0).repeat(factor, axis=1)


def _covered(scene: Scene) -> NDArray[np.bool_]:
    """Which base pixels the things cover at least by half."""
    covered = np.zeros((GRID, GRID), dtype=bool)
    for one in scene.placed:
        clear = sprite(one.thing, one.width, one.height, _ink(one)).clear[..., 0]
        covered[one.y : one.y + one.height, one.x : one.x + one.width] |= clear < 128
    return covered


_FILTERS: dict[str, Callable[[Scene, NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "pencil sketch": lambda _, pixels: _sketch(pixels),
    "pixel art": _pixel_art,
    "black and white": lambda _, pixels: _grey(pixels),
}


def render(scene: Scene, size: int) -> NDArray[np.uint8]:
    """Draw the scene as uint8 RGB [size, size, 3].

    size: one of ``SIZES``. 64 px and more are drawn from the large sprites; 32 and 16 are box averages of the 64 px
    picture, as an upsampler's training pairs must be. Raises ValueError on any other size.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {SIZES}, not {size}")
    if size < 64:
        return _average(render(scene, 64), size)
    canvas = _composite(scene, size)
    return canvas if scene.style == STYLES[0] else _FILTERS[scene.style](scene, canvas)
