"""Painting only a part of a picture: what is known is imposed after every step (Lugmayr et al. 2022, "RePaint").

A net that never learned to inpaint then works on a picture whose known part is right at every noise level. Letters are
those of schedule.py.
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
    """Every step but the last `times` times in a row, renumbered: to be run under `Known`, which adds noise in between.

    One pass only copies the known part into the picture. In further passes the net sees both parts at once and brings
    the new one into harmony with the old (RePaint, section 4.2, with jumps of one step).
    """
    repeated = [step for step in steps[:-1] for _ in range(times)] + [*steps[-1:]]
    return [replace(step, index=index) for index, step in enumerate(repeated)]


class Known:
    """A constraint on samplers: keeps the known part of pictures at the right noise level.

    `x0` [b, ...] is the clean picture. `unknown` is boolean, True where it is painted, and broadcasts to `x0`. `steps`
    are those that the sampler walks: before a step that is taken again, noise goes back to where that step begins.
    After the last step the known part is `x0`, exactly. `held` [b, ...] is the noise under which the known part lies at
    every step, fresh each time if it is not given.
    """

    def __init__(
        self, x0: Tensor, unknown: Tensor, steps: Sequence[Step], noise: Noise, held: Tensor | None = None
    ) -> None:
        self.x0 = x0
        self.unknown = unknown
        self.noise = noise
        self.held = held
        self._again = {step.index for step, after in pairwise(steps) if after.t == step.t}

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        """Impose the known part on `x`, which is at the noise level of `step.t_prev`."""
        if step.t_prev < 0:
            return torch.where(self.unknown, x, self.x0)
        sigma = math.sqrt(1 - step.alpha_bar_prev)
        eps = self.held if self.held is not None else self.noise.like(x)
        known = math.sqrt(step.alpha_bar_prev) * self.x0 + sigma * eps
        x = torch.where(self.unknown, x, known)
        if step.index in self._again:
            x = math.sqrt(1 - step.beta) * x + math.sqrt(step.beta) * self.noise.like(x)
        return x
