"""What stands behind the things: plain colours, soft fades, a wall and its floor, and ten painted places.

What the caption does not name is drawn at random, so that two pictures of one caption differ; what it names is exact.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from dallecli.training.world.backdrops import COLOURS, Brush, Points
from dallecli.training.world.backdrops import GRID as BRUSH_GRID
from dallecli.training.world.backdrops import PLACES as FIRST_PLACES
from dallecli.training.world.backdrops import paint as paint_first
from dallecli.training.world.sprites import Colour

GRID: Final = 32
"""The side of a picture in base pixels: those that the decoder paints."""
WHITE: Final[Colour] = (255, 255, 255)
VARIANTS: Final = 4
"""Of each place: two paintings, and both in the mirror."""


def _shade(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


PASTELS: Final[tuple[Colour, ...]] = (
    *(_shade(place / 12, depth, 0.97) for place in range(12) for depth in (0.1, 0.2)),
    (235, 235, 235),
    (214, 216, 220),
)
"""Pale grounds and walls that no caption names."""
FLOORS: Final[tuple[Colour, ...]] = (
    *(_shade(place / 12, 0.25, 0.8) for place in range(12)),
    (176, 118, 74),
    (150, 104, 78),
    (120, 124, 130),
)
"""What a wall may stand upon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A ground that can be drawn.

    place: one of ``PLACES``, in one of ``VARIANTS``, or "". Else it runs from the colour ``top`` to the colour
    ``bottom``: at once, ``horizon`` base pixels from the top, or, where that is 0, softly.
    """

    top: Colour = WHITE
    bottom: Colour = WHITE
    horizon: int = 0
    place: str = ""
    variant: int = 0

    @property
    def colours(self) -> tuple[Colour, ...]:
        """The colours in which a thing could drown; a place has none, or too many."""
        return () if self.place else (self.top, self.bottom)


def plain(colour: Colour) -> Ground:
    """A ground of one colour."""
    return Ground(top=colour, bottom=colour)


def _city_park(variant: int) -> Brush:
    brush = Brush((150, 206, 246), (214, 238, 250))
    towers = [(0.4, 4.5, 1.7), (2.3, 2.8, 1.5), (4.2, 5.2, 1.8), (10.2, 4.0, 1.6), (12.0, 2.2, 1.6), (13.9, 5.0, 1.8)]
    for place, (left, top, width) in enumerate(towers):
        x = left if variant == 0 else BRUSH_GRID - left - width
        brush.box(x, top, x + width, 10, (168, 180, 200) if place % 2 else (142, 156, 182))
        for row in range(3):
            brush.box(x + 0.35, top + 0.5 + row, x + width - 0.35, top + 0.9 + row, (226, 234, 244))
    brush.wave(9.4, 0.3, 9, 3.0 * variant, (84, 152, 76))
    for x, radius in [(1.6, 1.7), (14.4, 1.9), (5.0, 1.1)] if variant == 0 else [(2.4, 1.3), (14.0, 1.6), (11.2, 1.0)]:
        brush.box(x - 0.2, 8.6, x + 0.2, 10.6, (112, 76, 48))
        brush.dot(x, 8.2, radius, (58, 128, 62))
    brush.box(0, 10.4, BRUSH_GRID, BRUSH_GRID, (120, 188, 92))
    path: Points = [(6.6, 10.4), (9.0, 10.4), (13.2, 16), (3.2, 16)]
    brush.area(path if variant == 0 else [(x + 1.5, y) for x, y in path], (224, 208, 170))
    return brush


def _nebula(variant: int) -> Brush:
    brush = Brush((26, 10, 52), (10, 8, 34))
    clouds: list[tuple[float, float, float, float, Colour]] = [
        (4.0, 4.5, 5.2, 3.4, (86, 30, 112)),
        (11.5, 11.0, 5.4, 3.6, (30, 62, 132)),
        (5.5, 6.0, 3.8, 2.3, (156, 44, 140)),
        (11.0, 9.6, 3.8, 2.2, (44, 122, 176)),
        (6.6, 6.8, 2.3, 1.3, (232, 96, 160)),
        (10.0, 8.8, 2.2, 1.1, (110, 206, 220)),
    ]
    for x, y, rx, ry, colour in clouds:
        brush.oval(x if variant == 0 else y, y if variant == 0 else BRUSH_GRID - x, rx, ry, colour)
    stars: Points = [(1, 1.4), (3.4, 12.6), (8.2, 1.8), (14.6, 2.6), (13.2, 5.4), (1.2, 9.4), (8.8, 14.4), (15, 14.8)]
    for place, (x, y) in enumerate(stars):
        brush.dot(x, y if variant == 0 else BRUSH_GRID - y, 0.42 if place % 2 else 0.28, (255, 248, 230))
    return brush


def _desert(variant: int) -> Brush:
    brush = Brush((250, 196, 120), (254, 232, 180)) if variant == 0 else Brush((120, 190, 236), (236, 232, 206))
    brush.dot(13.0 if variant == 0 else 3.2, 3.0, 1.7, (255, 250, 220))
    brush.wave(9.6, 0.9, 18, 2.0 + 7 * variant, (232, 176, 104))
    brush.wave(11.0, 0.7, 13, 6.0 * variant, (220, 154, 82))
    for x, height in [(1.6, 4.2), (14.2, 3.2)] if variant == 0 else [(2.2, 3.4), (13.2, 4.4)]:
        brush.box(x - 0.4, 12.0 - height, x + 0.4, 12.2, (74, 130, 74))
        brush.box(x - 1.2, 10.2 - height / 3, x - 0.7, 11.2 - height / 4, (74, 130, 74))
        brush.box(x - 1.2, 10.8 - height / 4, x, 11.2 - height / 4, (74, 130, 74))
    brush.wave(13.2, 0.4, 10, 3.0 * variant, (240, 192, 122))
    return brush


_OWN: Final[dict[str, Callable[[int], Brush]]] = {"city park": _city_park, "nebula": _nebula, "desert": _desert}
PLACES: Final = (*FIRST_PLACES, *_OWN)
NAMES: Final = ("unnamed", *COLOURS, *PLACES)
"""Background classes in label order; class 0 is a background that the caption does not name."""


@lru_cache(maxsize=512)
def _place(name: str, variant: int, size: int) -> NDArray[np.uint8]:
    painting = variant % 2
    image = (_OWN[name](painting) if name in _OWN else paint_first(name, painting)).image
    if variant >= 2:
        image = ImageOps.mirror(image)
    pixels = np.asarray(image.reduce(image.width // size))
    pixels.flags.writeable = False
    return pixels


def drawn(ground: Ground, size: int) -> NDArray[np.uint8]:
    """A ground as a new uint8 picture [size, size, 3]; size: a multiple of GRID that divides 256."""
    if ground.place:
        return _place(ground.place, ground.variant, size).copy()
    pixels = np.empty((size, size, 3), dtype=np.uint8)
    if ground.horizon:
        edge = ground.horizon * size // GRID
        pixels[:edge], pixels[edge:] = ground.top, ground.bottom
    elif ground.top == ground.bottom:
        pixels[:] = ground.top
    else:
        share = (np.arange(size, dtype=np.float32) + 0.5)[:, None, None] / size
        top, bottom = np.asarray(ground.top, np.float32), np.asarray(ground.bottom, np.float32)
        pixels[:] = (top + (bottom - top) * share + 0.5).astype(np.uint8)
    return pixels
