"""The noise from which a given picture would be painted: DDIM backwards (Song et al. 2021, section 4.3).

With the image embedding it is the paper's bipartite latent (z_i, x_T), from which the picture can be painted again
(Ramesh et al. 2022, section 3). Letters are those of schedule.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from torch import Tensor

from dallecli.diffusion.denoiser import Denoiser
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step

START: Final = 0.05
"""The sigma at which the inversion of a picture begins. Below it, the noise that a network predicts in a clean picture
is its own error divided by almost nothing; inverted from t = 0, x_T has a deviation far above 1."""

REFINEMENTS: Final = 2
"""Iterations for each step. Each further one adds about one digit, which cannot be seen."""


def invert(
    denoise: Denoiser,
    x0: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    progress: Callable[[int], None],
    refinements: int = REFINEMENTS,
) -> Tensor:
    """Return the noise x_T [b ...] from which `ddim` with eta 0 and the same denoiser and steps paints `x0` [b ...].

    First, noise is drawn and added to `x0`, up to the lowest visited level at or above `START`. From there each step of
    `ddim` is solved for its input by fixed-point iteration (Pan et al. 2023, "Effective real image editing with
    accelerated iterative diffusion inversion"). Detail that the denoiser cannot distinguish from the added noise is
    lost. `progress` is called with the number of finished steps, the skipped ones included.
    """
    first = max(i for i, step in enumerate(steps) if step.sigma >= START)
    eps = noise.like(x0)
    x = steps[first].signal * x0 + steps[first].sigma * eps
    progress(len(steps) - first)
    for i in reversed(range(first)):
        step, x_prev = steps[i], x
        signal_prev, sigma_prev = math.sqrt(step.alpha_bar_prev), math.sqrt(1 - step.alpha_bar_prev)
        # x0 and eps change little along the flow, so those of the previous step are a good first guess.
        x = step.signal * x0 + step.sigma * eps
        for _ in range(refinements):
            guess = denoise(x, step)
            # The one that changes less with x is kept, and the other computed from x_prev, so that the iteration
            # converges at both ends of the schedule.
            if step.sigma < step.signal:
                eps = guess.carried
                x0 = (x_prev - sigma_prev * eps) / signal_prev
            else:
                x0 = guess.x0
                eps = (x_prev - signal_prev * x0) / sigma_prev
            x = step.signal * x0 + step.sigma * eps
            if guess.unclipped is not None:  # then x has what was clipped off x0 as well
                x = x + step.sigma * (guess.eps - guess.unclipped)
        progress(len(steps) - i)
    return x
