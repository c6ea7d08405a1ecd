"""How the pictures of one recipe stand together: a grid, a strip of frames, variations around their original."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dallecli.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image

STRIP = 12
"""The most frames that stand in one row; more of them become a sheet of rows."""


def arrange(recipe: Recipe, images: "Sequence[Image.Image]") -> "tuple[Image.Image, list[tuple[int, int]]]":
    """One sheet of the pictures of a recipe, and the column and row of each.

    Frames are a strip. Variations have what they vary in the first corner. Everything else is a grid.
    """
    from dallecli.pictures.sheets import grid, grid_shape

    first = _original(recipe, images[0].size) if recipe.task == "vary" else None
    shown = images if first is None else [first, *images]
    columns = len(shown) if recipe.settings.has_frames and len(shown) <= STRIP else grid_shape(len(shown))[0]
    places = [(k % columns, k // columns) for k in range(len(shown))]
    return grid(shown, columns), places[len(shown) - len(images) :]


def _original(recipe: Recipe, size: tuple[int, int]) -> "Image.Image | None":
    """The picture that is varied, as CLIP saw it: the square in its middle. None for an embedding."""
    from PIL import Image, ImageOps

    from dallecli.pictures.reading import read_picture

    source = recipe.inputs[0]
    if source.kind != "picture":
        return None
    return ImageOps.fit(read_picture(source).image, size, Image.Resampling.LANCZOS)


def ending(recipe: Recipe) -> str:
    """What the name of a sheet ends in."""
    return "-strip" if recipe.settings.has_frames else "-grid"


def frame_number(recipe: Recipe, index: int) -> str:
    """What tells the files of frames apart, since their seed does not; "" for pictures that are none."""
    return f"-{index + 1:0{len(str(recipe.count))}}" if recipe.settings.has_frames else ""
