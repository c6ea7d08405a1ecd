"""Which size a model paints for the size that is asked for, and what is cut out of that.

Networks without places paint pictures of other proportions than they were trained on: of any size where they paint
latents, of sizes on a grid where they paint pixels, with about as many pixels as they know. Other models paint squares,
of which the middle is kept.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dallecli.errors import BadSize
from dallecli.size import Proportions, Size

Asked = Size | Proportions | int | None
"""A size as it is asked for: a number is the side of a square, None is the model's own."""


class Sized(Protocol):
    """What is known of the sizes that a model paints.

    sizes: sides in pixels, ascending; the last is that of the square that it paints by itself. largest: where it is
    given, any size up to that many pixels a side can be painted. grids: for each of the `sizes`, what the sides of a
    picture that is painted in its place are multiples of; empty where nothing but squares is painted.
    """

    @property
    def name(self) -> str: ...
    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def largest(self) -> int | None: ...
    @property
    def grids(self) -> tuple[int, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What is painted for a size. crop: the middle of it that is kept, None for all. warning: what to say of it."""

    size: Size
    crop: Size | None = None
    warning: str | None = None


def settle_size(asked: Asked, model: Sized) -> Sizing:
    """What a model paints for a size. Raises BadSize for one that it cannot paint."""
    own = model.sizes[-1]
    if isinstance(asked, int):
        asked = Size.square(asked)
    if asked is None or (isinstance(asked, Proportions) and asked.is_square):
        asked = Size.square(own)
    if model.largest is not None:
        return _any(asked, model, model.largest)
    if isinstance(asked, Size) and asked.is_square:
        if asked.width not in model.sizes:
            raise BadSize(f"{model.name} does not paint {asked.width} pixels", hint=f"it paints {_sides(model)}")
        return Sizing(size=asked)
    if model.grids:
        return _on_grid(asked, model)
    return _cut(asked, model)


def settle_whole(asked: Asked, model: Sized) -> Size:
    """What a model paints for a size of which nothing is cut out. Raises BadSize for any other."""
    found = settle_size(asked, model)
    if found.crop is not None:
        what = f"{model.name} paints {found.crop} pixels as a part of {found.size} only"
        raise BadSize(what, hint=f"--size {found.size.stated}")
    return found.size


def own_side(size: Size, sizes: Sequence[int]) -> int:
    """The side of the square, of those that a model paints, in whose place a picture of this size is painted."""
    return min(sizes, key=lambda side: abs(math.log(size.pixels / side**2)))


def in_proportion(sides: Mapping[str, int], size: Size) -> dict[str, Size]:
    """The size of each stage's picture, in the proportions of `size`, which is that of the last.

    `sides` are those of the squares that the stages were made for.
    """
    last = list(sides.values())[-1]
    return {stage: size.scaled(side, last) for stage, side in sides.items()}


def _any(asked: Size | Proportions, model: Sized, largest: int) -> Sizing:
    """Latents: they are painted on a grid, too, and the pipeline keeps the middle itself."""
    size = asked.of_area(model.sizes[-1]) if isinstance(asked, Proportions) else asked
    if size.longer > largest:
        raise BadSize(f"{model.name} does not paint {size.stated} pixels", hint=f"it paints up to {largest}")
    return Sizing(size=size)


def _on_grid(asked: Size | Proportions, model: Sized) -> Sizing:
    """A cascade: all its stages keep the proportions, so that the sides are multiples of a grid."""
    if isinstance(asked, Proportions):
        found = _of_proportions(asked, model)
        if found is None:
            raise BadSize(f"{model.name} does not paint {asked}", hint="proportions nearer to a square")
        return found
    for side, grid in zip(model.sizes, model.grids, strict=True):
        size = asked.rounded_up(grid)
        if _known(size, side) and own_side(size, model.sizes) == side:
            return Sizing(size=size, crop=None if size == asked else asked)
    what = f"{model.name} does not paint {asked} pixels"
    raise BadSize(
        what, hint=f"it paints squares of {_sides(model)}, others of about as many pixels{_instead(asked, model)}"
    )


def _of_proportions(asked: Proportions, model: Sized) -> Sizing | None:
    """The best size of these proportions: most of what is painted is kept, and about as much as the model knows."""
    side, grid = model.sizes[-1], model.grids[-1]

    def lost(painted: Size) -> float:
        kept = asked.inside(painted).pixels
        return math.log(painted.pixels / kept) + abs(math.log(kept / side**2)) / 2

    size = min(_rectangles(side, grid), key=lost)
    crop = asked.inside(size)
    if crop.pixels * 2 < size.pixels:
        return None
    return Sizing(size=size, crop=None if crop == size else crop)


def _rectangles(side: int, grid: int) -> Iterator[Size]:
    """All sizes on a grid with about as many pixels as a square of this side, which is one of them."""
    yield Size.square(side)
    for width in range(grid, 2 * side**2 // grid + 1, grid):
        for height in range(grid, 2 * side**2 // width + 1, grid):
            size = Size(width, height)
            if not size.is_square and _known(size, side):
                yield size


def _known(size: Size, side: int) -> bool:
    """Whether a size has about as many pixels as the square that the networks know: half to twice as many."""
    return side**2 <= 2 * size.pixels <= 4 * side**2


def _cut(asked: Size | Proportions, model: Sized) -> Sizing:
    """Nothing but squares is painted: of one the middle is kept. It is never enlarged."""
    if isinstance(asked, Proportions):
        square = Size.square(model.sizes[-1])
        crop = asked.inside(square)
    elif asked.longer in model.sizes:
        square, crop = Size.square(asked.longer), asked
    else:
        what = f"{model.name} does not paint {asked} pixels"
        raise BadSize(what, hint=f"it paints squares of {_sides(model)} and cuts others out{_instead(asked, model)}")
    return Sizing(size=square, crop=crop, warning=f"{model.name} paints squares: of {square} the middle {crop} is kept")


def _instead(asked: Size, model: Sized) -> str:
    """A size of about the same proportions that a model has, in words; "" if there is none."""
    try:
        found = settle_size(Proportions(asked.width, asked.height), model)
    except (ValueError, BadSize):
        return ""
    size = found.crop if found.crop is not None else found.size
    return f": --size {size.stated}"


def _sides(model: Sized) -> str:
    return ", ".join(map(str, model.sizes))
