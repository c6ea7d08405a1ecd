"""How strange a picture is to a model: how unlike it is what the decoder paints of what CLIP saw in it.

An image tower that has seen one kind of picture only says of every other picture what it would be if it were one of
these, and the decoder paints that. `docs/starter.md` has the experiment in which this told photographs from drawn
scenes better than the statistics of embeddings and pixels did.
"""

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageOps

from dallecli.diffusion.noise import Noise
from dallecli.pipelines.pixels import to_pixels
from dallecli.pipelines.settings import PaintSettings
from dallecli.pipelines.unclip_parts import Encoded, UnClipParts
from dallecli.pipelines.watch import Look
from dallecli.size import Size
from dallecli.tasks.stages import DiffusionSettings

STAGE: Final = "decoder"
DIALS: Final = DiffusionSettings(sampler="ddim", steps=2, guidance=1.0)
"""With so few steps the decoder paints the mean of what it would paint, which is what is compared."""

EVEN: Final = 0.1
"""Added to a picture's variance, of pixels in [-1, 1]: else the errors of an even one would count beyond measure."""


def strangeness(model: UnClipParts[Encoded], images: Sequence[Image.Image], size: int) -> list[float]:
    """A number for each RGB picture, 0 where the decoder paints it again; `size` is the decoder's side in pixels.

    It is the mean squared error over the middle square, divided by the picture's own variance plus `EVEN`.
    """
    seen = model.embedder.see(images)
    settings = PaintSettings(dials={STAGE: DIALS}, size=Size.square(size))
    noise = Noise([0] * len(images))
    painted = model.painter.decode(seen, model.embedder.read([""]), noise, settings, _unwatched).cpu().float()
    given = to_pixels([ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC) for image in images]).cpu().float()
    error = (painted - given).square().flatten(1).mean(dim=1)
    variance = given.flatten(2).var(dim=2, correction=0).mean(dim=1)
    found: list[float] = (error / (variance + EVEN)).tolist()
    return found


def _unwatched(stage: str, step: int, steps: int, /, look: Look | None = None) -> None:
    pass
