"""What can be given of pictures before they are painted: their noise, a part that is known, a picture to begin with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A part of pictures that is painted, while the rest is known and stays."""

    pixels: Tensor
    """[b 3 h w] in [-1, 1], the pictures at the size of the last stage that runs."""
    unknown: Tensor
    """[b 1 h w], boolean, True where they are painted."""
    resample: int
    """How often every step but the last is taken."""
    held: Tensor | None = None
    """The noise that the known part has at every step, for networks that were trained so; None draws it each time."""
    clean: bool = False
    """Whether the known part never has any noise, from the beginning on, as in DeepFloyd IF's pipelines."""

    def at(self, size: Sequence[int], device: torch.device) -> "Hole":
        """The same for a stage that paints this height and width: a pixel is known if all pixels that it covers are."""
        unknown = (F.adaptive_max_pool2d(self.unknown.float(), tuple(size)) > 0).to(device)
        return replace(self, pixels=at_size(self.pixels, size).to(device), unknown=unknown, held=None)

    def filled(self, painted: Tensor) -> Tensor:
        """The pictures [b 3 h w] with `painted` [b 3 h w] in the hole; the known part stays exactly as it is."""
        return torch.where(self.unknown.to(painted.device), painted, self.pixels.to(painted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Pictures that are painted over, instead of noise."""

    pixels: Tensor
    """[b 3 h w] or [1 3 h w], in [-1, 1]."""
    strength: float
    """Above 0 and up to 1: the share of the steps that are taken. At 1 next to nothing is left of the pictures."""

    def first(self, steps: int) -> int:
        """The number of the first step that is taken, of so many; the last one always is."""
        return min(steps - int(steps * self.strength), steps - 1)

    def at(self, size: Sequence[int], device: torch.device) -> "Beginning":
        """The same for a stage that paints this height and width."""
        return Beginning(pixels=at_size(self.pixels, size).to(device), strength=self.strength)

    def under_noise(self, step: Step, noise: Noise, drawn: Tensor | None = None) -> Tensor:
        """The pictures [b c h w], one for each of `noise`, at the noise level of `step`, the first that is taken.

        `drawn` [b c h w] is noise that was drawn before, if it was.
        """
        x0 = self.pixels.expand(len(noise), -1, -1, -1)
        return step.signal * x0 + step.sigma * (drawn if drawn is not None else noise.like(x0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is given of pictures before they are painted. With nothing given they are painted from new noise."""

    start: Mapping[str, Tensor] | None = None
    """The x_T [b c h w] of every painting stage, by its name."""
    eta: float | None = None
    """DDIM's, for all stages; None is the sampler's own, and the only choice for other samplers."""
    hole: Hole | None = None
    """The part to paint; the rest is exactly in the result."""
    beginning: Beginning | None = None
    """Pictures with which the first painting stage begins, instead of noise."""

    def noise(self, stage: str) -> Tensor | None:
        """The x_T [b c h w] of a stage; None if it is to be drawn."""
        return None if self.start is None else self.start[stage]


NOTHING: Final = Given()


def at_size(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Pictures [b 3 h w] averaged down to a height and width, as upsamplers' low-resolution pictures are defined."""
    height, width = size
    return pixels if pixels.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(pixels, (height, width))
