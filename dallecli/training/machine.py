"""What a model is trained on: the device, its arithmetic, and the processes that share the work."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dallecli.nets.layers import replace_layers
from dallecli.placement import free_memory
from dallecli.training.team import Team


@dataclass(frozen=True, slots=True)
class Machine:
    """Where networks are trained.

    device: where the networks are, and the random numbers.
    autocast: the half type of the arithmetic, or None for float32.
    team: the processes that train together; by default this one alone.
    """

    device: torch.device
    autocast: torch.dtype | None = None
    team: Team = field(default_factory=Team)

    def hold(self, data: Tensor) -> Tensor:
        """Return data on the device, if a quarter of its free memory holds them; else where they are."""
        free = free_memory(str(self.device))
        if self.device.type == "cpu" or (free is not None and data.nbytes > free // 4):
            return data
        return data.to(self.device)

    def suit(self, net: nn.Module) -> None:
        """Replace the layers of a network that is to be trained where others take less time on this machine."""
        if self.device.type == "cpu" and self.autocast is not None:
            replace_layers(net, {nn.GroupNorm: _SingleGroupNorm})


class _SingleGroupNorm(nn.GroupNorm):
    """In float32: on a CPU, torch's group norm of bfloat16 takes four times as long to go back."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


@contextmanager
def arithmetic(threads: int | None) -> Iterator[None]:
    """Set the process's threads and denormal mode for the time of a training, and restore them afterwards.

    Averages of late gradients underflow into denormal numbers, which cost a CPU a hundred times as much: they are
    flushed to zero. `threads` of None leaves their number alone.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
