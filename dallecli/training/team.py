"""The processes that train one network together, as `accelerate launch` starts them; one alone is the rule.

Every process holds the whole network and takes its part of each batch; gradients are averaged before each step
(torch's DistributedDataParallel, set up by accelerate). One of them, the first, writes, shows and validates.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from dallecli.errors import BadSetting
from dallecli.installation import extra_command

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE: Final = timedelta(hours=12)
"""How long processes wait for the first, which decodes the pictures and validates."""


class Team:
    """This process, alone. `rank` is its place among `size` processes."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, shows and validates."""
        return self.rank == 0

    def share(self, loss: nn.Module) -> nn.Module:
        """Return a module that computes what `loss` does, and whose gradients are those of the whole batch."""
        return loss

    def pause(self, shared: nn.Module) -> AbstractContextManager[None]:
        """Inside, the gradients of `shared` pile up unshared: another part of the batch follows."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a number over all processes."""
        return value

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes, behind one another.

        A number that all processes compute from them alike has, after the averaging, the gradient that one process
        with all rows would give it.
        """
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

    def share(self, loss: nn.Module) -> nn.Module:
        shared: nn.Module = self.accelerator.prepare_model(loss)
        return shared

    def pause(self, shared: nn.Module) -> AbstractContextManager[None]:
        paused: AbstractContextManager[None] = self.accelerator.no_sync(shared)
        return paused

    def mean(self, value: Tensor) -> Tensor:
        mean: Tensor = self.accelerator.reduce(value, reduction="mean")
        return mean

    def gather(self, rows: Tensor) -> Tensor:
        everyone: Tensor = self.accelerator.gather(rows.detach())
        if not rows.requires_grad:
            return everyone
        # What is gathered has no gradient, so each process sees that of its own rows alone, and averaging would make
        # it `size` times too small.
        parts = list(everyone.chunk(self.size))
        parts[self.rank] = rows.detach() + self.size * (rows - rows.detach())
        return torch.cat(parts)

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
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as missing:
        raise BadSetting(
            "several processes need accelerate, which is not installed", hint=extra_command("train")
        ) from missing
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    accelerator = Accelerator(mixed_precision="no", cpu=device.type == "cpu", kwargs_handlers=[patience])
    return Launched(accelerator), accelerator.device
