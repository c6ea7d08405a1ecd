"""The memory layout of a network's layers, and the classes that compute them."""

from typing import TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def channels_last(net: N) -> N:
    """Return the network with the weights of its convolutions in channels-last order, which its images then have, too.

    Convolutions are faster when the channels of a pixel are side by side than when each channel is a plane.
    """
    moved: N = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return moved


def replace_layers(net: nn.Module, linear: type[nn.Linear], convolution: type[nn.Conv2d]) -> None:
    """Let these classes compute every linear and convolutional layer of a network, with the weights it has.

    The class is replaced, not `forward`: a layer that refers to itself would not be freed when it is released.
    """
    for layer in net.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = linear
        elif type(layer) is nn.Conv2d:
            layer.__class__ = convolution
