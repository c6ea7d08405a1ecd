"""Pictures, holes and beginnings as latents, by the autoencoder of a model folder."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dallecli.nets.movq import Movq
from dallecli.nets.vae import Vae
from dallecli.pipelines.allocator import keep_freed, return_freed
from dallecli.pipelines.frame import Frame
from dallecli.pipelines.given import Beginning, Given, Hole
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import to_images
from dallecli.pipelines.stage import Show, precise

SHOWN_CELLS: Final = 32
"""Unfinished pictures are shown from so many latents a side at most, of which an autoencoder makes 256 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoencoder:
    """The autoencoder in `part` of a model folder, which `build` makes of its config. Loaded when it is needed.

    Every method raises NonFinite if it overflows in the widest type.
    """

    parts: Parts
    part: str
    build: Callable[[dict[str, Any]], Movq | Vae]

    def encode(self, pixels: Tensor) -> Tensor:
        """Return latents [b z h/f w/f], at least float32, of pixels [b 3 h w] in [-1, 1]; f divides h and w."""
        return self._run(lambda net, x: net.encode(x), pixels)

    def decode(self, latents: Tensor) -> Tensor:
        """Return pixels [b 3 h*f w*f], at least float32 and about in [-1, 1], of latents [b z h w]."""
        return self._run(lambda net, x: net.decode(x), latents)

    def given(self, given: Given, frame: Frame, with_neighbours: Callable[[Tensor], Tensor]) -> Given:
        """What there is of pictures, as what there is of their latents: see `hole` and `beginning`."""
        return replace(
            given,
            hole=None if given.hole is None else self.hole(given.hole, frame, with_neighbours),
            beginning=None if given.beginning is None else self.beginning(given.beginning, frame),
        )

    def pictures(self, latents: Tensor, frame: Frame, hole: Hole | None) -> Tensor:
        """The pixels [b 3 h w] of what was painted, with all that was known around a hole."""
        pixels = frame.middle(self.decode(latents)).clamp(-1, 1)
        return pixels if hole is None else hole.filled(pixels)

    def show(self, frame: Frame, painting: str) -> Show | None:
        """What makes small pictures of clean latents, while the network `painting` paints them.

        None where it would have to leave the memory for that.
        """
        kept = self.parts.kept
        stay = kept is None or {self.part, painting} <= set(kept)
        return partial(self._small, frame) if stay else None

    def _small(self, frame: Frame, latents: Tensor) -> list[Image.Image]:
        """Small pictures of latents [b z h w]: averages of them are decoded, which takes a fraction of the time."""
        side = latents.shape[-1] // -(-latents.shape[-1] // SHOWN_CELLS)
        net = self.parts.net(self.part, self.build, self.parts.dtype)
        pixels = net.decode(F.adaptive_avg_pool2d(latents, side).to(self.parts.dtype)).float().nan_to_num()
        keep_freed()  # the painting goes on
        return to_images(frame.middle(pixels))

    def hole(self, hole: Hole, frame: Frame, with_neighbours: Callable[[Tensor], Tensor]) -> Hole:
        """A hole in pictures as a hole in their latents.

        It opens every cell [b 1 h w] that it touches, and those around them that `with_neighbours` adds.
        """
        latents = self.encode(frame.widened(hole.pixels))
        unknown = frame.widened(hole.unknown.float()).to(latents.device)
        # diffusers looks at one pixel of a cell only, and so misses what is narrower than a cell.
        cells = F.adaptive_max_pool2d(unknown, latents.shape[-2:]) > 0
        return Hole(pixels=latents, unknown=with_neighbours(cells), resample=hole.resample)

    def beginning(self, beginning: Beginning, frame: Frame) -> Beginning:
        """Pictures that are painted over, as latents."""
        return replace(beginning, pixels=self.encode(frame.widened(beginning.pixels)))

    def _run(self, way: Callable[[Movq | Vae, Tensor], Tensor], x: Tensor) -> Tensor:
        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            net = self.parts.net(self.part, self.build, dtype)
            return_freed()  # kept, its few large images would take nearly twice the memory that is planned
            result = way(net, x.to(self.parts.device, dtype)).to(precise(dtype))
            return result, result.isfinite().flatten(1).all(dim=1)

        return self.parts.finite("autoencoder", None, run)
