"""Inversion on Gaussian data, whose exact denoiser and probability flow are known (see test_samplers.py)."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.inversion import START, invert
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ddim
from dallecli.diffusion.schedule import Schedule

from .test_samplers import MEAN, SPREAD, exact_denoiser, ignore, marginal

STEPS = Schedule.from_config({}).steps(25)


def start_of(steps):
    """The step at whose noise level an inversion begins."""
    return [step for step in steps if step.sigma >= START][-1]


def noised(x0, step):
    """`x0` with the noise that `invert` gives it first, when that is drawn from seed 0."""
    return step.signal * x0 + step.sigma * Noise([0]).like(x0)


def reached(x, steps, end, denoise=None):
    """The sample at the noise level of step `end`, when DDIM paints from `x`."""
    seen = {}

    def look(x, step):
        seen[step.t_prev] = x
        return x

    ddim(denoise if denoise is not None else exact_denoiser(), x, steps, Noise([0]), ignore, look)
    return seen[end.t]


def error(refinements):
    x0 = torch.linspace(-1, 1, 9, dtype=torch.float64).reshape(1, 9)
    x = invert(exact_denoiser(), x0, STEPS, Noise([0]), ignore, refinements)
    start = start_of(STEPS)
    return (reached(x, STEPS, start) - noised(x0, start)).abs().max().item()


def test_ddim_comes_back_to_where_the_inversion_began():
    # What is left is the float32 of the steps' numbers.
    assert error(refinements=12) < 1e-6


def test_every_refinement_undoes_the_steps_better():
    errors = [error(refinements) for refinements in (1, 2, 3, 4)]
    assert errors[0] < 0.1
    assert all(after < before / 5 for before, after in pairwise(errors)), errors


def test_the_noise_of_a_picture_is_where_its_probability_flow_ends():
    steps = Schedule.from_config({}).steps(400)
    x0 = torch.linspace(-0.3, 1.1, 9, dtype=torch.float64).reshape(1, 9)
    start, last = start_of(steps), steps[0]
    level = (noised(x0, start) - start.signal * MEAN) / math.sqrt(marginal(start.alpha_bar))
    expected = last.signal * MEAN + math.sqrt(marginal(last.alpha_bar)) * level
    found = invert(exact_denoiser(), x0, steps, Noise([0]), ignore)
    # First order, like DDIM itself.
    assert (found - expected).abs().max() < 0.02


def test_the_noise_of_data_is_standard_normal():
    pictures = 64
    x0 = MEAN + SPREAD * Noise(range(100, 100 + pictures)).draw((4096,)).double()
    found = invert(exact_denoiser(), x0, Schedule.from_config({}).steps(100), Noise(range(pictures)), ignore)
    deviation = 1 / math.sqrt(pictures * 4096)
    assert found.mean().item() == pytest.approx(0, abs=4 * deviation)
    # DDIM is of first order, so the spread is off by a little.
    assert found.std().item() == pytest.approx(1, abs=0.02)


def test_the_picture_is_painted_again_but_for_what_its_first_noise_hides():
    x0 = MEAN + SPREAD * Noise([7]).draw((4096,)).double()
    found = invert(exact_denoiser(), x0, STEPS, Noise([0]), ignore)
    again = ddim(exact_denoiser(), found, STEPS, Noise([0]), ignore)
    # As the flow shrinks it on the way back to 0, the noise of the first level is still in there.
    assert (again - x0).square().mean().sqrt() < start_of(STEPS).sigma


def test_progress_counts_all_steps():
    seen = []
    invert(exact_denoiser(), torch.zeros(1, 4), STEPS, Noise([0]), seen.append)
    assert seen[-1] == len(STEPS)
    assert seen == sorted(set(seen))


def test_two_steps_suffice():
    steps = Schedule.from_config({}).steps(2)
    x0 = torch.full((1, 4), MEAN, dtype=torch.float64)
    found = invert(exact_denoiser(), x0, steps, Noise([0]), ignore)
    assert torch.equal(found, noised(x0, steps[0]))


@pytest.mark.parametrize("keeps_noise", [False, True])
def test_a_clipped_run_comes_back_whichever_noise_it_goes_on_with(keeps_noise):
    schedule = replace(Schedule.from_config({"clip_sample_range": 0.6}), keeps_noise=keeps_noise)

    def net(x, step):
        return torch.tanh(x * 0.3) + 0.2 * x

    clipped = make_denoiser(net, replace(schedule, prediction_type="sample"))
    x0 = torch.linspace(-0.9, 0.9, 9, dtype=torch.float64).reshape(1, 9)
    x = invert(clipped, x0, STEPS, Noise([0]), ignore, refinements=40)
    start = start_of(STEPS)
    assert (reached(x, STEPS, start, clipped) - noised(x0, start)).abs().max() < 1e-3
