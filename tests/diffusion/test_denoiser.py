"""The order net, guidance, prediction type, clip; and one truth behind every prediction type."""

import pytest
import torch

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.guidance import pair
from dallecli.diffusion.schedule import Schedule


def noisy(schedule, step, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(4, 3, 2, 2, generator=generator) * 2 - 1
    eps = torch.randn(4, 3, 2, 2, generator=generator)
    return x0, eps, step.alpha_bar**0.5 * x0 + (1 - step.alpha_bar) ** 0.5 * eps


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_type_finds_the_same_clean_sample(prediction):
    schedule = Schedule.from_config({"prediction_type": prediction})
    step = schedule.steps(25)[12]
    x0, eps, x = noisy(schedule, step)
    truths = {
        "epsilon": eps,
        "sample": x0,
        "v_prediction": step.alpha_bar**0.5 * eps - (1 - step.alpha_bar) ** 0.5 * x0,
    }
    guess = make_denoiser(lambda x, step: truths[prediction], schedule)(x, step)
    # At t = 500 the formulas divide by about 0.7: float32 rounding and a little more.
    torch.testing.assert_close(guess.x0, x0, rtol=0, atol=1e-6)
    torch.testing.assert_close(guess.eps, eps, rtol=0, atol=1e-6)


def test_the_net_is_told_the_timestep():
    schedule = Schedule.from_config({})
    told = []

    def net(x, step):
        told.append(step.t)
        return x

    for step in schedule.steps(3):
        make_denoiser(net, schedule)(torch.zeros(1, 3, 2, 2), step)
    assert told == [999, 500, 0]


def test_guidance_comes_before_clipping():
    schedule = Schedule.from_config({"prediction_type": "sample", "clip_sample_range": 1.0})

    def net(x, step):
        return pair(torch.full((1, 3), 4.0), torch.full((1, 3), 3.0))

    guess = make_denoiser(net, schedule, 2.5)(torch.zeros(1, 3), schedule.steps(2)[0])
    # 4 + 2.5 (3 - 4) = 1.5, clipped 1; clipped first it would be 1 as well, so look at a scale that overshoots down.
    assert guess.x0.unique().tolist() == [1.0]
    guess = make_denoiser(net, schedule, 3.5)(torch.zeros(1, 3), schedule.steps(2)[0])
    assert guess.x0.unique().tolist() == [0.5]


def test_noise_agrees_with_a_clipped_sample():
    schedule = Schedule.from_config({"clip_sample_range": 0.25})
    step = schedule.steps(25)[12]
    _, eps, x = noisy(schedule, step)
    guess = make_denoiser(lambda x, step: eps, schedule)(x, step)
    assert guess.x0.abs().max() == 0.25
    again = step.alpha_bar**0.5 * guess.x0 + (1 - step.alpha_bar) ** 0.5 * guess.eps
    torch.testing.assert_close(again, x, rtol=0, atol=1e-6)  # float32 rounding of numbers near 1


def test_variance_is_passed_on_only_where_the_schedule_learns_it():
    def net(x, step):
        return torch.cat([x, torch.full_like(x, 0.5)], dim=1)

    x = torch.zeros(1, 3, 2, 2)
    learned, fixed = Schedule.from_config({"variance_type": "learned_range"}), Schedule.from_config({})
    assert make_denoiser(net, learned)(x, learned.steps(2)[0]).variance.unique().tolist() == [0.5]
    assert make_denoiser(net, fixed)(x, fixed.steps(2)[0]).variance is None


def test_channels_that_fit_nothing_are_refused():
    schedule = Schedule.from_config({"variance_type": "learned_range"})
    x, step = torch.zeros(1, 3, 2, 2), schedule.steps(2)[0]
    with pytest.raises(ValueError, match="predicts none"):
        make_denoiser(lambda x, step: x, schedule)(x, step)
    with pytest.raises(ValueError, match="4 channels for a sample of 3"):
        make_denoiser(lambda x, step: torch.zeros(1, 4, 2, 2), schedule)(x, step)
