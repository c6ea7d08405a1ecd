"""How the layers of a network lie in memory, and who computes them."""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def channels_last(net: N) -> N:
    """Return the network with the weights of its convolutions in the order of pixels, so that images are in it, too.

    Convolutions are faster on pixels than on planes: measured 1.2 to 1.6 times, on CPUs with and without AMX.
    """
    moved: N = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return moved


def replace_layers(net: nn.Module, linear: type[nn.Linear], convolution: type[nn.Conv2d]) -> None:
    """Let every linear and convolutional layer of a network be computed by these classes, with the weights it has.

    The class is what changes, and not `forward`: a layer that refers to itself would outlive its release.
    """
    for layer in net.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = linear
        elif type(layer) is nn.Conv2d:
            layer.__class__ = convolution
