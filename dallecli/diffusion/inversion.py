"""The noise that a given picture would be painted from: DDIM backwards (Song et al. 2021, section 4.3).

Together with the image embedding it makes the paper's bipartite latent (z_i, x_T), from which the picture can be
painted again (Ramesh et al. 2022, section 3). Letters are those of schedule.py.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from torch import Tensor

from dallecli.diffusion.denoiser import Denoiser
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step

START: Final = 0.05
"""The sigma from which a picture is inverted. Below it, the noise that a net sees in a clean picture is its own error,
divided by almost nothing: followed down to t = 0, x_T came out with a deviation of 10 to 60 instead of 1."""

REFINEMENTS: Final = 2
"""Guesses for each step. One is DDIM inversion as it is usually written, which takes the guess at the wrong end of the
step; from two on, the step is undone, to 1e-3 and better at 25 steps."""


def invert(
    denoise: Denoiser,
    x0: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    progress: Callable[[int], None],
    refinements: int = REFINEMENTS,
) -> Tensor:
    """Return the noise x_T [b, ...] from which `ddim` with eta 0 and the same denoiser and steps paints `x0` [b, ...].

    `x0` first gets as much real noise, from `noise`, as the first visited level at or above `START` has; from there
    each step of `ddim` is solved for its input by fixed-point iteration (Pan et al. 2023). What is lost is what the
    denoiser cannot tell from that little noise. `progress` is called with the number of finished steps after each,
    the ones that are skipped included.
    """
    first = max(i for i, step in enumerate(steps) if step.sigma >= START)
    start = steps[first]
    x = start.signal * x0 + start.sigma * noise.like(x0)
    progress(len(steps) - first)
    for i in reversed(range(first)):
        x = _undo(denoise, x, steps[i], refinements)
        progress(len(steps) - i)
    return x


def _undo(denoise: Denoiser, x_prev: Tensor, step: Step, refinements: int) -> Tensor:
    """The x at `step.t` that `ddim` takes to `x_prev`."""
    signal_prev, sigma_prev = math.sqrt(step.alpha_bar_prev), math.sqrt(1 - step.alpha_bar_prev)
    x = x_prev
    for _ in range(refinements):
        guess = denoise(x, step).x0
        eps = (x_prev - signal_prev * guess) / sigma_prev
        x = step.signal * guess + step.sigma * eps
    return x
