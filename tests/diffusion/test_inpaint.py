"""Painting a part, on Gaussian data with two dependent parts: given the one, the law of the other is known."""

import itertools
import math

import pytest
import torch

from dallecli.diffusion.denoiser import Guess
from dallecli.diffusion.inpaint import Known, resampled
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS, ancestral
from dallecli.diffusion.schedule import Schedule

from .test_samplers import ignore

SHARED = 0.9  # the correlation of both parts
SPREAD = 0.5
COVARIANCE = SPREAD**2 * torch.tensor([[1, SHARED], [SHARED, 1]], dtype=torch.float64)
RIGHT = torch.tensor([False, True])  # what is painted
SCHEDULE = Schedule.from_config({})


def denoise(x, step):
    """The exact denoiser of N(0, COVARIANCE), for x [b, 2]: E[x0 | x] = a C (a^2 C + b^2)^-1 x."""
    seen = step.alpha_bar * COVARIANCE + (1 - step.alpha_bar) * torch.eye(2, dtype=torch.float64)
    x0 = step.signal * x @ torch.linalg.solve(seen, COVARIANCE)
    return Guess(x0, (x - step.signal * x0) / step.sigma, None)


def painted(left: float, times: int, count: int = 20, pictures: int = 4000, sampler=ancestral):
    """Right parts, each painted beside a known left one."""
    steps = resampled(SCHEDULE.steps(count), times)
    noise = Noise([0])
    x = noise.draw((pictures, 2))[0].double()
    noise.like = lambda x: torch.randn(x.shape, generator=noise._generators[0]).double()  # one generator for all
    known = Known(torch.full((pictures, 2), left, dtype=torch.float64), RIGHT, steps, noise)
    return sampler(denoise, x, steps, noise, ignore, known)


def test_what_is_known_comes_out_exactly():
    x = painted(0.123456789, times=2, pictures=10)
    assert (x[:, 0] == 0.123456789).all()
    assert not (x[:, 1] == 0.123456789).any()


def test_more_passes_make_the_painted_part_follow_the_known_one():
    # One pass hears of the known part only in passing; E[right | left] is SHARED * left.
    means = [painted(1.0, times)[:, 1].mean().item() for times in (1, 2, 5, 20)]
    assert means == sorted(means)
    assert means[0] < 0.8 * SHARED
    assert means[-1] == pytest.approx(SHARED, abs=0.05)


def test_the_known_part_is_noisy_as_the_step_wants_it():
    steps = SCHEDULE.steps(10)
    known = Known(torch.full((1, 40_000), 0.7), torch.zeros(40_000, dtype=torch.bool), steps, Noise([0]))
    for step in steps[:-1]:
        x = known(torch.full((1, 40_000), 9.0), step)
        # The mean of 40,000 draws is off by at most four times 0.005.
        assert x.mean().item() == pytest.approx(0.7 * math.sqrt(step.alpha_bar_prev), abs=0.02)
        assert x.std().item() == pytest.approx(math.sqrt(1 - step.alpha_bar_prev), rel=0.02)


def test_a_step_that_is_taken_again_starts_at_its_own_noise_level():
    steps = resampled(SCHEDULE.steps(10), 2)
    unknown = torch.ones(40_000, dtype=torch.bool)
    known = Known(torch.zeros(1, 40_000), unknown, steps, Noise([0]))
    for step, after in itertools.pairwise(steps):
        x = Noise([1]).draw((40_000,)) * math.sqrt(1 - step.alpha_bar_prev)
        sigma = after.sigma if after.t == step.t else math.sqrt(1 - step.alpha_bar_prev)
        assert known(x, step).std().item() == pytest.approx(sigma, rel=0.02)


def test_all_steps_but_the_last_are_repeated_and_counted_anew():
    steps = SCHEDULE.steps(4)
    repeated = resampled(steps, 3)
    assert [step.t for step in repeated] == [999, 999, 999, 666, 666, 666, 333, 333, 333, 0]
    assert [step.index for step in repeated] == list(range(10))
    assert resampled(steps, 1) == steps


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_be_constrained(name):
    right = painted(1.0, times=5, sampler=SAMPLERS[name])[:, 1]
    assert right.mean().item() == pytest.approx(SHARED, abs=0.3)
    # The true deviation given the left part; a solver that extrapolated over added noise would be far off.
    assert right.std().item() == pytest.approx(SPREAD * math.sqrt(1 - SHARED**2), abs=0.15)
