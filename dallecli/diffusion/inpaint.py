"""Painting only part of a picture: the known part is put back after every step (Lugmayr et al. 2022, "RePaint").

So a network that was not trained for it always sees a picture whose known part is right for the noise level. Letters
are those of schedule.py.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step


def resampled(steps: Sequence[Step], times: int) -> list[Step]:
    """Every step but the last `times` times in a row, renumbered: for a run under `Known`, which adds noise in between.

    A single pass copies the known part into the picture. In further passes the network sees both parts and adapts the
    new one to the old (RePaint, section 4.2, with jumps of one step).
    """
    repeated = [step for step in steps[:-1] for _ in range(times)] + [*steps[-1:]]
    return [replace(step, index=index) for index, step in enumerate(repeated)]


class Known:
    """A constraint on samplers: it keeps the known part of pictures at the right noise level.

    After the last step the known part equals `x0` exactly.

    Args:
        x0: the clean pictures [b ...].
        unknown: boolean, True where a picture is painted; broadcasts to `x0`.
        steps: those of the run. Before a step is taken again, noise is added up to the level at which it begins.
        noise: draws the noise that is added.
        held: the noise [b ...] that the known part has at every step; without it, new noise is drawn each time.
        clean: the known part has no noise at any step.
    """

    def __init__(
        self,
        x0: Tensor,
        unknown: Tensor,
        steps: Sequence[Step],
        noise: Noise,
        held: Tensor | None = None,
        clean: bool = False,
    ) -> None:
        self.x0 = x0
        self.unknown = unknown
        self.noise = noise
        self.held = held
        self.clean = clean
        self._again = {step.index for step, after in pairwise(steps) if after.t == step.t}

    def begun(self, x: Tensor) -> Tensor:
        """Return what a run begins with, `x` [b ...], with the known part put in where that is clean."""
        return torch.where(self.unknown, x, self.x0) if self.clean else x

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        """Return `x` [b ...], which is at the noise level of `step.t_prev`, with the known part put back."""
        x = torch.where(self.unknown, x, self._known(x, step))
        if step.index in self._again:
            x = self.begun(math.sqrt(1 - step.beta) * x + math.sqrt(step.beta) * self.noise.like(x))
        return x

    def _known(self, x: Tensor, step: Step) -> Tensor:
        """The pictures as the known part of `x` is taken from them after a step."""
        if step.t_prev < 0 or self.clean:
            return self.x0
        eps = self.held if self.held is not None else self.noise.like(x)
        return math.sqrt(step.alpha_bar_prev) * self.x0 + math.sqrt(1 - step.alpha_bar_prev) * eps
