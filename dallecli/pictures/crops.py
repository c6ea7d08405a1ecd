"""Pictures that are cut out of what a model paints: finished ones, and those that are looked at before."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from dallecli.engine import Progress
from dallecli.recipe import Recipe
from dallecli.size import Size

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.pictures.picture import Picture


def cropped(picture: "Picture") -> "Picture":
    """A picture as its recipe has it: the middle of what was painted, if that is larger."""
    crop = picture.recipe.crop
    return picture if crop is None else replace(picture, image=_middle(picture.image, crop, picture.recipe.size))


def cropping(recipe: Recipe, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """The progress of a recipe, in which pictures look as they will when they are finished."""
    crop = recipe.crop
    if crop is None:
        return progress

    def watch(step: Progress) -> None:
        look = step.look
        if look is not None:
            step = replace(step, look=lambda: [_middle(image, crop, recipe.size) for image in look()])
        progress(step)

    return watch


def _middle(image: "Image", crop: Size, painted: Size) -> "Image":
    """The middle of a picture, which may be smaller than what is painted, as it is after an early stage."""
    width, height = (
        max(1, round(there * wanted / whole))
        for there, wanted, whole in (
            (image.width, crop.width, painted.width),
            (image.height, crop.height, painted.height),
        )
    )
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
