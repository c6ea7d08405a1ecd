"""How sharp large pictures are, and how like drawn ones in what only a large picture shows.

No network looks here: a judge that sees 32 px is blind to speckle and blur, and another one would have to be trained to
see them. What is measured are the edges, band by band: they are zero where a picture is smooth, small and everywhere
where it has speckle, strong and seldom where a line is drawn.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

BANDS: Final = 4
"""Octaves, from the finest on."""
FLAT: Final = 1.5
"""What is less than so many levels of 255 is no edge."""
# Lightness, red against green, yellow against blue.
_OPPONENTS: Final = torch.tensor([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [0.25, 0.25, -0.5]])


def gradient_energy(pictures: Tensor) -> float:
    """Return the mean absolute difference, in levels of 255, of neighbouring pixels of pictures [n 3 s s]."""
    x = pictures.float()
    return float(((x.diff(dim=-1).abs().mean()) + x.diff(dim=-2).abs().mean()) / 2)


def edges(pictures: Tensor) -> Tensor:
    """Return what edges uint8 pictures [n 3 s s] have, [n d].

    For each of three opponent colours and each band of a Laplacian pyramid: the logarithms of the mean and the
    root-mean-square of what the band holds; for the lightness also the share of it that is flat.
    """
    x = torch.einsum("kc,nchw->nkhw", _OPPONENTS, pictures.float())
    found = []
    for _ in range(BANDS):
        low = F.avg_pool2d(x, 2)
        band = (x - F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=False)).abs()
        # One level more, or the logarithm would tell apart nothing from next to nothing.
        found += [(1 + band.mean(dim=(2, 3))).log(), (1 + band.square().mean(dim=(2, 3)).sqrt()).log()]
        found.append((band[:, :1] < FLAT).float().mean(dim=(2, 3)))
        x = low
    return torch.cat(found, dim=1)
