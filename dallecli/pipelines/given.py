"""What there may be of pictures before they are painted: their noise, a part that is known, or a picture below them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A part of pictures that is painted anew, while the rest is known and stays.

    `pixels` [b 3 s s] in [-1, 1] are the pictures at the size of the last stage that runs, and `unknown`, boolean
    [b 1 s s], is True where they are painted. Every step but the last is taken `resample` times. `held` is the noise
    under which what is known lies at every step, for nets that were trained to see it so; None is fresh each time.
    """

    pixels: Tensor
    unknown: Tensor
    resample: int
    held: Tensor | None = None

    def at(self, size: int, device: torch.device) -> "Hole":
        """The same for a stage that paints `size` pixels: known there is only what is known everywhere beneath."""
        unknown = (F.adaptive_max_pool2d(self.unknown.float(), size) > 0).to(device)
        return Hole(pixels=at_size(self.pixels, size).to(device), unknown=unknown, resample=self.resample)

    def filled(self, painted: Tensor) -> Tensor:
        """The pictures [b 3 s s] with `painted` [b 3 s s] in the hole; what is known is so to the last bit."""
        return torch.where(self.unknown.to(painted.device), painted, self.pixels.to(painted))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Pictures that are painted over instead of noise: `pixels` [b or 1, 3, s, s] in [-1, 1].

    `strength`, above 0 and up to 1, is the share of the steps that are taken: at 1 next to nothing is left of them.
    """

    pixels: Tensor
    strength: float

    def first(self, steps: int) -> int:
        """The first step that is taken, of so many; the last one always is."""
        return min(steps - int(steps * self.strength), steps - 1)

    def at(self, size: int, device: torch.device) -> "Beginning":
        """The same for a stage that paints `size` pixels."""
        return Beginning(pixels=at_size(self.pixels, size).to(device), strength=self.strength)

    def under_noise(self, step: Step, noise: Noise) -> Tensor:
        """One for each of `noise`, at the noise level at which `step`, the first that is taken, begins."""
        x0 = self.pixels.expand(len(noise), -1, -1, -1)
        return step.signal * x0 + step.sigma * noise.like(x0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What there is of pictures before they are painted; without any of it they are painted from fresh noise.

    start: the x_T [b c h w] of every painting stage, by its name. eta: DDIM's, for all stages; None is the sampler's
    own, and every sampler but DDIM has to have that. hole: the part to paint, where the rest is known: that is in the
    result to the last bit. beginning: pictures that the first painting stage starts from instead of noise.
    """

    start: Mapping[str, Tensor] | None = None
    eta: float | None = None
    hole: Hole | None = None
    beginning: Beginning | None = None

    def noise(self, stage: str) -> Tensor | None:
        """The x_T [b c h w] of a stage, None where it has to be drawn."""
        return None if self.start is None else self.start[stage]


NOTHING: Final = Given()


def at_size(pixels: Tensor, size: int) -> Tensor:
    """Pictures [b 3 s s] averaged down to `size`, which is how upsamplers' low-resolution pictures are defined."""
    return pixels if pixels.shape[-1] == size else F.adaptive_avg_pool2d(pixels, size)
