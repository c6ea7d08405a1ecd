"""The canvas of an inpainting: a picture of any size, repainted square by square by a model of one size.

    layout = lay_out(image, mask, expand, size)
    canvas = layout.canvas
    for patch in layout.patches:
        known, hole = canvas.cut(patch, size)       what the model gets: squares of its own size
        canvas = canvas.paste(patch, painted)       what it made of them, back in the picture's own pixels

A hole is a mask that shrinks while the canvas is painted (mode "L", 255 where it is still to be painted). Every pixel
that was never part of it keeps its bytes; the soft seam lies inside it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from dallecli.errors import BadSetting
from dallecli.limits import PIXEL_LIMIT, SIDE_LIMIT
from dallecli.pictures.masks import draw
from dallecli.pictures.reading import read_picture
from dallecli.source import Source
from dallecli.tasks.mask import Edges, Mask

Area = tuple[int, int, int, int]
"""A rectangle as in Pillow: left, top, right and bottom; the last two are just outside."""

PATCH_LIMIT: Final = 16
"""The most squares of one canvas, each as costly as a picture. Where more are needed, larger, coarser ones are used."""

CONTEXT: Final = 1.5
"""The side of a square, as a multiple of the extent of what is repainted in it."""

LEAST_CONTEXT: Final = 1.125
"""The same, where the picture is too narrow for more."""

FEATHER: Final = 2
"""The width of the seam in pixels of the model, in which it hardly follows the border of the hole."""

BLUR: Final = 2.0
"""From this enlargement on, a warning explains why the new part is blurred."""

Floats = NDArray[np.floating[Any]]

_FILL_SIDE = 512
_CELLS = 64
_REGIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """A square of the canvas that is painted at once.

    It may reach beyond the canvas, where a picture is narrower than its hole is long.
    """

    left: int
    """In pixels of the canvas; may be negative, as may `top`."""
    top: int
    side: int
    core: Area
    """Only pixels of the hole within it are taken from what is painted."""

    @property
    def area(self) -> Area:
        return self.left, self.top, self.left + self.side, self.top + self.side


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A picture (mode "RGB") and the hole in it."""

    image: Image.Image
    hole: Image.Image

    def cut(self, patch: Patch, size: int) -> tuple[Image.Image, Image.Image]:
        """A patch as a picture and a hole of `size` x `size` pixels.

        The hole is filled smoothly from around it, so that what is to vanish does not bleed into the kept pixels when
        they are scaled. A scaled pixel is kept only if all pixels under it are.
        """
        image, hole = self._crop(patch.area)
        filled = fill(image, hole)
        if size != patch.side:
            filled = filled.resize((size, size), Image.Resampling.LANCZOS)
        return filled, _scale_hole(hole, size)

    def paste(self, patch: Patch, painted: Image.Image) -> "Canvas":
        """The canvas after a patch was painted as a square of any size.

        At the border of the known part, what was painted fades in from a smooth continuation of the known part, not
        from what was there before, which was to vanish.
        """
        if painted.width != painted.height:
            raise ValueError(f"a patch is a square, not {painted.width} x {painted.height}")
        area = _within(patch.area, self.image.size)
        image, hole = self._crop(area)
        own = Image.new("L", hole.size, 0)
        core = _within(patch.core, self.image.size)
        own.paste(self.hole.crop(core), (core[0] - area[0], core[1] - area[1]))
        if own.getbbox() is None:
            return self
        scaled = painted
        if painted.width != patch.side:
            scaled = painted.resize((patch.side, patch.side), Image.Resampling.BICUBIC)
        scaled = scaled.crop((area[0] - patch.left, area[1] - patch.top, area[2] - patch.left, area[3] - patch.top))
        width = max(FEATHER, round(FEATHER * patch.side / painted.width))
        blended = Image.composite(scaled, fill(image, hole), _feather(own, hole, width))
        result, rest = self.image.copy(), self.hole.copy()
        result.paste(blended, area[:2], own)
        rest.paste(0, core)
        return Canvas(image=result, hole=rest)

    def _crop(self, area: Area) -> tuple[Image.Image, Image.Image]:
        """A part of the canvas; outside the canvas everything is a hole."""
        return self.image.crop(area), ImageChops.invert(ImageChops.invert(self.hole).crop(area))


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasPlan:
    """A canvas, the squares in which it is painted in order, and warnings for the user."""

    canvas: Canvas
    patches: tuple[Patch, ...]
    warnings: tuple[str, ...]


def lay_out(image: Source, mask: Mask | None, expand: Edges, size: int) -> CanvasPlan:
    """Read a picture and its mask, expand it, and divide the work for a model that paints `size` x `size` pixels.

    Transparent pixels that are kept become what they look like over white. A mask of None keeps the whole picture.

    Raises:
        BadPicture, BadMask: as `read_picture` and `draw`.
        BadSetting: the expanded picture is larger than any that can be read.
    """
    picture = read_picture(image)
    warnings = list(picture.warnings)
    hole = Image.new("L", picture.image.size, 0)
    if mask is not None:
        hole, doubts = draw(mask, picture)
        warnings += doubts
    canvas = _expanded(Canvas(image=picture.image, hole=hole), expand)
    patches = find_patches(canvas.hole, size)
    enlargement = max((patch.side for patch in patches), default=size) / size
    if enlargement >= BLUR:
        warnings.append(
            f"the model paints {size} x {size} pixels, which are enlarged {enlargement:.1f} times here: "
            "a smaller mask gives sharper pixels"
        )
    return CanvasPlan(canvas=canvas, patches=patches, warnings=tuple(warnings))


def find_patches(hole: Image.Image, size: int) -> tuple[Patch, ...]:
    """Squares that together cover the whole hole, each with some of the picture around it.

    Parts that are close together share a square and parts that are far apart do not, so that each is enlarged as little
    as possible. A compact part is never divided; a long thin one is, such as a scratch or the border of a photo.
    """
    side = size
    while len(patches := tuple(islice(_patches(hole, side), PATCH_LIMIT + 1))) > PATCH_LIMIT:
        side = side * 3 // 2 + 1
    return patches


def fill(image: Image.Image, hole: Image.Image) -> Image.Image:
    """A picture whose hole is filled from around it, smoothly and without detail; the rest keeps its bytes.

    Pull-push (Gortler et al. 1996, "The Lumigraph", section 3.4.2): what is known is averaged at ever coarser
    resolutions, from which the finer ones take what they lack. If nothing is known, the result is grey.
    """
    if hole.getbbox() is None:
        return image
    shrink = min(1.0, _FILL_SIDE / max(image.size))
    width, height = (max(1, round(side * shrink)) for side in image.size)
    known = ImageChops.invert(hole)
    visible = Image.composite(image, Image.new("RGB", image.size), known)
    # In floats: where little of a pixel is known, rounding would be multiplied.
    red, green, blue, weight = (
        np.asarray(channel.convert("F").resize((width, height), Image.Resampling.BOX))
        for channel in (*visible.split(), known)
    )
    colours, weights = np.stack([red, green, blue], axis=-1), weight[..., None] / 255
    smooth = Image.fromarray(_pull_push(colours, weights).round().clip(0, 255).astype(np.uint8))
    if smooth.size != image.size:
        smooth = smooth.resize(image.size, Image.Resampling.BICUBIC)
    return Image.composite(smooth, image, hole)


# Holes in arrays


def _pull_push(colours: Floats, weights: Floats) -> Floats:
    """Colours `[h w 3]`, already multiplied by their weights `[h w 1]` in [0, 1], filled up to a weight of 1."""
    height, width = weights.shape[:2]
    if height == width == 1:
        return colours / weights if weights.item() > 0 else np.full_like(colours, 127.5)
    if weights.min() == 1:
        return colours
    summed = _sums_of_four(weights)
    scale = np.minimum(summed, 1) / np.maximum(summed, np.finfo(np.float32).tiny)
    coarse = _pull_push(_sums_of_four(colours) * scale, summed * scale)
    finer = _doubled(_doubled(coarse).transpose(1, 0, 2)).transpose(1, 0, 2)[:height, :width]
    return colours + (1 - weights) * finer


def _sums_of_four(values: Floats) -> Floats:
    height, width = values.shape[:2]
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]


def _doubled(values: Floats) -> Floats:
    """Twice as many rows, interpolated linearly."""
    above = np.concatenate([values[:1], values[:-1]])
    below = np.concatenate([values[1:], values[-1:]])
    return np.stack([0.75 * values + 0.25 * above, 0.75 * values + 0.25 * below], axis=1).reshape(-1, *values.shape[1:])


def _scale_hole(hole: Image.Image, size: int) -> Image.Image:
    """A square hole at another size: a pixel is open if any of the pixels under it is."""
    if hole.width == size:
        return hole
    spans = [(k * hole.width // size, -(-(k + 1) * hole.width // size)) for k in range(size)]
    rows = np.stack([_open(hole)[first:last].any(axis=0) for first, last in spans])
    return _as_hole(np.stack([rows[:, first:last].any(axis=1) for first, last in spans], axis=1))


def _feather(own: Image.Image, hole: Image.Image, width: int) -> Image.Image:
    """How much of what was painted is taken ("L", 255 is all): 0 at known pixels, 255 from `width` pixels on.

    In a hole that is thinner than that, the middle still gets 255.
    """
    depth = _distance(~_open(hole))
    width = min(width, int(depth[_open(own)].max()))
    share = np.clip(depth / width, 0, 1, dtype=np.float32)
    return Image.fromarray((255 * share * share * (3 - 2 * share)).round().astype(np.uint8))


def _distance(known: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Steps along rows and columns to the nearest known pixel; if there is none, more than any side has pixels."""
    # A side has up to 16,384 pixels, so that twice of it still fits.
    steps = np.where(known, np.int16(0), np.int16(SIDE_LIMIT - 1))
    return _distance_along_columns(_distance_along_columns(steps).T).T


def _distance_along_columns(steps: NDArray[np.int16]) -> NDArray[np.int16]:
    ramp = np.arange(len(steps), dtype=np.int16)[:, None]
    from_above = np.minimum.accumulate(steps - ramp) + ramp
    from_below = np.minimum.accumulate((steps + ramp)[::-1])[::-1] - ramp
    return np.minimum(from_above, from_below)


def _open(hole: Image.Image) -> NDArray[np.bool_]:
    return np.asarray(hole) > 0


def _as_hole(open_: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(np.where(open_, np.uint8(255), np.uint8(0)))


# Where the squares lie


def _expanded(canvas: Canvas, expand: Edges) -> Canvas:
    if not expand:
        return canvas
    width = expand.left + canvas.image.width + expand.right
    height = expand.top + canvas.image.height + expand.bottom
    if max(width, height) > SIDE_LIMIT or width * height > PIXEL_LIMIT:
        raise BadSetting(
            f"the expanded picture would have {width} x {height} pixels",
            hint=f"up to {SIDE_LIMIT} on a side, and {PIXEL_LIMIT // 10**6} million in all",
        )
    image, hole = Image.new("RGB", (width, height)), Image.new("L", (width, height), 255)
    image.paste(canvas.image, (expand.left, expand.top))
    added = hole.copy()
    added.paste(0, (expand.left, expand.top, expand.left + canvas.image.width, expand.top + canvas.image.height))
    hole.paste(canvas.hole, (expand.left, expand.top))
    return Canvas(image=fill(image, added), hole=hole)


def _patches(hole: Image.Image, size: int) -> Iterator[Patch]:
    rest = hole.copy()
    for area in _merged(_regions(hole, size), hole.size, size):
        for patch in _patches_of(hole, area, size):
            # The cores of two areas may overlap; the first to be painted has it.
            if rest.crop(patch.core).getbbox() is not None:
                rest.paste(0, patch.core)
                yield patch


def _patches_of(hole: Image.Image, area: Area, size: int) -> Iterator[Patch]:
    whole = _patch(area, _side(area, hole.size, size), hole.size)
    tile = max(size, 2 * _thickness(hole.crop(area)))
    if whole.side <= 2 * tile:
        yield whole
        return
    # Each tile shows a third more than it is there for, so that neighbours see each other.
    step = tile * 3 // 4
    rest = hole.crop(area)
    while (box := rest.getbbox()) is not None:
        strip = (box[0], 0, min(box[0] + step, rest.width), rest.height)
        first = _tightened(rest, strip)
        assert first is not None  # the box begins in this strip
        x, y, right, bottom = first
        core = _tightened(rest, (x, y, right, min(y + step, bottom)))
        assert core is not None
        rest.paste(0, core)
        extent = max(core[2] - core[0], core[3] - core[1])
        side = max(min(tile, *hole.size), -(-extent * 4 // 3))
        yield _patch((area[0] + core[0], area[1] + core[1], area[0] + core[2], area[1] + core[3]), side, hole.size)


def _patch(core: Area, side: int, canvas: tuple[int, int]) -> Patch:
    """A square around a core, moved into the canvas where it fits."""
    left, top = (
        min(max(first - (side - (last - first)) // 2, 0), limit - side) if side <= limit else -((side - limit) // 2)
        for first, last, limit in ((core[0], core[2], canvas[0]), (core[1], core[3], canvas[1]))
    )
    return Patch(left=left, top=top, side=side, core=core)


def _side(area: Area, canvas: tuple[int, int], size: int) -> int:
    """The side of the square in which an area is painted: with context, and if possible within the canvas."""
    width, height = area[2] - area[0], area[3] - area[1]

    def with_context(factor: float) -> int:
        return max(min(round(width * factor), canvas[0]), min(round(height * factor), canvas[1]))

    narrow = min(canvas)
    side = max(with_context(CONTEXT), min(size, narrow))
    return side if side <= narrow else max(narrow, with_context(LEAST_CONTEXT))


def _regions(hole: Image.Image, size: int) -> list[Area]:
    """The parts of a hole that do not touch, found on a coarser grid the more there are."""
    cell = max(1, size // 4, -(-max(hole.size) // _CELLS))
    while len(groups := _groups(_coarse(hole, cell))) > _REGIONS:
        cell *= 2
    areas = (_within((x * cell, y * cell, u * cell, v * cell), hole.size) for x, y, u, v in groups)
    return sorted((tight for area in areas if (tight := _tightened(hole, area)) is not None), key=lambda area: area[1])


def _groups(cells: NDArray[np.bool_]) -> list[Area]:
    """The extents of connected cells; cells that touch at corners are connected."""
    unseen = {(int(x), int(y)) for y, x in np.argwhere(cells)}
    found = []
    while unseen:
        group = [min(unseen)]
        unseen.remove(group[0])
        for x, y in group:
            beside = {(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & unseen
            unseen -= beside
            group.extend(beside)
        columns, rows = zip(*group, strict=True)
        found.append((min(columns), min(rows), max(columns) + 1, max(rows) + 1))
    return found


def _merged(areas: list[Area], canvas: tuple[int, int], size: int) -> list[Area]:
    """The areas, merged wherever a square for two is hardly larger than the larger of their own."""
    while True:
        merged: list[Area] = []
        for area in areas:
            for k, other in enumerate(merged):
                both = (min(area[0], other[0]), min(area[1], other[1]), max(area[2], other[2]), max(area[3], other[3]))
                larger = max(_side(area, canvas, size), _side(other, canvas, size))
                if _side(both, canvas, size) <= max(size, larger * 5 // 4):
                    merged[k] = both
                    break
            else:
                merged.append(area)
        if len(merged) == len(areas):
            return merged
        areas = merged


def _thickness(hole: Image.Image) -> int:
    """The side in pixels of the largest square inside a hole, found on a coarse grid, so rather too large."""
    cell = -(-max(hole.size) // _CELLS)
    above: list[int] = []
    largest = 0
    for row in _coarse(hole, cell).tolist():
        here: list[int] = []
        for x, is_open in enumerate(row):
            neighbours = (here[x - 1], above[x], above[x - 1]) if x > 0 and above else (0,)
            here.append(1 + min(neighbours) if is_open else 0)
        above = here
        largest = max(largest, *here)
    return largest * cell


def _coarse(hole: Image.Image, cell: int) -> NDArray[np.bool_]:
    """Whether there is a hole anywhere in each cell of so many pixels."""
    width, height = hole.size
    padded = np.pad(_open(hole), ((0, -height % cell), (0, -width % cell)))
    return np.asarray(padded.reshape(padded.shape[0] // cell, cell, -1, cell).any(axis=(1, 3)))


def _tightened(hole: Image.Image, area: Area) -> Area | None:
    """The smallest area that holds all of a hole within an area, None where there is none."""
    box = hole.crop(area).getbbox()
    return None if box is None else (area[0] + box[0], area[1] + box[1], area[0] + box[2], area[1] + box[3])


def _within(area: Area, canvas: tuple[int, int]) -> Area:
    return max(area[0], 0), max(area[1], 0), min(area[2], canvas[0]), min(area[3], canvas[1])
