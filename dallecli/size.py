"""How large a picture is: its width and height in pixels; or its proportions, of which a model chooses the size.

A size is written 512 for a square, and 1024x576 else; proportions are written 16:9. One reader knows all three.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

_WRITTEN: Final = re.compile(r"\s*(?P<width>\d{1,6})\s*(?:(?P<between>[xX×:])\s*(?P<height>\d{1,6}))?\s*")

MOST_STRETCHED: Final = 20
"""How many times as long as the other a side may be in proportions that are asked for."""

HOW: Final = "pixels as 512 or 1024x576, or proportions as 16:9"
"""How sizes are written, for hints."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels, both 1 or more. Raises ValueError for others."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.width, self.height) < 1:
            raise ValueError(f"a picture cannot have {self} pixels")

    @classmethod
    def square(cls, side: int) -> Self:
        """A square."""
        return cls(side, side)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def is_square(self) -> bool:
        return self.width == self.height

    @property
    def longer(self) -> int:
        """The longer side."""
        return max(self.width, self.height)

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.width * self.height

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, as tensors have them."""
        return self.height, self.width

    @property
    def stated(self) -> int | str:
        """As files and command lines state it: the side of a square, else both sides."""
        return self.width if self.is_square else str(self)

    def holds(self, other: "Size") -> bool:
        """Whether the other one can be cut out of it."""
        return other.width <= self.width and other.height <= self.height

    def scaled(self, to: int, of: int) -> "Size":
        """A size in which `to` pixels stand for every `of`; rounded down, and at least one."""
        return Size(max(1, self.width * to // of), max(1, self.height * to // of))

    def rounded_up(self, grid: int) -> "Size":
        """The size whose sides are the next multiples of `grid`."""
        return Size(-(-self.width // grid) * grid, -(-self.height // grid) * grid)


@dataclass(frozen=True, slots=True)
class Proportions:
    """How many pixels of width there are for so many of height. Raises ValueError for those that no picture has."""

    width: int
    height: int

    def __post_init__(self) -> None:
        low, high = sorted((self.width, self.height))
        if low < 1 or high > MOST_STRETCHED * low:
            raise ValueError(f"a picture cannot have the proportions {self}")

    def __str__(self) -> str:
        return f"{self.width}:{self.height}"

    @property
    def is_square(self) -> bool:
        return self.width == self.height

    def of_area(self, side: int) -> Size:
        """The size with as many pixels as a square of this side, about: even numbers of them."""
        ratio = (self.width / self.height) ** 0.5
        return self._even(side * ratio, side / ratio)

    def inside(self, size: Size) -> Size:
        """The largest size within another one: one side is the same, the other one is even."""
        if size.width * self.height <= size.height * self.width:
            return Size(size.width, min(size.height, self._even(0, size.width * self.height / self.width).height))
        return Size(min(size.width, self._even(size.height * self.width / self.height, 0).width), size.height)

    @staticmethod
    def _even(width: float, height: float) -> Size:
        return Size(max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2)))


def read_size(text: str) -> Size | Proportions:
    """What "512", "1024x576" or "16:9" means. Raises ValueError for anything else."""
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    width = int(match["width"])
    height = width if match["height"] is None else int(match["height"])
    return Proportions(width, height) if match["between"] == ":" else Size(width, height)
