"""What stands behind the things: plain colours and seven small painted places.

Places are painted on the picture's 16 x 16 base grid (every coordinate below is in base pixels), with shapes of about a
base pixel or more, so that they still read at 16 px, and with round and slanted edges that look right at 256 px.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from dallecli.training.world.sprites import Colour

GRID = 16
MASTER = 256  # smaller sizes are box averages of this one
OVERSAMPLE = 4
VARIANTS = 2

COLOURS: dict[str, Colour] = {
    "red": (222, 40, 40),
    "orange": (245, 130, 32),
    "yellow": (250, 214, 50),
    "green": (52, 168, 83),
    "blue": (40, 98, 224),
    "purple": (136, 66, 190),
    "pink": (245, 130, 180),
    "white": (255, 255, 255),
    "gray": (140, 140, 140),
    "black": (20, 20, 20),
}
PASTELS: dict[str, Colour] = {
    "pale blue": (205, 228, 245),
    "pale rose": (250, 214, 211),
    "pale green": (208, 240, 214),
    "pale yellow": (252, 241, 196),
    "pale violet": (228, 214, 240),
    "pale gray": (226, 229, 232),
}
UNNAMED_WHITE = "unnamed white"

Points = list[tuple[float, float]]


class Brush:
    """Draws on an oversampled canvas in base-pixel coordinates."""

    __slots__ = ("_draw", "image")

    def __init__(self, top: Colour, bottom: Colour) -> None:
        size = MASTER * OVERSAMPLE
        fade = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
        sky = np.asarray(top, np.float32) * (1 - fade) + np.asarray(bottom, np.float32) * fade
        self.image = Image.fromarray(np.broadcast_to(sky.round().astype(np.uint8), (size, size, 3)).copy())
        self._draw = ImageDraw.Draw(self.image)

    def _scaled(self, points: Points) -> Points:
        unit = MASTER * OVERSAMPLE / GRID
        return [(x * unit, y * unit) for x, y in points]

    def area(self, points: Points, colour: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(self._scaled(points), fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle, right and bottom exclusive."""
        self.area([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A filled ellipse about its centre."""
        self._draw.ellipse(self._scaled([(x - rx, y - ry), (x + rx, y + ry)]), fill=colour)

    def dot(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle about its centre."""
        self.oval(x, y, radius, radius, colour)

    def wave(self, level: float, height: float, length: float, shift: float, colour: Colour) -> None:
        """Everything below a sine line."""
        line = [
            (x / 8, level + height * float(np.sin((x / 8 + shift) * 2 * np.pi / length))) for x in range(GRID * 8 + 1)
        ]
        self.area([*line, (GRID, GRID), (0, GRID)], colour)


def _space(variant: int) -> Brush:
    brush = Brush((8, 8, 34), (44, 22, 84))
    stars: Points = [
        (1.5, 2.5),
        (4.5, 0.5),
        (8.5, 1.5),
        (0.5, 7.5),
        (15.5, 8.5),
        (14.5, 13.5),
        (1.5, 12.5),
        (6.5, 15.5),
    ]
    for place, (x, y) in enumerate(stars):
        brush.dot(x if variant == 0 else GRID - x, y, 0.48 if place % 2 else 0.36, (255, 250, 225))
    for x, y in [(3, 5), (11, 0.9), (13, 6.5), (2.5, 9.8), (12, 15), (9.5, 14.6), (15, 11), (0.8, 15)]:
        brush.dot(x if variant == 0 else GRID - x, y, 0.14, (190, 190, 255))
    if variant == 0:
        brush.oval(13.2, 2.8, 3.1, 0.75, (236, 200, 120))
        brush.dot(13.2, 2.6, 1.6, (222, 130, 70))
        brush.oval(13.2, 2.2, 1.4, 0.3, (240, 165, 100))
    else:
        brush.dot(2.2, 2.4, 1.7, (205, 205, 215))
        for x, y, radius in [(1.7, 1.9, 0.4), (2.8, 2.9, 0.5), (2.7, 1.4, 0.25)]:
            brush.dot(x, y, radius, (165, 165, 180))
    return brush


def _pine(brush: Brush, x: float, foot: float, height: float, colour: Colour) -> None:
    brush.box(x - 0.25, foot - 1, x + 0.25, foot, (92, 62, 40))
    for tier in range(3):
        top = foot - 0.8 - height + tier * height * 0.26
        half, low = 0.9 + tier * 0.5, top + height * 0.48
        brush.area([(x, top), (x + half, low), (x - half, low)], colour)


def _forest(variant: int) -> Brush:
    brush = Brush((196, 226, 190), (150, 200, 140))
    brush.wave(11.5, 0.4, 9, 2.0 * variant, (70, 128, 62))
    far = [(1.2, 7.5), (4.2, 9.0), (7.4, 8.0), (10.4, 9.5), (13.0, 8.2), (15.2, 7.6)]
    for x, height in far:
        _pine(brush, x if variant == 0 else GRID - x, 12.0, height, (62, 120, 70))
    for x, height in [(0.6, 10.5), (15.3, 11.5)] if variant == 0 else [(0.9, 12.0), (15.0, 9.5)]:
        _pine(brush, x, 13.6, height, (30, 84, 48))
    brush.wave(13.4, 0.25, 7, 1.0 + variant, (56, 108, 48))
    return brush


def _cloud(brush: Brush, x: float, y: float) -> None:
    for dx, dy, radius in [(-1.1, 0.1, 0.6), (0, -0.2, 0.9), (1.1, 0.1, 0.65)]:
        brush.dot(x + dx, y + dy, radius, (255, 255, 255))


def _beach(variant: int) -> Brush:
    brush = Brush((92, 178, 240), (190, 232, 250))
    _cloud(brush, 3.0 if variant == 0 else 12.8, 2.2)
    _cloud(brush, 12.5 if variant == 0 else 4.5, 3.8 if variant == 0 else 1.4)
    brush.box(0, 7, GRID, GRID, (28, 124, 190))
    brush.box(0, 8.6, GRID, GRID, (44, 160, 205))
    brush.wave(10.6, 0.35, 8, 3.0 * variant, (238, 250, 250))
    brush.wave(11.1, 0.35, 8, 3.0 * variant, (240, 212, 150))
    brush.wave(14.2, 0.3, 11, 2.0 + variant, (230, 196, 128))
    return brush


def _times_square(variant: int) -> Brush:
    brush = Brush((16, 14, 48), (62, 40, 96))
    blocks = [(0, 3.0, 3.6), (3.6, 5.0, 2.4), (6, 6.6, 1.6), (8.8, 6.0, 1.7), (10.5, 4.2, 2.1), (12.6, 2.2, 3.4)]
    boards: list[Colour] = [
        (255, 60, 150),
        (40, 220, 240),
        (255, 220, 60),
        (255, 90, 50),
        (90, 240, 130),
        (250, 250, 255),
    ]
    for place, (left, top, width) in enumerate(blocks):
        shade: Colour = (36, 32, 60) if place % 2 else (50, 44, 78)
        brush.box(left, top - variant * 0.6, left + width, 13, shade)
        row = top + 0.6
        for floor in range(4):
            lit = boards[(place * 2 + floor * 3 + variant * 2) % len(boards)]
            tall = 1.9 if (place + floor) % 2 else 1.2
            if row + tall < 12.4:
                brush.box(left + 0.3, row, left + width - 0.3, row + tall, lit)
                brush.box(left + 0.6, row + tall * 0.4, left + width - 0.6, row + tall * 0.6, (30, 26, 54))
            row += tall + 0.7
    brush.box(0, 12.8, GRID, GRID, (48, 48, 56))
    for x in range(-1, 17, 3):
        brush.area([(x, 14.7), (x + 1.5, 14.7), (x + 1.3, 15.1), (x - 0.2, 15.1)], (240, 200, 60))
    return brush


def _snow(variant: int) -> Brush:
    brush = Brush((112, 158, 206), (178, 208, 234))
    brush.wave(10.4, 0.7, 17, 3.0 + 8 * variant, (214, 228, 242))
    for x, height in [(1.4, 5.5), (14.4, 6.8)] if variant == 0 else [(1.0, 7.0), (12.8, 4.8), (15.2, 5.8)]:
        _pine(brush, x, 11.6, height, (70, 118, 116))
    brush.wave(12.0, 0.5, 13, 5.0 * variant, (246, 250, 255))
    flakes: Points = [
        (1, 1.4),
        (4.4, 2.6),
        (7.4, 0.8),
        (10.6, 2.4),
        (13.6, 1.2),
        (2.6, 6.2),
        (15.2, 5.2),
        (12.4, 7.4),
        (0.6, 9.2),
    ]
    for place, (x, y) in enumerate([*flakes, (5.8, 8.4), (9.4, 6.0), (15.4, 9.6), (6.6, 4.8)]):
        brush.dot(x if variant == 0 else GRID - x, y, 0.42 if place % 3 else 0.3, (255, 255, 255))
    return brush


def _sea(variant: int) -> Brush:
    brush = Brush((64, 196, 224), (10, 62, 132))
    for x in (2.0, 7.0, 12.0) if variant == 0 else (4.0, 9.5, 14.5):
        ray: Colour = (96, 212, 234)
        brush.area([(x, 0), (x + 1.5, 0), (x, 5.5), (x - 1.6, 5.5)], ray)
    brush.wave(14.0, 0.35, 10, 4.0 * variant, (206, 184, 122))
    for x, height in [(0.9, 6.5), (2.3, 4.0), (14.8, 7.0)] if variant == 0 else [(1.2, 5.0), (13.6, 4.5), (15.2, 7.5)]:
        for level in range(int(height * 4)):
            sway = 0.35 * float(np.sin(level / 3))
            brush.dot(x + sway, 14.6 - level / 4, 0.36, (32, 138, 84))
    bubbles = [
        (3.2, 3.4, 0.45),
        (2.2, 6.0, 0.3),
        (13.2, 2.4, 0.5),
        (14.2, 5.2, 0.35),
        (8.4, 1.4, 0.35),
        (12.8, 9.0, 0.3),
    ]
    for x, y, radius in bubbles:
        brush.dot(x if variant == 0 else GRID - x, y, radius, (190, 240, 250))
        brush.dot(x if variant == 0 else GRID - x, y, radius * 0.6, (110, 206, 232))
    return brush


def _living_room(variant: int) -> Brush:
    wall: Colour = (246, 222, 186) if variant == 0 else (196, 220, 214)
    brush = Brush(wall, wall)
    floor: Colour = (176, 118, 74) if variant == 0 else (150, 104, 78)
    brush.box(0, 11, GRID, GRID, floor)
    for level in (12.2, 13.6, 15.0):
        brush.box(0, level, GRID, level + 0.12, (132, 86, 54))
    brush.box(0, 10.5, GRID, 11, (252, 246, 236))
    left = 1.0 if variant == 0 else 10.6
    brush.box(left, 1.4, left + 4.4, 6.6, (250, 250, 250))
    brush.box(left + 0.4, 1.8, left + 4.0, 6.2, (128, 200, 244))
    brush.box(left + 2.0, 1.8, left + 2.4, 6.2, (250, 250, 250))
    brush.box(left + 0.4, 3.8, left + 4.0, 4.2, (250, 250, 250))
    right = 11.4 if variant == 0 else 1.6
    brush.box(right, 2.0, right + 3.2, 4.8, (120, 78, 48))
    brush.box(right + 0.4, 2.4, right + 2.8, 4.4, (240, 196, 92) if variant == 0 else (226, 130, 110))
    brush.oval(8, 14.2, 6.6, 1.3, (196, 72, 72) if variant == 0 else (78, 110, 168))
    brush.oval(8, 14.2, 5.2, 0.9, (226, 132, 110) if variant == 0 else (132, 160, 206))
    return brush


_PLACES: dict[str, Callable[[int], Brush]] = {
    "space": _space,
    "forest": _forest,
    "beach": _beach,
    "times square": _times_square,
    "snow": _snow,
    "sea": _sea,
    "living room": _living_room,
}
PLACES = tuple(_PLACES)


def paint(place: str, variant: int) -> Brush:
    """One of a place's two paintings at full size."""
    return _PLACES[place](variant)


NAMES = ("unnamed", *COLOURS, *PLACES)
"""Background classes in label order; class 0 is a background that the caption does not name."""


@lru_cache(maxsize=256)
def backdrop(name: str, variant: int, size: int) -> NDArray[np.uint8]:
    """A read-only uint8 [size, size, 3] picture of a plain colour or a place.

    name: a key of ``COLOURS`` or ``PASTELS``, ``UNNAMED_WHITE``, or one of ``PLACES``; variant: 0 or 1, which of a
    place's two paintings; size: a divisor of 256.
    """
    if name in _PLACES:
        master = paint(name, variant).image
        pixels = np.asarray(master.reduce(master.width // size))
    else:
        flat = COLOURS["white"] if name == UNNAMED_WHITE else {**COLOURS, **PASTELS}[name]
        pixels = np.broadcast_to(np.asarray(flat, np.uint8), (size, size, 3)).copy()
    pixels.flags.writeable = False
    return pixels
