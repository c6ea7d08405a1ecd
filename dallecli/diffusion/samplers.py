"""From noise to a sample: the samplers, functions of one signature in one table.

A sampler knows neither networks nor guidance; it sees a Denoiser, the steps and the noise. Letters are those of
schedule.py, and `lambda = log(signal / sigma)` is half the log signal-to-noise ratio (Lu et al. 2022). All coefficients
are numbers on the CPU, so a step is the network and a few elementwise operations, and never waits for the device.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from dallecli.diffusion.denoiser import Denoiser, Guess
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.schedule import Step

Constrain = Callable[[Tensor, Step], Tensor]
"""Applied after every step: takes x [b ...] at the noise level of `step.t_prev`, returns the x to continue with."""


def free(x: Tensor, step: Step) -> Tensor:
    """No constraint."""
    return x


class Sampler(Protocol):
    """Sample from the distribution that `denoise` knows, starting from the noise `x`.

    Args:
        x: noise [b ...], float32, like the result.
        steps: from the noisiest to the one whose `t_prev` is -1.
        noise: draws what a step adds.
        progress: called after each step with the number of finished steps.
        constrain: applied after each step.
    """

    def __call__(
        self,
        denoise: Denoiser,
        x: Tensor,
        steps: Sequence[Step],
        noise: Noise,
        progress: Callable[[int], None],
        constrain: Constrain = free,
    ) -> Tensor: ...


def ancestral(
    denoise: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    progress: Callable[[int], None],
    constrain: Constrain = free,
) -> Tensor:
    """Draw each step from the posterior q(x_prev | x, x0) of Ho et al. 2020, eq. 6-7, and end on its mean.

    The spread is the learned one where the denoiser predicts it, else the posterior's own ("fixed small"). It
    is the unCLIP models' own sampler, equal to diffusers' `UnCLIPScheduler.step`, draws included. The mean is moved
    where a classifier leads.
    """
    weights_x0, weights_x, log_small, log_large = _posterior(steps)
    for i, step in enumerate(steps):
        guess = denoise(x, step)
        x = weights_x0[i] * (guess.x0 if guess.lead is None else guess.lead.x0) + weights_x[i] * x
        if guess.lead is not None:
            # Where the variance would be 0 OpenAI's code has that of the step before.
            smallest = log_small[i] if step.t_prev >= 0 else _log_small_before(steps, i, log_small, log_large)
            x = x + _exp(_log_variance(guess, smallest, log_large[i])) * guess.lead.gradient
        if step.t > 0:
            x = x + _exp(0.5 * _log_variance(guess, log_small[i], log_large[i])) * noise.like(x)
        x = constrain(x, step)
        progress(i + 1)
    return x


def _log_variance(guess: Guess, small: float, large: float) -> Tensor | float:
    """The log of the variance of a step: between its bounds where the network says, else the smallest."""
    if guess.variance is None:
        return small
    share = (guess.variance + 1) / 2
    return share * large + (1 - share) * small


def _log_small_before(steps: Sequence[Step], i: int, log_small: list[float], log_large: list[float]) -> float:
    """The smallest log variance of the step that ends where step `i` begins; the largest of `i` if there is none."""
    return next((log_small[k] for k in range(i) if steps[k].t_prev == steps[i].t), log_large[i])


def _exp(value: Tensor | float) -> Tensor | float:
    return value.exp() if isinstance(value, Tensor) else math.exp(value)


def _posterior(steps: Sequence[Step]) -> list[list[float]]:
    """For each step the weights of x0 and of x in the mean, and the log of the smallest and the largest variance."""
    # In float32 like diffusers, which makes the last weight of x0 0.99947 instead of 1; OpenAI's is 1.
    dtype = steps[0].dtype
    alpha_bar = torch.tensor([step.alpha_bar for step in steps], dtype=dtype)
    alpha_bar_prev = torch.tensor([step.alpha_bar_prev for step in steps], dtype=dtype)
    beta = torch.tensor([step.beta for step in steps], dtype=dtype)
    weight_x0 = alpha_bar_prev.sqrt() * beta / (1 - alpha_bar)
    weight_x = (1 - beta).sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar)
    variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta
    # The last variance is 0; the floor keeps its logarithm finite.
    return [weight_x0.tolist(), weight_x.tolist(), variance.clamp(min=1e-20).log().tolist(), beta.log().tolist()]


def ddim(
    denoise: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    progress: Callable[[int], None],
    constrain: Constrain = free,
    *,
    eta: float = 0.0,
) -> Tensor:
    """Step along the probability flow (Song et al. 2021, eq. 12). `eta` is from 0, no new noise, to 1, as much as
    `ancestral` adds.

    Where the clean sample was clipped, the noise is derived from it, or is the network's own if the schedule says so:
    diffusers' DDIMScheduler with and without `use_clipped_model_output`. A learned variance is ignored.
    """
    for i, step in enumerate(steps):
        guess = denoise(x, step)
        left = 1 - step.alpha_bar_prev
        fresh = eta**2 * left / (1 - step.alpha_bar) * step.beta
        # With eta 1 after few steps all of it is fresh, and rounding would leave less than nothing.
        x = math.sqrt(step.alpha_bar_prev) * guess.x0 + math.sqrt(max(left - fresh, 0.0)) * guess.carried
        if fresh > 0:
            x = x + math.sqrt(fresh) * noise.like(x)
        x = constrain(x, step)
        progress(i + 1)
    return x


def dpm_solver(
    denoise: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    progress: Callable[[int], None],
    constrain: Constrain = free,
) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022b, algorithm 2, with a bounded slope: from the last two guesses, no new noise.

    A step is of second order if its jump of lambda is no longer than the one before; a longer one, as most are towards
    the end of a schedule, is of first order with a smaller error than DDIM's. The first step is of first order, and so
    is the last one, at whose end lambda is infinite. A learned variance is ignored.
    """
    # Evenly spaced timesteps of a cosine schedule end in ever longer jumps of lambda, where extrapolating from a short
    # jump over a long one overshoots. Bounded to what two equal jumps would give, the error of 25 steps on Gaussian
    # data is far below DDIM's; unbounded it is above DDIM's.
    steepest = 0.5
    before: Tensor | None = None
    h_before = 0.0
    reached = steps[0].t
    for i, step in enumerate(steps):
        if step.t != reached:  # noise was added in between, so earlier guesses belong to another x
            before = None
        reached = step.t_prev
        x0 = denoise(x, step).x0
        if step.t_prev < 0:
            x = x0
        else:
            h = _half_log_snr(step.alpha_bar_prev) - _half_log_snr(step.alpha_bar)
            slope = min(h / (2 * h_before), steepest) if before is not None else 0.0
            direction = x0 if before is None else (1 + slope) * x0 - slope * before
            shrink = math.sqrt(1 - step.alpha_bar_prev) / step.sigma
            x = shrink * x - math.sqrt(step.alpha_bar_prev) * math.expm1(-h) * direction
            before, h_before = x0, h
        x = constrain(x, step)
        progress(i + 1)
    return x


def plms(
    denoise: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: Noise,
    progress: Callable[[int], None],
    constrain: Constrain = free,
) -> Tensor:
    """Extrapolate from the last four guesses: Liu et al. 2022 (https://arxiv.org/abs/2202.09778), eq. 9 and 12.

    The velocity `v = signal eps - sigma x0` (Salimans & Ho 2022) is extrapolated. A step without earlier guesses is
    Heun's and takes two, so there is one guess more than steps. For networks that predict v and are not clipped it
    equals diffusers' PNDMScheduler with `skip_prk_steps`. A learned variance is ignored, and no noise is drawn.
    """
    past: list[Tensor] = []  # velocities, the newest last
    reached = steps[0].t
    for i, step in enumerate(steps):
        if step.t != reached:  # noise was added in between, so earlier guesses belong to another x
            past = []
        reached = step.t_prev
        v = _velocity(denoise(x, step), step)
        past = [*past[-3:], v]
        if len(past) > 1:
            weights = _ADAMS_BASHFORTH[len(past)]
            v = sum((weight * before for weight, before in zip(weights, past, strict=True)), torch.zeros_like(v))
        elif i + 1 < len(steps) and steps[i + 1].t == step.t_prev:
            v = (v + _velocity(denoise(_along(x, v, step), steps[i + 1]), steps[i + 1])) / 2
        x = constrain(_along(x, v, step), step)
        progress(i + 1)
    return x


_ADAMS_BASHFORTH = {
    2: (-1 / 2, 3 / 2),
    3: (5 / 12, -16 / 12, 23 / 12),
    4: (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
}
"""The weights of the last guesses, the oldest first, by how many there are."""


def _velocity(guess: Guess, step: Step) -> Tensor:
    return step.signal * guess.eps - step.sigma * guess.x0


def _along(x: Tensor, v: Tensor, step: Step) -> Tensor:
    """Move `x` from `step.t` to `step.t_prev` with this velocity: a step of `ddim`."""
    x0, eps = step.signal * x - step.sigma * v, step.signal * v + step.sigma * x
    return math.sqrt(step.alpha_bar_prev) * x0 + math.sqrt(1 - step.alpha_bar_prev) * eps


def idle_draws(sampler: str, steps: int) -> int:
    """How often OpenAI's published loops draw noise that they multiply by 0, where the same samplers here draw none.

    At the last step, or with DDIM at each: what is drawn afterwards comes after these.
    """
    return {"ancestral": 1, "ddim": steps}.get(sampler, 0)


def _half_log_snr(alpha_bar: float) -> float:
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))


SAMPLERS: dict[str, Sampler] = {
    "ancestral": ancestral,
    "ddim": partial(ddim, eta=0.0),
    "dpm++": dpm_solver,
    "plms": plms,
}
"""The samplers by their names in requests. "ancestral" is Karlo's and Kandinsky's own."""
