"""Pictures of any size, from networks of latents whose sizes are multiples of a grid."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from dallecli.size import Size


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of a `size`, in the middle of a larger one whose sides are the next multiples of `grid`."""

    size: Size
    grid: int

    @property
    def painted(self) -> Size:
        """The size of the larger picture."""
        return self.size.rounded_up(self.grid)

    def widened(self, x: Tensor) -> Tensor:
        """Pictures [b c h w] enlarged to the size that is painted by repeating their edges."""
        margins = self._margins()
        return F.pad(x, margins, mode="replicate") if any(margins) else x

    def middle(self, x: Tensor) -> Tensor:
        """The middle [b c h w] of what was painted, which may be shown smaller."""
        (height, width), painted = x.shape[-2:], self.painted
        across, down = (
            round(self.size.width * width / painted.width),
            round(self.size.height * height / painted.height),
        )
        left, top = (width - across) // 2, (height - down) // 2
        return x[..., top : top + down, left : left + across]

    def _margins(self) -> tuple[int, int, int, int]:
        """What is painted besides, in pixels: on the left and the right, above and below."""
        across, down = self.painted.width - self.size.width, self.painted.height - self.size.height
        return across // 2, across - across // 2, down // 2, down - down // 2
