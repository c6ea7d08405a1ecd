"""The memory layout of a network's layers, and the classes that compute them."""

from collections.abc import Mapping
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


def replace_layers(net: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Let other classes, by those that they are instead of, compute the layers of a network, with the weights it has.

    The class is replaced, not `forward`: a layer that refers to itself would not be freed when it is released.
    """
    for layer in net.modules():
        layer.__class__ = classes.get(type(layer), type(layer))
