"""The processes that train one network together, as `accelerate launch` starts them; one alone is the rule.

Every process holds the whole network and takes its part of each batch; gradients are averaged before each step
(torch's DistributedDataParallel, set up by accelerate). One of them, the first, writes, shows and validates.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.nn import functional as collective

from dallecli.errors import BadSetting

if TYPE_CHECKING:
    from accelerate import Accelerator

INSTALL = "pip install 'dallecli[train]'"


class Team:
    """This process, alone. `rank` is its place among `size` processes."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, shows and validates."""
        return self.rank == 0

    def share(self, lesson: nn.Module) -> nn.Module:
        """Return a module that computes what `lesson` does, and whose gradients are those of the whole batch."""
        return lesson

    def pause(self, shared: nn.Module) -> AbstractContextManager[None]:
        """Inside, the gradients of `shared` pile up unshared: another part of the batch follows."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a number over all processes."""
        return value

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, behind one another; gradients flow back to where they came from."""
        return rows

    def agree(self, value: float) -> float:
        """Return what the first process says."""
        return value

    def wait(self) -> None:
        """Wait until all processes are here."""


class Launched(Team):
    """One of several processes that `accelerate launch` started."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator = accelerator
        self.rank = accelerator.process_index
        self.size = accelerator.num_processes

    def share(self, lesson: nn.Module) -> nn.Module:
        shared: nn.Module = self.accelerator.prepare_model(lesson)
        return shared

    def pause(self, shared: nn.Module) -> AbstractContextManager[None]:
        paused: AbstractContextManager[None] = self.accelerator.no_sync(shared)
        return paused

    def mean(self, value: Tensor) -> Tensor:
        mean: Tensor = self.accelerator.reduce(value, reduction="mean")
        return mean

    def gather(self, rows: Tensor) -> Tensor:
        if rows.requires_grad:
            # accelerate's own gather cuts the gradient.
            return torch.cat(collective.all_gather(rows))  # type: ignore[no-untyped-call]  # untyped in torch
        gathered: Tensor = self.accelerator.gather(rows)
        return gathered

    def agree(self, value: float) -> float:
        from accelerate.utils import broadcast

        said: Tensor = broadcast(torch.tensor(value, dtype=torch.float64, device=self.accelerator.device))
        return said.item()

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def join(device: torch.device) -> tuple[Team, torch.device]:
    """Return the team that this process belongs to, and its device: `device`, or what a launcher assigned to it.

    Raises:
        BadSetting: several processes were launched, and accelerate is not installed or has other devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(), device
    try:
        from accelerate import Accelerator
    except ImportError as missing:
        raise BadSetting("several processes need accelerate, which is not installed", hint=INSTALL) from missing
    accelerator = Accelerator(mixed_precision="no", cpu=device.type == "cpu")
    return Launched(accelerator), accelerator.device
