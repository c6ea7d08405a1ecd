"""What the lower levels of a UNet know of a picture, kept from one step for the next ones.

From one step to the next it hardly changes, while the uppermost level follows what is left of the noise: DeepCache (Ma
et al. 2024, https://arxiv.org/abs/2312.00858), with the whole of the uppermost level computed anew.
"""

from torch import Tensor


class DeepFeatures:
    """The features of one run, of which a caller says before each step whether they are computed or reused."""

    def __init__(self) -> None:
        self.fresh = True
        """Whether the next step computes them."""
        self._kept: Tensor | None = None

    def keep(self, features: Tensor) -> None:
        """Keep what goes into the uppermost level on the way up, [b c h w]."""
        if self._kept is None or self._kept.shape != features.shape:
            self._kept = features.clone()
        else:
            # Where they were: a CUDA graph of a step that reuses them reads them there.
            self._kept.copy_(features)

    def last(self, rows: int) -> Tensor:
        """What was kept [rows c h w] of the last samples. Raises ValueError if there are not as many."""
        if self._kept is None or len(self._kept) < rows:
            raise ValueError(f"no step has computed the deep features of {rows} samples")
        return self._kept[-rows:]
