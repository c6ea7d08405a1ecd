"""Layers that keep their weights in oneDNN's own order, so that it need not reorder them.

torch's own layers give oneDNN plain weights, which it reorders at every call. For the small images at the bottom of a
UNet, and for everything in a small network, that is a large part of the call. The operations used here are those of
torch's compiler. They are not public, so `can_prepack` tries them; where they are missing or have changed, the layers
stay as they are. The results are the same up to rounding.
"""

import logging
import platform
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn

from dallecli.nets.dvae import Convolution
from dallecli.nets.layers import replace_layers

LARGE: Final = 2**16
"""Numbers of a weight from which on it is read when its layer is first called, and not before."""

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
        wanted: tuple[Tensor, ...] = conv(x), linear(x)
        fused = Convolution(2, 3, 3)
        fused.load_state_dict({"w": conv.weight, "b": conv.bias})
        wanted = *wanted, wanted[0].relu(), wanted[0] * 2
        net = nn.ModuleList([conv, linear, fused])
        replace_layers(net, _LAYERS)
        try:
            found = net[0](x), net[1](x), fused(x, rectified=True), fused(x, wanted[0].clone())
        # what a missing operation, or one with other arguments, may answer
        except (AttributeError, NotImplementedError, RuntimeError, TypeError) as problem:
            log.debug("layers are not prepacked: %s", problem)
            return False
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))


def large_weights(net: nn.Module) -> list[str]:
    """The names of the weights that layers, once prepacked, may read by themselves: those for which that pays."""
    layers = ((name, layer) for name, layer in net.named_modules() if type(layer) in (nn.Linear, nn.Conv2d))
    return [f"{name}.weight" for name, layer in layers if layer.weight.numel() >= LARGE]


def prepack(net: nn.Module, unread: Mapping[str, Callable[[], Tensor]] | None = None) -> None:
    """Give every linear and convolutional layer of a network on a CPU its weights in oneDNN's own order.

    For inference only, and only where `can_prepack`. A layer's plain weights are dropped at its first call, when the
    size of its image is known; from then on the network's state dict lacks them. Weights that are not read yet are read
    then, by the functions of `unread`, which are named like them: some of `large_weights`.
    """
    replace_layers(net, _LAYERS)
    for name, read in (unread or {}).items():
        layer = net.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, PackedLinear | PackedConv2d)
        layer.read = read


class PackedLinear(nn.Linear):
    """A linear layer that keeps its weight in oneDNN's order; see `prepack`."""

    _packed: Tensor | None = None
    read: Callable[[], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(_plain(self).contiguous(), None)
            del self.weight
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return y


class PackedConv2d(nn.Conv2d):
    """A convolution that keeps its weight in oneDNN's order; see `prepack`."""

    _packed: "_Packed | None" = None
    read: Callable[[], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        if self._packed is None:
            self._packed = _Packed(_plain(self), geometry, x)
            del self.weight
        weight = self._packed.weight(x)
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *geometry, "none", [], "")
        return y


def _plain(layer: PackedLinear | PackedConv2d) -> Tensor:
    """The weight of a layer that is called for the first time."""
    if layer.read is None:
        return layer.weight.detach()
    weight = layer.read()
    layer.read = None
    return weight


class _Convolution(Convolution):
    """What follows it is computed while the result is in the processor's cache."""

    _packed: "_Packed | None" = None

    def forward(self, x: Tensor, onto: Tensor | None = None, *, rectified: bool = False) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if self._packed is None:
            self._around = (self.w.shape[-1] // 2,) * 2
            self._packed = _Packed(self.w * self.gain, self._geometry, x)
            self.b = nn.Parameter(self.b * self.gain, requires_grad=False)
            del self.w
        weight = self._packed.weight(x)
        if onto is None:
            after = "relu" if rectified else "none"
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, self.b, *self._geometry, after, [], "")
            return y
        # Nothing else refers to what it is added to, as gradients do not come here.
        onto = onto.contiguous(memory_format=torch.channels_last)
        sum: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            onto, x, weight, self.b, *self._geometry, "add", 1.0, None, [], None
        )
        return sum

    @property
    def _geometry(self) -> "_Geometry":
        return self._around, (1, 1), (1, 1), 1


_Geometry = tuple[Any, Any, Any, int]
"""Padding, stride, dilation and groups of a convolution."""

_LAYERS: Final[Mapping[type[nn.Module], type[nn.Module]]] = {
    nn.Linear: PackedLinear,
    nn.Conv2d: PackedConv2d,
    Convolution: _Convolution,
}


class _Packed:
    """The weight of a convolution in the order that oneDNN wants for so many samples.

    Which one that is may depend on their number: without AVX-512 it often does. A weight in another order would be
    reordered in every call, by loops that take longer than the convolution.
    """

    def __init__(self, weight: Tensor, geometry: _Geometry, x: Tensor) -> None:
        self._geometry = geometry
        self._samples = len(x)
        self._weight = self._reordered(weight.detach(), x)

    def weight(self, x: Tensor) -> Tensor:
        """The weight for images [b c h w]; it is reordered once more where there were more of them before, or fewer."""
        if len(x) != self._samples:
            self._samples = len(x)
            self._weight = self._reordered(self._weight.to_dense(), x)
        return self._weight

    def _reordered(self, weight: Tensor, x: Tensor) -> Tensor:
        # From channels-last it is faster than from the order of files, where what belongs together is far apart.
        weight = weight.contiguous(memory_format=torch.channels_last)
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._geometry, x.shape)
        return packed
