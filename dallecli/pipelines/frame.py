"""Pictures of any size, from networks of latents whose sizes are multiples of a grid."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of `size` pixels a side, in the middle of a larger one whose side is the next multiple of `grid`."""

    size: int
    grid: int

    @property
    def painted(self) -> int:
        """The side of the larger picture, in pixels."""
        return -(-self.size // self.grid) * self.grid

    def widened(self, x: Tensor) -> Tensor:
        """Pictures [b c size size] enlarged to [b c painted painted] by repeating their edges."""
        before, after = self._margins()
        return F.pad(x, (before, after, before, after), mode="replicate") if before + after > 0 else x

    def middle(self, x: Tensor) -> Tensor:
        """The middle [b c size size] of what was painted."""
        before, _ = self._margins()
        return x[..., before : before + self.size, before : before + self.size]

    def at(self, side: int) -> "Frame":
        """The same where the larger picture is shown with `side` pixels."""
        return Frame(round(self.size * side / self.painted), side)

    def _margins(self) -> tuple[int, int]:
        margin = self.painted - self.size
        return margin // 2, margin - margin // 2
