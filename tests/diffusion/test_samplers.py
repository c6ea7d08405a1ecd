"""Samplers against closed forms and, step by step, against diffusers' UnCLIPScheduler.

Gaussian data has an exact denoiser: for x0 ~ N(m, s^2) and x = a x0 + b eps (a^2 = alpha_bar, b^2 = 1 - alpha_bar)

    E[x0 | x]   = m + a s^2 / V (x - a m),     V = a^2 s^2 + b^2 = Var(x)
    Var[x0 | x] = s^2 b^2 / V

The probability flow keeps (x - a m) / sqrt(V) as it is, so where a noise ends up is known, and the true reverse
transition is Gaussian, so an ancestral run with the true variance has exact moments at any number of steps.
"""

import inspect
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler, UnCLIPScheduler

from dallecli.diffusion.denoiser import Guess, make_denoiser
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS, ancestral, ddim, dpm_solver, plms
from dallecli.diffusion.schedule import Schedule
from dallecli.weights import registry

MEAN, SPREAD = 0.4, 0.25
CLASSES = ("UnCLIPScheduler", "DDPMScheduler", "DDIMScheduler", "PNDMScheduler")


def ignore(done: int) -> None:
    """No progress bar."""


def marginal(alpha_bar: float) -> float:
    """The variance of x at a noise level."""
    return alpha_bar * SPREAD**2 + 1 - alpha_bar


def exact_denoiser(true_variance: bool = False):
    """The Denoiser of N(MEAN, SPREAD^2), in double; optionally with the true variance of the reverse transition."""

    def denoise(x, step):
        a = math.sqrt(step.alpha_bar)
        x0 = MEAN + a * SPREAD**2 / marginal(step.alpha_bar) * (x - a * MEAN)
        eps = (x - a * x0) / math.sqrt(1 - step.alpha_bar)
        if not true_variance or step.t == 0:
            return Guess(x0, eps, None)
        left = (1 - step.alpha_bar_prev) / (1 - step.alpha_bar)
        weight_x0 = math.sqrt(step.alpha_bar_prev) * step.beta / (1 - step.alpha_bar)
        behind = SPREAD**2 * (1 - step.alpha_bar) / marginal(step.alpha_bar)
        log_true = math.log(left * step.beta + weight_x0**2 * behind)
        small, large = math.log(left * step.beta), math.log(step.beta)
        return Guess(x0, eps, torch.full_like(x, 2 * (log_true - small) / (large - small) - 1))

    return denoise


def flow_end(x, start: float, end: float):
    """Where the probability flow takes `x` from the noise level `start` to the noise level `end`, both alpha_bars."""
    spread = math.sqrt(marginal(end) / marginal(start))
    return math.sqrt(end) * MEAN + spread * (x - math.sqrt(start) * MEAN)


def flow_error(sampler, count: int, config=None) -> float:
    steps = Schedule.from_config(config if config is not None else {}).steps(count)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(9, 1)
    end = sampler(exact_denoiser(), x, steps, Noise([0]), ignore)
    return (end - flow_end(x, steps[0].alpha_bar, steps[-1].alpha_bar_prev)).abs().max().item()


LATENT = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
"""The schedule of Stable unCLIP's latents."""


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("derived", [False, True])
def test_ddim_with_clipping_equals_the_oracles_step_by_step(prediction, derived):
    clipping = {"clip_sample": True, "clip_sample_range": 0.3}
    config = LATENT | clipping | {"_class_name": "DDIMScheduler", "prediction_type": prediction}
    oracle = DDIMScheduler.from_config(config)
    oracle.set_timesteps(20)
    schedule = Schedule.from_config(config)
    assert schedule.keeps_noise
    schedule = replace(schedule, keeps_noise=not derived)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def net(x, t):
        return torch.tanh(x * 0.7 + t / 2000) - 0.2 * x

    expected = x
    for t in oracle.timesteps:
        expected = oracle.step(net(expected, t), t, expected, use_clipped_model_output=derived).prev_sample
    denoise = make_denoiser(lambda x, step: net(x, step.t), schedule)
    found = ddim(denoise, x, schedule.steps(20), Noise([0, 1]), ignore)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    free = make_denoiser(lambda x, step: net(x, step.t), replace(schedule, clip_range=None))
    unclipped = ddim(free, x, schedule.steps(20), Noise([0, 1]), ignore)
    assert (found - unclipped).abs().max() > 1e-2, "nothing was clipped"


def test_only_folders_of_the_class_that_keeps_the_noise_do_so():
    kept = {name: Schedule.from_config({"_class_name": name, "skip_prk_steps": True}).keeps_noise for name in CLASSES}
    assert kept == dict.fromkeys(CLASSES, False) | {"DDIMScheduler": True}


def test_every_sampler_has_the_one_signature():
    named = ["denoise", "x", "steps", "noise", "progress", "constrain"]
    for name, sampler in SAMPLERS.items():
        parameters = list(inspect.signature(sampler).parameters.values())
        assert [p.name for p in parameters[:6]] == named, name
        assert all(p.default is not inspect.Parameter.empty for p in parameters[5:]), name


def test_the_registry_knows_the_samplers_by_name():
    # It has a list of its own, because it has to be readable without torch.
    assert set(registry.SAMPLERS) == set(SAMPLERS)


def test_ddim_converges_to_the_flow_at_first_order():
    errors = [flow_error(ddim, count) for count in (50, 100, 200, 400)]
    # First order halves the error when the steps double; the span allows for the ends of the schedule.
    assert all(1.6 < wide / narrow < 2.4 for wide, narrow in pairwise(errors)), errors
    assert errors[-1] < 0.01


def test_dpm_solver_beats_ddim_and_converges_faster():
    errors = {count: flow_error(dpm_solver, count) for count in (10, 25, 100)}
    assert all(error < flow_error(ddim, count) / 2 for count, error in errors.items()), errors
    # Second order would be 16 from 25 to 100 steps.
    assert errors[25] / errors[100] > 16
    assert errors[25] < 0.01
    assert errors[100] < 1e-4


def test_plms_beats_ddim_on_the_schedule_that_it_is_for_and_converges_faster():
    config = LATENT | {"_class_name": "PNDMScheduler"}
    shares = [flow_error(plms, count, config) / flow_error(ddim, count, config) for count in (20, 100, 400)]
    assert shares[0] < 0.7
    assert shares[1] < 0.4
    assert shares[2] < 0.3


@pytest.mark.parametrize("count", [2, 3, 4, 20])
@pytest.mark.parametrize(("name", "oracle_class"), [("plms", PNDMScheduler), ("ddim", DDIMScheduler)])
def test_latent_samplers_equal_the_oracles_step_by_step(name, oracle_class, count):
    config = LATENT | {"_class_name": oracle_class.__name__}
    oracle = oracle_class.from_config(config)
    oracle.set_timesteps(count)
    schedule = Schedule.from_config(config)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def net(x, t):
        return torch.tanh(x * 0.7 + t / 2000) - 0.2 * x

    expected = x
    for t in oracle.timesteps:
        expected = oracle.step(net(expected, t), t, expected).prev_sample
    denoise = make_denoiser(lambda x, step: net(x, step.t), schedule)
    found = SAMPLERS[name](denoise, x, schedule.steps(count), Noise([0, 1]), ignore)
    # The schedule's numbers are float32 on both sides, and rounded at different places.
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_ancestral_with_the_true_variance_has_exact_moments_at_every_step():
    steps = Schedule.from_config({}).steps(12)
    pictures = 64
    noise = Noise(range(pictures))
    x = noise.draw((4096,)).double()
    seen = []

    def look(x, step):
        seen.append((step, x.mean().item(), x.var().item()))
        return x

    ancestral(exact_denoiser(true_variance=True), x, steps, noise, ignore, look)
    deviation = 1 / math.sqrt(pictures * 4096)  # of a mean, in standard deviations; sqrt(2) of it for a variance
    for step, mean, variance in seen[:-1]:
        true_mean, true_variance = math.sqrt(step.alpha_bar_prev) * MEAN, marginal(step.alpha_bar_prev)
        assert mean == pytest.approx(true_mean, abs=4 * deviation * math.sqrt(true_variance)), step
        assert variance == pytest.approx(true_variance, rel=4 * math.sqrt(2) * deviation), step
    # The last step ends on the mean without noise: the variance of E[x0 | x] at t = 0 is a little below the data's,
    # and the float32 weight of x0 there is 0.99947.
    assert seen[-1][1] == pytest.approx(MEAN, abs=1e-3)
    assert seen[-1][2] == pytest.approx(SPREAD**2, rel=0.01)


def test_full_ancestral_chain_reaches_the_data_with_its_fixed_variance():
    steps = Schedule.from_config({}).steps(1000)
    noise = Noise(range(8))
    x = ancestral(exact_denoiser(), noise.draw((2048,)).double(), steps, noise, ignore)
    # 16384 samples know a mean to 0.2 % and a variance to 1.1 %; "fixed small" makes the variance a little too small.
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert x.var().item() == pytest.approx(SPREAD**2, rel=0.05)


def test_ddim_with_eta_one_keeps_the_moments():
    steps = Schedule.from_config({}).steps(200)
    noise = Noise(range(8))
    x = ddim(exact_denoiser(), noise.draw((2048,)).double(), steps, noise, ignore, eta=1.0)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.01)
    # eta 1 spreads like the fixed small variance, which at 200 steps is 3 % short for this data.
    assert x.var().item() == pytest.approx(SPREAD**2, rel=0.08)


@pytest.mark.parametrize("config", [{}, {"beta_schedule": "squaredcos_cap_v2"}], ids=["linear", "cosine"])
def test_ddim_with_eta_one_takes_any_number_of_steps(config):
    schedule = Schedule.from_config(config)
    for count in range(2, 60):
        noise = Noise([0])
        x = ddim(exact_denoiser(), noise.draw((4,)).double(), schedule.steps(count), noise, ignore, eta=1.0)
        assert x.isfinite().all()


def test_only_random_samplers_draw():
    steps = Schedule.from_config({}).steps(5)
    drawn = {}
    for name, sampler in {**SAMPLERS, "ddim eta": lambda *a: ddim(*a, eta=0.5)}.items():
        noise, fresh = Noise([3]), Noise([3])
        sampler(exact_denoiser(), torch.zeros(1, 64, dtype=torch.float64), steps, noise, ignore)
        after = noise.draw((64,))
        draws = 0
        while not torch.equal(fresh.draw((64,)), after):
            draws += 1
        drawn[name] = draws
    # One draw a step except the last.
    assert drawn == {"ancestral": 4, "ddim": 0, "dpm++": 0, "plms": 0, "ddim eta": 4}


def test_progress_counts_every_step_and_constraints_hold_after_each():
    steps = Schedule.from_config({}).steps(4)
    for name, sampler in SAMPLERS.items():
        counted, levels = [], []

        def pin(x, step, levels=levels):
            levels.append(step.t_prev)
            return torch.full_like(x, 0.125)

        end = sampler(exact_denoiser(), torch.zeros(1, 4), steps, Noise([0]), counted.append, pin)
        assert counted == [1, 2, 3, 4], name
        assert levels == [666, 333, 0, -1], name
        assert end.unique().tolist() == [0.125], name


def test_samplers_end_on_the_clean_guess():
    steps = Schedule.from_config({}).steps(3)
    for name in set(SAMPLERS) - {"plms"}:  # which ends on a mean of its last guesses
        end = SAMPLERS[name](
            lambda x, step: Guess(torch.full_like(x, 0.5), torch.zeros_like(x), None),
            torch.zeros(1, 4),
            steps,
            Noise([0]),
            ignore,
        )
        # ancestral's last float32 weight of x0 is 0.99947, as in the oracle.
        torch.testing.assert_close(end, torch.full((1, 4), 0.5), rtol=1e-3, atol=0, msg=name)


@pytest.mark.parametrize("count", [2, 7, 25, 1000])
@pytest.mark.parametrize(
    ("config", "channels"),
    [
        ({"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample_range": 5.0}, 1),
        ({"variance_type": "fixed_small_log", "prediction_type": "epsilon"}, 1),
        ({"variance_type": "learned_range", "prediction_type": "epsilon"}, 2),
        ({"variance_type": "learned_range", "prediction_type": "sample", "clip_sample": False}, 2),
    ],
)
def test_ancestral_equals_the_oracle_step_by_step(config, channels, count):
    schedule, oracle = Schedule.from_config(config), UnCLIPScheduler(**config)
    oracle.set_timesteps(count)
    outputs = torch.Generator().manual_seed(1)
    raw = {t: torch.randn(2, 3 * channels, 4, 4, generator=outputs) for t in oracle.timesteps.tolist()}
    x = torch.randn(2, 3, 4, 4, generator=outputs)
    ours, theirs = [], []

    def record(x, step):
        ours.append(x)
        return x

    denoise = make_denoiser(lambda x, step: raw[step.t], schedule)
    ancestral(denoise, x, schedule.steps(count), Noise([5, 6]), ignore, record)

    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    timesteps = [*oracle.timesteps.tolist(), None]
    for t, t_prev in pairwise(timesteps):
        x = oracle.step(raw[t], t, x, prev_timestep=t_prev, generator=generators).prev_sample
        theirs.append(x)

    # Same float32 formulas; only the order of a few multiplications differs.
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [2, 25, 600])
@pytest.mark.parametrize("clip", [True, False])
def test_ancestral_equals_the_ddpm_oracle_step_by_step_and_draws_for_the_last_step_too(clip, count):
    config = {"_class_name": "DDPMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
    config |= {"steps_offset": 1, "clip_sample": clip}
    schedule, oracle = Schedule.from_config(config), DDPMScheduler.from_config(config)
    oracle.set_timesteps(count)
    outputs = torch.Generator().manual_seed(1)
    raw = {t: torch.randn(1, 6, 4, 4, generator=outputs) for t in oracle.timesteps.tolist()}
    x = torch.randn(1, 3, 4, 4, generator=outputs)
    ours, theirs = [], []

    def record(x, step):
        ours.append(x)
        return x

    noise, generator = Noise([5]), torch.Generator().manual_seed(5)
    denoise = make_denoiser(lambda x, step: raw[step.t], schedule)
    ancestral(denoise, x, schedule.steps(count), noise, ignore, record)
    for t in oracle.timesteps:
        # The net's second half are variances, which this schedule does not learn: Kandinsky's are thrown away.
        x = oracle.step(raw[t.item()][:, :3], t, x, generator=generator).prev_sample
        theirs.append(x)

    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-5, atol=1e-5)
    assert torch.equal(noise.state()[0], generator.get_state())
