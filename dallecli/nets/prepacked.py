"""Layers that keep their weights in oneDNN's own order, so that it need not reorder them.

torch's own layers give oneDNN plain weights, which it reorders at every call. For the small images at the bottom of a
UNet, and for everything in a small network, that is a large part of the call. The operations used here are those of
torch's compiler. They are not public, so `can_prepack` tries them; where they are missing or have changed, the layers
stay as they are. The results are the same up to rounding.
"""

import logging
import platform
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from dallecli.nets.layers import replace_layers

MACHINES: Final = ("x86_64", "AMD64")
"""The machines on which oneDNN computes with its own kernels, not with another library's."""

log = logging.getLogger(__name__)


@cache
def can_prepack() -> bool:
    """Whether this torch has the operations for this processor, and they compute what a plain layer does."""
    if platform.machine() not in MACHINES:
        return False
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        x = torch.linspace(-1, 1, 2 * 4 * 4).view(1, 2, 4, 4)
        conv, linear = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(4, 3)
        wanted = conv(x), linear(x)
        net = nn.ModuleList([conv, linear])
        replace_layers(net, _Linear, _Conv2d)
        try:
            found = net[0](x), net[1](x)
        # what a missing operation, or one with other arguments, may answer
        except (AttributeError, NotImplementedError, RuntimeError, TypeError) as problem:
            log.debug("layers are not prepacked: %s", problem)
            return False
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))


def prepack(net: nn.Module) -> None:
    """Give every linear and convolutional layer of a network on a CPU its weights in oneDNN's own order.

    For inference only, and only where `can_prepack`. A layer's plain weights are dropped at its first call, when the
    size of its image is known; from then on the network's state dict lacks them.
    """
    replace_layers(net, _Linear, _Conv2d)


class _Linear(nn.Linear):
    _packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().contiguous(), None)
            del self.weight
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y


class _Conv2d(nn.Conv2d):
    _packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if self._packed is None:
            plain = self.weight.detach().contiguous().to_mkldnn()
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight  # described for lists, and called with numbers
            # Of one picture, so that the order does not depend on how many come first.
            size = (1, *x.shape[1:])
            self._packed = reorder(plain, self.padding, self.stride, self.dilation, self.groups, size)
            del self.weight
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._packed, self.bias, *geometry, "none", [], "")
        return y
