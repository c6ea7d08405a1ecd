"""Repainting a picture of any size, square by square, with a model of one size: the same for every kind of model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.engine import Progress
from dallecli.pictures.canvas import Canvas, Patch, lay_out
from dallecli.pictures.picture import Picture
from dallecli.pipelines.chunks import Chunk
from dallecli.pipelines.given import Hole
from dallecli.pipelines.pixels import to_images, to_pixels
from dallecli.pipelines.watch import Look, Watch, watch_pictures
from dallecli.recipe import Recipe
from dallecli.tasks.inpaint import Inpainting

PaintSquare = Callable[[Sequence[Image.Image], Hole, Noise, Watch], Tensor]
"""Paints the hole in a square of each picture: the squares, at the model's own size, and the hole in their pixels give
pixels [b 3 s s] in [-1, 1]."""


def repaint(
    recipe: Recipe,
    settings: Inpainting,
    chunks: Iterable[Chunk],
    progress: Callable[[Progress], None],
    paint: PaintSquare,
) -> Iterator[Picture]:
    """Paint the hole in the picture of a recipe, and keep every pixel around it."""
    side = recipe.size.width
    layout = lay_out(recipe.inputs[0], settings.mask, settings.expand, side)
    for chunk in chunks:
        noise = Noise(chunk.seeds)
        canvases = [layout.canvas] * len(chunk.seeds)
        for square, patch in enumerate(layout.patches):
            steps = watch_pictures(progress, chunk.numbers, recipe.count, square, len(layout.patches))
            watch = partial(_watch_square, steps, canvases, patch)
            known, holes = zip(*(canvas.cut(patch, side) for canvas in canvases), strict=True)
            hole = Hole(pixels=to_pixels(known), unknown=to_pixels(holes) > 0, resample=settings.resample)
            painted = to_images(paint(known, hole, noise, watch))
            canvases = [canvas.paste(patch, image) for canvas, image in zip(canvases, painted, strict=True)]
        yield from chunk.pictures([canvas.image for canvas in canvases])


def _watch_square(
    watch: Watch,
    canvases: Sequence[Canvas],
    patch: Patch,
    stage: str,
    step: int,
    steps: int,
    /,
    look: Look | None = None,
) -> None:
    """Report a step of a square, whose unfinished pictures are those of the whole canvas."""

    def whole() -> list[Image.Image]:
        assert look is not None
        return [canvas.paste(patch, image).image for canvas, image in zip(canvases, look(), strict=True)]

    watch(stage, step, steps, None if look is None else whole)
