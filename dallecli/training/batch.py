"""What a step of training works on: random numbers, rows of the data, and networks laid out for speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class Draw:
    """The random numbers of one batch, of which one part is handed out.

    Every number is drawn for the whole batch and then cut: so a step is the same however its batch is shared out
    among processes and accumulated parts.

    Args:
        seed: of the generator.
        batch: samples in the whole batch.
        device: where the numbers are made.
        part: which of the `parts` this one is; they are of equal size.
        parts: into how many parts the batch is cut; divides `batch`.
    """

    def __init__(self, seed: int, batch: int, device: torch.device, part: int = 0, parts: int = 1) -> None:
        if batch % parts:
            raise ValueError(f"a batch of {batch} cannot be cut into {parts} equal parts")
        self.device = device
        self.batch = batch // parts
        self._whole = batch
        self._rows = slice(part * self.batch, (part + 1) * self.batch)
        self._generator = torch.Generator(device).manual_seed(seed)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Return whole numbers from 0 to `below` - 1, [batch, *shape]."""
        size = (self._whole, *shape)
        return torch.randint(below, size, generator=self._generator, device=self.device)[self._rows]

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers from [0, 1), [batch, *shape]."""
        return torch.rand((self._whole, *shape), generator=self._generator, device=self.device)[self._rows]

    def normal(self, *shape: int) -> Tensor:
        """Return numbers of mean 0 and deviation 1, [batch, *shape]."""
        return torch.randn((self._whole, *shape), generator=self._generator, device=self.device)[self._rows]

    def timesteps(self, steps: int, power: float = 1.0) -> Tensor:
        """Return timesteps [batch] of a schedule of `steps`, stratified.

        There is one from each of as many equal slices of the schedule as the whole batch has samples, in random order.
        With `power` below 1 the slices crowd towards the noisy end: u uniform in [0, 1) becomes u ** power.
        """
        count, generator, device = self._whole, self._generator, self.device
        u = (torch.arange(count, device=device) + torch.rand(count, generator=generator, device=device)) / count
        t = (u**power * steps).long().clamp(max=steps - 1)
        return t[torch.randperm(count, generator=generator, device=device)][self._rows]

    def once(self) -> float:
        """Return one number from [0, 1) for the whole batch."""
        return torch.rand((), generator=self._generator, device=self.device).item()

    def order(self, of: Sequence[str]) -> list[str]:
        """Return `of` in random order, the same one for the whole batch."""
        places = torch.randperm(len(of), generator=self._generator, device=self.device).tolist()
        return [of[place] for place in places]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emphasis:
    """What is shown more often than the rest: a `share` of all samples is drawn from the indices `rows` [m] alone."""

    rows: Tensor
    share: float


def choose(count: int, draw: Draw, emphasis: Emphasis | None) -> Tensor:
    """Return indices [batch] below `count`, each as likely as any other but for `emphasis`."""
    anywhere = draw.integers(count)
    if emphasis is None:
        return anywhere
    among = emphasis.rows[draw.integers(len(emphasis.rows))]
    return torch.where(draw.uniform() < emphasis.share, among, anywhere)


def take(data: Tensor, rows: Tensor) -> Tensor:
    """Return `data[rows]` on the device of `rows`; the data may stay elsewhere, on the disk for instance."""
    return data[rows.to(data.device)].to(rows.device)
