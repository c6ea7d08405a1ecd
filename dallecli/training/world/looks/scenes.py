"""Captioned scenes of the world of looks, laid out on a 32 x 32 grid, drawn at 32 px and more.

Scene ``n`` is drawn by its own generator, seeded by ``n``, so that any range of seeds is a reproducible pool. Seeds
from ``HELD_OUT_SEEDS`` on are for evaluation only.

What a caption names is exact: the thing, its colour, place, side, size, number and style. What it does not name differs
from scene to scene: whose drawing it is, which way it faces, its size and place, the ground, and the hue of what has no
colour of its own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dallecli.training.world import captions as words
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
from dallecli.training.world.backdrops import COLOURS
from dallecli.training.world.captions import INKS, article, determined
from dallecli.training.world.looks import captions, grounds
from dallecli.training.world.looks.captions import STYLE_LOOKS, STYLE_PHRASES, STYLES
from dallecli.training.world.looks.grounds import FLOORS, GRID, NAMES, PASTELS, PLACES, VARIANTS, WHITE, Ground, plain
from dallecli.training.world.looks.sprites import HUES, Drawn, mean_colour, outline, shape, sprite
from dallecli.training.world.looks.vocabulary import Thing, thing_index, things
from dallecli.training.world.sprites import LUMA, Colour
from dallecli.training.world.world import UNKNOWN, Label

T = TypeVar("T")

SIZES: Final = (32, 64, 128, 256)
USUAL: Final = (20, 22, 24, 26, 28)
"""The longest side of a thing alone of which no size is said, in base pixels: one of these, each as likely."""
SMALL: Final = (12, 14, 16)
LARGE: Final = (30, 32)
APART: Final = 75.0
"""How far a thing's average colour is from a plain ground on which it shows, in levels of 255."""
TURNED: Final = 1 / 3
"""The share of things without a colour of their own that are drawn in another hue."""
ONE_SET: Final = 0.7
"""The share of scenes of two things in which one artist drew both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Shares of the kinds of scene. The seven arrangements are weights; the others are probabilities.

    plain and place: share of scenes whose caption names a plain colour or a place; of the rest, white, pastel, wall and
    fade are weights; style: share in one of the styles; small, large, aside and inked: share of single things. split:
    which pairs of things may meet (see ``scenes.is_held_out`` of the first world).
    """

    single: float = 0.46
    count: float = 0.08
    riding: float = 0.13
    on: float = 0.07
    adorned: float = 0.08
    beside: float = 0.10
    left_of: float = 0.10
    small: float = 0.05
    large: float = 0.06
    aside: float = 0.10
    inked: float = 0.12
    plain: float = 0.22
    place: float = 0.18
    white: float = 0.30
    pastel: float = 0.25
    wall: float = 0.25
    fade: float = 0.20
    style: float = 0.22
    split: Split = "train"

    def sample(self, rng: np.random.Generator) -> "Scene":
        """Make up a scene; the generator decides everything."""
        return sample_scene(rng, self)


SINGLES: Final = Mix(single=1, count=0, riding=0, on=0, adorned=0, beside=0, left_of=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A thing on the grid: class index, whose drawing, left, top, width, height in base pixels, and how it is coloured.

    ink: the name of the colour it is re-inked in, None if it is not; hue: by how many of ``HUES`` steps its colours are
    turned; mirrored: whether it is seen in the mirror.
    """

    thing: int
    look: str
    x: int
    y: int
    width: int
    height: int
    ink: str | None = None
    hue: int = 0
    mirrored: bool = False

    @property
    def drawn(self) -> Drawn:
        """Which drawing it is."""
        return Drawn(self.thing, self.look)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All there is to know about one picture; ``placed`` is in painting order.

    background and style are what the caption names (members of ``grounds.NAMES`` and ``captions.STYLES``).
    """

    caption: str
    arrangement: Arrangement
    placed: tuple[Placed, ...]
    ground: Ground
    background: str
    style: str

    @property
    def counts(self) -> dict[str, int]:
        """How many of each thing, by name."""
        names = [things()[placed.thing].name for placed in self.placed]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @property
    def seen(self) -> str:
        """The style that can be seen, named or not: a drawing of the set that "3d" asks for is 3d."""
        if self.style != STYLES[0]:
            return self.style
        looks = {placed.look for placed in self.placed}
        return next((style for style, look in STYLE_LOOKS.items() if looks == {look}), STYLES[0])

    @property
    def label(self) -> Label:
        """What a judge should find in it. Whose drawing it is and how it faces is told of one thing in its colours."""
        look = mirrored = UNKNOWN
        if len(self.placed) == 1 and self.seen in (STYLES[0], *STYLE_LOOKS, "sticker"):
            (one,) = self.placed
            look = LOOK_NAMES.index(_ARTIST.get(one.look, one.look))
            mirrored = int(one.mirrored) if shape(one.drawn).side else UNKNOWN
        return Label(
            things=tuple(placed.thing for placed in self.placed),
            background=NAMES.index(self.background),
            style=STYLES.index(self.seen),
            look=look,
            mirrored=mirrored,
            order=None if self._aboard else order_of(self.arrangement, [placed.thing for placed in self.placed]),
        )

    @property
    def _aboard(self) -> bool:
        """Whether who rides is inside, as in a sailboat, and so not above what it rides."""
        return self.arrangement == "riding" and _figure(self.placed[0].drawn).boarded

    def draw(self, size: int) -> NDArray[np.uint8]:
        """Draw it (see `render`)."""
        return render(self, size)


LOOK_NAMES: Final = "NFTEL"
"""The looks that a judge tells apart; Noto's older drawings, of a few things only, count as Noto's."""
_ARTIST: Final = {"V": "N"}


# --- chance ------------------------------------------------------------------------------------------------------


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.random() * len(choices))]


def _between(rng: np.random.Generator, least: int, most: int) -> int:
    return least + int(rng.random() * (most - least + 1))


def _name(rng: np.random.Generator, thing: Thing) -> str:
    return _pick(rng, thing.aliases) if thing.aliases and rng.random() < 0.12 else thing.name


# --- whose drawings ----------------------------------------------------------------------------------------------


def looks_for(style: str) -> str:
    """The sets whose drawings serve a style."""
    return STYLE_LOOKS.get(style, "NFTEV")


@lru_cache(maxsize=1024)
def _looks(thing: int, style: str, mount: bool) -> str:
    """The sets that may draw a thing; empty where none does."""
    entry = things()[thing]
    allowed = entry.carries if mount and entry.carries else entry.drawn
    return "".join(look for look in entry.drawn if look in looks_for(style) and look in allowed)


def _two_looks(rng: np.random.Generator, first: str, second: str) -> tuple[str, str]:
    both = [look for look in first if look in second]
    if both and rng.random() < ONE_SET:
        look = _pick(rng, both)
        return look, look
    return _pick(rng, first), _pick(rng, second)


@lru_cache(maxsize=64)
def _pairs(relations: tuple[Arrangement, ...], split: Split, style: str) -> tuple[Pair, ...]:
    """Every pair that the split allows and the style can draw, mounts and seats as often as their weight says."""
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
                drawn = _looks(first, style, False) and _looks(second, style, relation in ("riding", "on"))
                if kept and drawn and first != second:
                    found += [(first, relation, second)] * times
    return tuple(found)


# --- layout ------------------------------------------------------------------------------------------------------


LAYOUT: Final = Layout(GRID)


@lru_cache(maxsize=1024)
def _figure(drawn: Drawn) -> Figure:
    seen = shape(drawn)
    saddle = seen.saddle or (0.5, 0.3)
    head = (seen.head or (0.5, 0.0)) if things()[drawn.thing].head else None
    return Figure(aspect=seen.aspect, head=head, saddle=saddle, boarded=saddle[1] > 0.55)


def _at(drawn: Drawn, box: Box) -> Placed:
    return Placed(thing=drawn.thing, look=drawn.look, x=box.x, y=box.y, width=box.width, height=box.height)


def _centred(drawn: Drawn, size: int, right: int = 0, down: int = 0) -> Placed:
    return _at(drawn, LAYOUT.single(_figure(drawn), size, right, down))


def _both(first: Drawn, relation: Arrangement, second: Drawn) -> tuple[Placed, ...]:
    boxes = LAYOUT.pair(relation, _figure(first), _figure(second))
    return in_painting_order(relation, (_at(first, boxes[0]), _at(second, boxes[1])))


def _faced(rng: np.random.Generator, placed: tuple[Placed, ...], together: bool) -> tuple[Placed, ...]:
    """The things as they are or in the mirror, by a coin: all of them with their places, or each where it stands."""
    if together:
        letters = any(one.look in things()[one.thing].unmirrored for one in placed)
        if letters or rng.random() < 0.5:
            return placed
        return tuple(replace(one, x=GRID - one.x - one.width, mirrored=shape(one.drawn).side) for one in placed)
    return tuple(replace(one, mirrored=shape(one.drawn).side and rng.random() < 0.5) for one in placed)


def _dyed(rng: np.random.Generator, placed: tuple[Placed, ...]) -> tuple[Placed, ...]:
    """What has no colour of its own in another hue, now and then."""
    return tuple(
        replace(one, hue=_between(rng, 1, HUES - 1))
        if one.ink is None and things()[one.thing].dyed and rng.random() < TURNED
        else one
        for one in placed
    )


# --- subjects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """What stands in front, before background and style: the phrase and the things."""

    phrase: str
    arrangement: Arrangement
    placed: tuple[Placed, ...]


@lru_cache(maxsize=16)
def _drawable(style: str) -> tuple[int, ...]:
    return tuple(index for index in range(len(things())) if _looks(index, style, False))


def _single(rng: np.random.Generator, mix: Mix, style: str) -> _Subject:
    thing = _pick(rng, _drawable(style))
    entry = things()[thing]
    look = _pick(rng, _looks(thing, style, False))
    drawn, name, chance = Drawn(thing, look), _name(rng, entry), rng.random()
    determiner = _pick(rng, words.DETERMINERS)
    right, down = _between(rng, -4, 4), _between(rng, -2, 4)
    phrase, placed = determined(determiner, name), _centred(drawn, _pick(rng, USUAL), right, down)
    if (chance := chance - mix.small) < 0:
        phrase = article(f"{_pick(rng, words.SMALL)} {name}")
        placed = _centred(drawn, _pick(rng, SMALL), right, down)
    elif (chance := chance - mix.large) < 0:
        phrase, placed = article(f"{_pick(rng, words.LARGE)} {name}"), _centred(drawn, _pick(rng, LARGE))
    elif (chance := chance - mix.aside) < 0:
        to_right = rng.random() < 0.5
        phrase = f"{article(name)} {_pick(rng, words.RIGHT if to_right else words.LEFT)}"
        placed = _at(drawn, LAYOUT.aside(_figure(drawn), to_right, down))
    elif chance < mix.inked and look not in entry.tint and style in (STYLES[0], "pixel art", "sticker", *STYLE_LOOKS):
        ink = _pick(rng, INKS)
        if look != "L":
            phrase, placed = determined(determiner, f"{ink} {name}"), replace(placed, ink=ink)
    return _Subject(phrase=phrase, arrangement="single", placed=_dyed(rng, _faced(rng, (placed,), False)))


def _several(rng: np.random.Generator, style: str) -> _Subject:
    thing, count = _pick(rng, _drawable(style)), 2 if rng.random() < 0.6 else 3
    drawn = Drawn(thing, _pick(rng, _looks(thing, style, False)))
    phrase = f"{_pick(rng, words.COUNTS[count])} {things()[thing].plural}"
    placed = tuple(_at(drawn, box) for box in LAYOUT.group(_figure(drawn), count))
    return _Subject(phrase=phrase, arrangement="count", placed=_dyed(rng, _faced(rng, placed, False)))


def _together(rng: np.random.Generator, relations: tuple[Arrangement, ...], split: Split, style: str) -> _Subject:
    first, relation, second = _pick(rng, _pairs(relations, split, style))
    mount = relation in ("riding", "on")
    looks = _two_looks(rng, _looks(first, style, False), _looks(second, style, mount))
    placed = _both(Drawn(first, looks[0]), relation, Drawn(second, looks[1]))
    apart = relation in ("beside", "left of")
    placed = _dyed(rng, _faced(rng, placed, not apart))
    one, other = things()[first], things()[second]
    phrases: Sequence[str]
    if relation == "wearing":
        phrase = f"{article(_name(rng, one))} {_pick(rng, words.WEARING)}"
        return _Subject(phrase=phrase, arrangement=relation, placed=placed)
    if relation == "riding":
        phrases = other.verbs
    elif relation == "on":
        phrases = words.ON
    elif relation == "under":
        phrases = words.UNDER + words.HOLDING * other.item
    elif relation == "beside":
        phrases = words.BESIDE
    elif rng.random() < 0.5:
        phrases = words.LEFT_OF
    else:
        phrases, one, other = words.RIGHT_OF, other, one
    phrase = f"{article(_name(rng, one))} {_pick(rng, phrases)} {article(_name(rng, other))}"
    return _Subject(phrase=phrase, arrangement=relation, placed=placed)


_RELATIONS: Final[tuple[tuple[Arrangement, ...], ...]] = (
    ("riding",),
    ("on",),
    ("wearing", "under"),
    ("beside",),
    ("left of",),
)
_ALONE: Final = ("line drawing", "silhouette", "sticker")
"""Styles of one thing: two outlines that touch are a third thing."""


def _subject(rng: np.random.Generator, mix: Mix, style: str) -> _Subject:
    shares = (mix.single, mix.count, mix.riding, mix.on, mix.adorned, mix.beside, mix.left_of)
    chance = rng.random() * sum(shares)
    kind = 0
    while chance >= shares[kind] and kind < len(shares) - 1:
        chance -= shares[kind]
        kind += 1
    if kind == 0 or style in _ALONE:
        return _single(rng, mix, style)
    if kind == 1:
        return _several(rng, style)
    wanted = _RELATIONS[kind - 2]
    # The few pairs with a crown or a shelter may all be on the other side of the split.
    return _together(rng, wanted if _pairs(wanted, mix.split, style) else ("beside",), mix.split, style)


# --- grounds -----------------------------------------------------------------------------------------------------


def _shows(placed: Sequence[Placed], colours: Sequence[Colour]) -> bool:
    """Whether no thing would drown in a ground of nearly its own average colour."""
    return all(
        math.dist(mean_colour(one.drawn, None if one.ink is None else COLOURS[one.ink], one.hue), colour) >= APART
        for one in placed
        for colour in colours
    )


def _named(rng: np.random.Generator, placed: Sequence[Placed]) -> str:
    clear = [name for name, colour in COLOURS.items() if _shows(placed, (colour,))]
    return _pick(rng, clear if clear else list(COLOURS))


def _unnamed(rng: np.random.Generator, mix: Mix, placed: Sequence[Placed]) -> Ground:
    """A ground that the caption does not name, tried until the things show on it."""
    ground = plain(WHITE)
    for _ in range(6):
        chance = rng.random() * (mix.white + mix.pastel + mix.wall + mix.fade)
        if (chance := chance - mix.white) < 0:
            ground = plain(WHITE)
        elif (chance := chance - mix.pastel) < 0:
            ground = plain(_pick(rng, PASTELS))
        elif (chance := chance - mix.wall) < 0:
            ground = Ground(top=_pick(rng, PASTELS), bottom=_pick(rng, FLOORS), horizon=_between(rng, 18, 24))
        else:
            ground = Ground(top=_pick(rng, PASTELS), bottom=_pick(rng, PASTELS))
        if _shows(placed, ground.colours):
            break
    return ground


_GREY: Final = ("pencil sketch", "black and white")
"""Styles without colours to name."""


def _ground(rng: np.random.Generator, mix: Mix, style: str, placed: Sequence[Placed]) -> tuple[Ground, str, str]:
    """The ground, its class, and how the caption names it."""
    if style == "line drawing":
        return plain(WHITE if rng.random() < 0.75 else _pick(rng, PASTELS)), NAMES[0], ""
    chance = rng.random()
    if style == "silhouette":
        # A black shape shows on what is light.
        if chance < mix.plain:
            name = _pick(rng, ("red", "orange", "yellow", "green", "pink", "white"))
            return plain(COLOURS[name]), name, _coloured(rng, name)
        return (plain(WHITE) if chance < 0.6 else plain(_pick(rng, PASTELS))), NAMES[0], ""
    if chance < mix.place:
        place = _pick(rng, PLACES)
        ground = Ground(place=place, variant=_between(rng, 0, VARIANTS - 1))
        return ground, place, f" {_pick(rng, captions.PLACE_PHRASES[place])}"
    if style == "sticker":
        # Its white border shows on a colour.
        name = _pick(rng, [one for one in COLOURS if one != "white"])
        if chance < mix.place + mix.plain:
            return plain(COLOURS[name]), name, _coloured(rng, name)
        return plain(_pick(rng, FLOORS)), NAMES[0], ""
    if chance < mix.place + mix.plain and style not in _GREY:
        name = _named(rng, placed)
        return plain(COLOURS[name]), name, _coloured(rng, name)
    return _unnamed(rng, mix, placed), NAMES[0], ""


def _coloured(rng: np.random.Generator, name: str) -> str:
    return _pick(rng, words.PLAIN_GROUND).format(name, a=article(name))


def sample_scene(rng: np.random.Generator, mix: Mix) -> Scene:
    """Draw one scene; the generator decides everything."""
    style = _pick(rng, STYLES[1:]) if rng.random() < mix.style else STYLES[0]
    subject = _subject(rng, mix, style)
    ground, background, place = _ground(rng, mix, style, subject.placed)
    phrase = subject.phrase + place
    if style != STYLES[0]:
        caption = captions.styled(_pick(rng, STYLE_PHRASES[style]), subject.phrase, place)
    elif phrase.startswith(words.OPENED):
        caption = _pick(rng, words.OPENINGS) + phrase
    else:
        caption = phrase
    if rng.random() < 0.03:
        caption += "."
    return Scene(
        caption=caption,
        arrangement=subject.arrangement,
        placed=subject.placed,
        ground=ground,
        background=background,
        style=style,
    )


def another(rng: np.random.Generator, caption: str, thing: int, background: str) -> Scene:
    """A scene of one thing of which nothing else is said, on a named colour or, where it is unnamed, on any ground."""
    drawn = Drawn(thing, _pick(rng, _looks(thing, STYLES[0], False)))
    alone = _centred(drawn, _pick(rng, USUAL), _between(rng, -4, 4), _between(rng, -2, 4))
    placed = _dyed(rng, _faced(rng, (alone,), False))
    ground = plain(COLOURS[background]) if background != NAMES[0] else _unnamed(rng, Mix(), placed)
    return Scene(
        caption=caption, arrangement="single", placed=placed, ground=ground, background=background, style=STYLES[0]
    )


# --- drawing -----------------------------------------------------------------------------------------------------


def _average(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Box average of a square picture down to ``size``, rounded half up."""
    factor = pixels.shape[0] // size
    total = pixels.reshape(size, factor, size, factor, 3).sum(axis=(1, 3), dtype=np.uint32)
    average: NDArray[np.uint8] = ((total + factor * factor // 2) // (factor * factor)).astype(np.uint8)
    return average


def _pasted(canvas: NDArray[np.uint8], colour: NDArray[np.uint8], clear: NDArray[np.uint8], x: int, y: int) -> None:
    """Paint on the canvas; what reaches over its edge is cut."""
    size = canvas.shape[0]
    height, width = colour.shape[:2]
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = min(height, size - y), min(width, size - x)
    rows, columns = slice(y + top, y + bottom), slice(x + left, x + right)
    behind = canvas[rows, columns].astype(np.uint16) * clear[top:bottom, left:right]
    canvas[rows, columns] = colour[top:bottom, left:right] + ((behind + 127) // 255).astype(np.uint8)


def _composite(scene: Scene, size: int) -> NDArray[np.uint8]:
    unit = size // GRID
    canvas = grounds.drawn(scene.ground, size)
    if scene.style == "pencil sketch":
        # Nights are dark lines on paper, too, and the ground is drawn fainter than the things.
        ground = 255 - canvas if canvas.mean() < 80 else canvas
        canvas = 255 - (255 - ground) // 3
    for one in scene.placed:
        width, height = one.width * unit, one.height * unit
        ink = None if one.ink is None else COLOURS[one.ink]
        drawn = sprite(one.drawn, width, height, ink=ink, hue=one.hue, mirrored=one.mirrored)
        colour = drawn.colour
        if scene.style == "sticker":
            paper = outline(one.drawn, width, height, unit)
            paper = paper[:, ::-1] if one.mirrored else paper
            _pasted(canvas, paper.repeat(3, axis=-1), 255 - paper, one.x * unit - unit, one.y * unit - unit)
        elif scene.style == "silhouette":
            colour = np.full_like(colour, 0)
        elif scene.style == "pencil sketch":
            colour = (colour.astype(np.uint16) * 215 // 255).astype(np.uint8)  # white things are off-white on paper
        _pasted(canvas, colour, drawn.clear, one.x * unit, one.y * unit)
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
    pencil = (0.1 + 0.9 * lines**3) * (0.8 + 0.2 * luma / 255)
    return (paper * pencil[..., None]).astype(np.uint8)


PIXELS: Final = 16
"""How many blocks pixel art has on a side."""


def _pixel_art(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Sixteen by sixteen blocks of six levels a channel."""
    small = _average(pixels, PIXELS).astype(np.uint16)
    blocks = ((small + 25) // 51 * 51).astype(np.uint8)
    factor = pixels.shape[0] // PIXELS
    return blocks.repeat(factor, axis=0).repeat(factor, axis=1)


_FILTERS: Final[dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]] = {
    "pencil sketch": _sketch,
    "pixel art": _pixel_art,
    "black and white": _grey,
}


def render(scene: Scene, size: int) -> NDArray[np.uint8]:
    """Draw the scene as uint8 RGB [size, size, 3].

    size: one of ``SIZES``. 32 px are the box average of the 64 px picture, as an upsampler's training pairs must be.
    Raises ValueError on any other size.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {SIZES}, not {size}")
    if size < 64:
        return _average(render(scene, 64), size)
    canvas = _composite(scene, size)
    return _FILTERS[scene.style](canvas) if scene.style in _FILTERS else canvas
