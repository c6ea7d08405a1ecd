"""What the lower levels of a UNet know of a picture, kept from one step for the next ones.

From one step to the next it hardly changes, while the uppermost level follows what is left of the noise: DeepCache (Ma
et al. 2024, https://arxiv.org/abs/2312.00858), with the whole of the uppermost level computed anew.
"""

from torch import Tensor


class DeepFeatures:
    """The features of one run, of which a caller says before each step whether they are computed or reused.

    Every number of samples has its own, which stay where they are in memory: a CUDA graph of a step that reuses them
    reads them there.
    """

    def __init__(self) -> None:
        self.fresh = True
        """Whether the next step computes them."""
        self._kept: dict[int, Tensor] = {}

    def keep(self, features: Tensor) -> None:
        """Keep what goes into the uppermost level on the way up, [b c h w]."""
        if len(features) in self._kept:
            self._kept[len(features)].copy_(features)
        else:
            self._kept[len(features)] = features.clone()

    def of(self, samples: int) -> Tensor:
        """What was kept [b c h w] of so many samples. Raises ValueError if nothing was."""
        if samples not in self._kept:
            raise ValueError(f"no step has computed the deep features of {samples} samples")
        return self._kept[samples]
