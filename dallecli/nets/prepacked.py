"""Weights in the order in which the processor reads them: layers call oneDNN with weights that it has laid out itself.

torch's own layers hand oneDNN plain weights, which it reorders at every call. For the small images at the bottom of a
UNet, and for everything in a small network, that is a good part of the call. The operations are those that torch's own
compiler uses; they are not public, so `prepack` looks whether they are there, and otherwise leaves the layers as they
are. What they compute is the same: to the last bit in bfloat16, to rounding in float32.
"""

import platform
from typing import Any, Final

import torch
from torch import Tensor, nn

MACHINES: Final = ("x86_64", "AMD64")
"""Where oneDNN computes with its own kernels, and not with another library's."""


def can_prepack() -> bool:
    """Whether this torch has the operations, for this processor."""
    operations = torch.ops.mkldnn
    return (
        platform.machine() in MACHINES
        and hasattr(operations, "_convolution_pointwise")
        and hasattr(operations, "_linear_pointwise")
        and hasattr(operations, "_reorder_linear_weight")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    )


def prepack(net: nn.Module) -> None:
    """Give every linear and convolutional layer of a network on a CPU its weights in oneDNN's own order.

    For inference only. A layer's plain weights go at its first call, when the size of its image is known; from then on
    the network has no state dict. Nothing is done where the operations are missing.
    """
    if not can_prepack():
        return
    for layer in net.modules():
        # Not a function put in place of `forward`: a layer that refers to itself would outlive its release.
        if type(layer) is nn.Linear:
            layer.__class__ = _Linear
        elif type(layer) is nn.Conv2d:
            layer.__class__ = _Conv2d


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
