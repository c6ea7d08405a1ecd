"""Layers whose weights are in half precision, on a processor without arithmetic for it: they compute in float32.

torch would fall back to plain loops there, which take several times as long. The weights stay in half precision in
memory, and so do the tensors between layers; computing so takes about as long as float32.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.dvae import Convolution
from dallecli.nets.layers import replace_layers

BAND: Final = 2**24
"""How many numbers of an image are converted to float32 at a time: 64 MB."""


def multiply_in_single(net: nn.Module) -> None:
    """Make every linear and convolutional layer of a network compute in float32, and return the type of its input."""
    replace_layers(net, {nn.Linear: _Linear, nn.Conv2d: _Conv2d, Convolution: _Convolution})


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.float(), self.weight.float(), _single(self.bias)).to(x.dtype)


class _Conv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), _single(self.bias)
        halo = self.kernel_size[0] // 2
        height, count = x.shape[2], -(-x[0].numel() // BAND)
        if count < 2 or self.stride != (1, 1) or self.padding != (halo, halo):
            y: Tensor = self._conv_forward(x.float(), weight, bias)
            return y.to(x.dtype)
        rows = -(-height // count)
        bands = []
        for first in range(0, height, rows):
            end = min(first + rows, height)
            above, below = min(first, halo), min(height - end, halo)
            band = F.pad(x[:, :, first - above : end + below].float(), (0, 0, halo - above, halo - below))
            bands.append(F.conv2d(band, weight, bias, padding=(0, halo)).to(x.dtype))
        return torch.cat(bands, dim=2)


class _Convolution(Convolution):
    def convolve(self, x: Tensor) -> Tensor:
        y = F.conv2d(x.float(), self.w.float(), self.b.float(), padding=self.w.shape[-1] // 2)
        return y.to(x.dtype)


def _single(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.float()
