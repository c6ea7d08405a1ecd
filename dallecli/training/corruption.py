"""What is done to the small pictures that an upsampler learns from, because later they come from a network.

Ramesh et al. 2022, section 2.1 and table 3: a Gaussian blur for the first upsampler (Saharia et al. 2021), and for the
second the degradations of BSR (Rombach et al. 2022, after Zhang et al. 2021): blurs, resampling and noise in random
order. BSR's JPEG artefacts are left out: networks do not make them. The starter's own is noise alone.
"""

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.training.batch import Draw

Corrupt = Callable[[Tensor, Tensor, Draw], Tensor]
"""(low [b 3 l l] in [-1, 1], how much [b 1 1 1] in [0, 1), draw) -> low, corrupted."""

PAPER_SIGMA: Final = 0.6
"""The deviation in pixels of the paper's blur, whose kernel has three."""
BSR_SIGMA, BSR_NOISE = 1.2, 0.1
"""At most, in pixels of the small picture, and in units of [-1, 1] pixels."""
RESAMPLED: Final = (0.5, 0.75, 1.5)
"""To what share of its side BSR resamples a small picture and back."""


def added_noise(largest: float) -> Corrupt:
    """Add noise of a deviation up to `largest`, in units of [-1, 1] pixels."""

    def corrupt(low: Tensor, much: Tensor, draw: Draw) -> Tensor:
        return low + largest * much * draw.normal(*low.shape[1:])

    return corrupt


def paper_blur(low: Tensor, much: Tensor, draw: Draw) -> Tensor:
    """Blur with the paper's fixed kernel."""
    return blurred(low, torch.full_like(much, PAPER_SIGMA))


def bsr(low: Tensor, much: Tensor, draw: Draw) -> Tensor:
    """Degrade by a blur, a resampling and noise, in an order that is random for the batch, each as `much` as drawn."""
    side = low.shape[-1]
    share, (method, *_) = RESAMPLED[int(draw.once() * len(RESAMPLED))], draw.order(("area", "bilinear", "bicubic"))
    strength = {what: much * draw.uniform(1, 1, 1) for what in ("blur", "resample", "noise")}
    for what in draw.order(tuple(strength)):
        size = strength[what]
        if what == "blur":
            low = blurred(low, BSR_SIGMA * size)
        elif what == "noise":
            low = low + BSR_NOISE * size * draw.normal(*low.shape[1:])
        else:
            again = _resized(_resized(low, max(2, round(side * share)), method), side, method)
            low = torch.lerp(low, again, size)
    return low.clamp(-1, 1)


def blurred(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Return `pictures` [b 3 l l] under a Gaussian kernel of 3 x 3 with deviations `sigma` [b 1 1 1] in pixels.

    Borders are continued. A deviation of 0 changes nothing.
    """
    beside = torch.exp(-1 / (2 * sigma.clamp(min=1e-3) ** 2))
    middle, side = 1 / (1 + 2 * beside), beside / (1 + 2 * beside)
    for dim in (2, 3):
        padding = (1, 1, 0, 0) if dim == 3 else (0, 0, 1, 1)
        wide = F.pad(pictures, padding, mode="replicate")
        length = pictures.shape[dim]
        before, after = wide.narrow(dim, 0, length), wide.narrow(dim, 2, length)
        pictures = middle * pictures + side * (before + after)
    return pictures


def _resized(pictures: Tensor, side: int, method: str) -> Tensor:
    if method == "area":
        return F.interpolate(pictures, size=(side, side), mode="area")
    return F.interpolate(pictures, size=(side, side), mode=method, align_corners=False, antialias=True)
