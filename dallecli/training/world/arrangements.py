"""How things are arranged in a scene: what may meet, where each stands, and what is painted first.

Shared by the worlds, whose grids differ. Places and sizes are whole base pixels, so that a thing looks the same
wherever it stands. And where a thing stands does not depend on what it stands with, so that what is known of one pair
is of use in another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeVar
from zlib import crc32

from dallecli.training.world.world import Order

Arrangement = Literal["single", "count", "riding", "on", "wearing", "under", "beside", "left of"]
Split = Literal["train", "held_out", "any"]
Pair = tuple[int, Arrangement, int]
"""The class index of who rides, sits, wears, shelters or is named first; how; and that of the other."""
Fraction2 = tuple[float, float]
T = TypeVar("T")

CARRYING: Final = ("riding", "on", "under")
"""Where the second thing (the mount, the seat, the shelter) is behind the first, and so is painted before it."""

UNITS: Final = 16
"""The side of a picture in the units of this file."""
CARRIED: Final = 10
"""The row on which riders' feet stand."""
BODY: Final = 10
"""The size of who wears or shelters."""
LINE: Final = 13
"""The line on which neighbours stand."""


def is_held_out(first: str, relation: Arrangement, second: str) -> bool:
    """Whether this pair never occurs in training scenes: one pair in twenty, by a checksum of names and relation.

    ``beside`` looks the same both ways and is filed in alphabetical order; "right of" is filed as ``left of``.
    """
    if relation == "beside":
        first, second = sorted((first, second))
    return crc32(f"{first}|{relation}|{second}".encode()) % 20 == 0


def order_of(arrangement: Arrangement, painted: Sequence[int]) -> Order | None:
    """How two different things stand in an arrangement, given in painting order; None where it does not say."""
    if len(set(painted)) != 2:
        return None
    first, second = painted
    match arrangement:
        case "left of":
            return first, second, "x"
        case "riding" | "on" | "wearing":  # the mount, the seat or the wearer is painted first
            return second, first, "y"
        case "under":
            return first, second, "y"
        case _:
            return None


def in_painting_order(relation: Arrangement, pair: tuple[T, T]) -> tuple[T, T]:
    """The two of a `Pair` as they are painted, what is behind first."""
    first, second = pair
    return (second, first) if relation in CARRYING else (first, second)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a layout must know of a drawing.

    aspect: width over height; head: where a crown's foot sits, None if it has no head; saddle: where a rider's feet
    are; both as fractions from the top left. boarded: whether riders are inside it, and not on it.
    """

    aspect: float
    head: Fraction2 | None
    saddle: Fraction2
    boarded: bool


class Box(NamedTuple):
    """Left, top, width and height in base pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Places on a square grid of `grid` base pixels, a multiple of `UNITS`."""

    grid: int

    @property
    def _unit(self) -> int:
        return self.grid // UNITS

    def single(self, figure: Figure, size: int, right: int = 0, down: int = 0) -> Box:
        """One thing in the middle, its longest side `size` base pixels, moved by base pixels."""
        width, height = fit(figure, size, size)
        return self._box((self.grid - width) // 2 + right, (self.grid - height) // 2 + down, width, height)

    def aside(self, figure: Figure, right: bool, down: int = 0) -> Box:
        """One thing at the left or the right edge."""
        width, height = self._fit(figure, 9, 12)
        return self._box(self.grid - width if right else 0, (self.grid - height) // 2 + down, width, height)

    def group(self, figure: Figure, count: int) -> tuple[Box, ...]:
        """Two side by side, three in a triangle: a triangle leaves each of them seven units, a row only five."""
        width, height = self._fit(figure, 7, 10 if count == 2 else 7)
        half, middle = self.grid // 2, (self.grid - height) // 2
        left, right = (half - width) // 2, self.grid - width - (half - width) // 2
        corners = [(left, middle), (right, middle)]
        if count == 3:
            low = 9 * self._unit
            corners = [((self.grid - width) // 2, (half - height) // 2), (left, low), (right, low)]
        return tuple(self._box(x, y, width, height) for x, y in corners)

    def pair(self, relation: Arrangement, first: Figure, second: Figure) -> tuple[Box, Box]:
        """The boxes of the first and the second thing of a `Pair`. Raises ValueError if it is none of two things."""
        match relation:
            case "riding" if second.boarded:  # a big rider would hide the sail or the wings
                return self._stacked(first, second, 7, (14, 13))
            case "riding":
                return self._stacked(first, second, 9, (12, 10))
            case "on":
                return self._stacked(first, second, 9 if first.head else 7, (13, 9))
            case "wearing":
                return self._crowned(first, second)
            case "under":
                width, height = self._fit(second, 14, 13)
                return self._body(first), self._box((self.grid - width) // 2, 0, width, height)
            case "beside" | "left of":
                return self._neighbours(first, second)
            case _:
                raise ValueError(f"no two things are arranged as {relation!r}")

    def _stacked(self, top: Figure, below: Figure, top_size: int, below_box: tuple[int, int]) -> tuple[Box, Box]:
        """One thing upon another's saddle, which is always in the same place.

        So neither thing's place depends on the other: who rides a car stands where who rides a horse does.
        """
        saddle_x, saddle_y = below.saddle
        carried = CARRIED * self._unit
        lowest = math.floor((self.grid - carried) / (1 - saddle_y))  # what is left of it below the saddle must fit
        base_width, base_height = fit(below, below_box[0] * self._unit, min(below_box[1] * self._unit, lowest))
        sink = max(1, round(saddle_y * base_height))  # how far the upper thing's feet reach into the lower one
        width, height = self._fit(top, top_size, top_size)
        return (
            self._box((self.grid - width) // 2, carried - height, width, height),
            self._box(self.grid / 2 - saddle_x * base_width, carried - sink, base_width, base_height),
        )

    def _body(self, figure: Figure) -> Box:
        """Who wears or shelters, on the ground in the middle."""
        width, height = self._fit(figure, BODY, BODY)
        return self._box((self.grid - width) // 2, self.grid - height, width, height)

    def _crowned(self, wearer: Figure, crown: Figure) -> tuple[Box, Box]:
        head_x, head_y = wearer.head or (0.5, 0.0)
        body = self._body(wearer)
        width, height = self._fit(crown, 6, 6)
        x, y = body.x + head_x * body.width - width / 2, body.y + round(head_y * body.height) - height
        return body, self._box(x, y, width, height)

    def _neighbours(self, left: Figure, right: Figure) -> tuple[Box, Box]:
        """Both in half the picture, standing on one line."""
        half, line = self.grid // 2, LINE * self._unit
        (w1, h1), (w2, h2) = (self._fit(figure, 8, 10) for figure in (left, right))
        return (
            self._box((half - w1) // 2, line - h1, w1, h1),
            self._box(self.grid - w2 - (half - w2) // 2, line - h2, w2, h2),
        )

    def _fit(self, figure: Figure, width: int, height: int) -> tuple[int, int]:
        return fit(figure, width * self._unit, height * self._unit)

    def _box(self, x: float, y: float, width: int, height: int) -> Box:
        """The whole pixel nearest to a place, inside the picture."""
        left, top = (
            min(max(math.floor(position + 0.5), 0), self.grid - extent)
            for position, extent in ((x, width), (y, height))
        )
        return Box(left, top, width, height)


def fit(figure: Figure, width: int, height: int) -> tuple[int, int]:
    """The largest whole-pixel size of the figure's own shape inside a box of base pixels."""
    if figure.aspect * height >= width:
        return width, min(height, max(1, round(width / figure.aspect)))
    return min(width, max(1, round(height * figure.aspect))), height
