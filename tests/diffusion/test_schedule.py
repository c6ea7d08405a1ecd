"""The tables against published check values and against diffusers' UnCLIPScheduler and DDPMScheduler."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler, UnCLIPScheduler

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.schedule import Schedule


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return Schedule.from_config({})


def test_tables_have_the_published_values(schedule):
    assert schedule.betas[0].item() == pytest.approx(4.1284e-5, rel=1e-4)
    assert schedule.betas[999].item() == pytest.approx(0.999)
    assert schedule.alpha_bars[0].item() == pytest.approx(0.99995872, rel=1e-7)
    assert schedule.alpha_bars[500].item() == pytest.approx(0.49228, rel=1e-4)
    assert schedule.alpha_bars[998].item() == pytest.approx(2.4288e-6, rel=1e-4)
    assert schedule.alpha_bars[999].item() == pytest.approx(2.4288e-9, rel=1e-4)


def test_tables_equal_the_oracles_bit_for_bit(schedule):
    oracle = UnCLIPScheduler()
    assert torch.equal(schedule.betas, oracle.betas)
    assert torch.equal(schedule.alpha_bars, oracle.alphas_cumprod)


def test_timesteps_are_the_published_lists(schedule):
    assert [step.t for step in schedule.steps(7)] == [999, 832, 666, 500, 333, 166, 0]
    assert [step.t for step in schedule.steps(25)] == [
        *(999, 957, 916, 874, 832, 791, 749, 708, 666, 624, 583, 541, 500),
        *(458, 416, 375, 333, 291, 250, 208, 166, 125, 83, 42, 0),
    ]
    assert [step.t for step in schedule.steps(50)][:5] == [999, 979, 958, 938, 917]


@pytest.mark.parametrize("count", [2, 3, 7, 25, 50, 333, 999, 1000])
def test_timesteps_equal_the_oracles(schedule, count):
    oracle = UnCLIPScheduler()
    oracle.set_timesteps(count)
    assert [step.t for step in schedule.steps(count)] == oracle.timesteps.tolist()


def test_all_steps_are_the_trained_chain_itself(schedule):
    steps = schedule.steps(1000)
    assert [step.t for step in steps] == list(range(999, -1, -1))
    assert [step.beta for step in steps] == schedule.betas.flip(0).tolist()
    assert [step.index for step in steps] == list(range(1000))


@pytest.mark.parametrize("count", [2, 7, 25, 300])
def test_jumps_multiply_back_to_the_whole_noise(schedule, count):
    steps = schedule.steps(count)
    # Without the first jump, which keeps 2.4e-9: in float32 that is 1 - 1.
    kept = torch.tensor([1 - step.beta for step in steps[1:]], dtype=torch.float64).prod().item()
    assert kept == pytest.approx(steps[0].alpha_bar_prev, rel=1e-4)
    assert all(step.alpha_bar_prev == after.alpha_bar for step, after in pairwise(steps))


def test_a_run_ends_on_the_clean_sample(schedule):
    last = schedule.steps(9)[-1]
    assert (last.t, last.t_prev, last.alpha_bar_prev) == (0, -1, 1.0)


@pytest.mark.parametrize("count", [-1, 0, 1, 1001])
def test_impossible_step_counts_are_refused(schedule, count):
    with pytest.raises(ValueError, match="between 2 and 1000"):
        schedule.steps(count)


KANDINSKY = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "thresholding": False,
}
"""As published for its decoders, where newer fields are missing."""


def test_kandinskys_tables_have_the_published_values():
    schedule = Schedule.from_config(KANDINSKY)
    assert schedule.alpha_bars[0].item() == pytest.approx(0.99915)
    assert schedule.alpha_bars[500].item() == pytest.approx(0.16077, rel=1e-4)
    assert schedule.alpha_bars[999].item() == pytest.approx(0.0015790, rel=1e-4)
    assert [step.t for step in schedule.steps(30)][-3:] == [67, 34, 1]
    assert schedule.clip_range == 1.0
    assert Schedule.from_config(KANDINSKY | {"clip_sample": False}).clip_range is None


@pytest.mark.parametrize("beta_schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("count", [2, 7, 25, 50, 100, 333, 600, 999])
def test_ddpm_tables_and_timesteps_equal_the_oracles(beta_schedule, count):
    config = KANDINSKY | {"beta_schedule": beta_schedule}
    schedule, oracle = Schedule.from_config(config), DDPMScheduler.from_config(config)
    oracle.set_timesteps(count)
    assert torch.equal(schedule.betas, oracle.betas)
    assert torch.equal(schedule.alpha_bars, oracle.alphas_cumprod)
    assert [step.t for step in schedule.steps(count)] == oracle.timesteps.tolist()


STABLE = KANDINSKY | {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "skip_prk_steps": True,
}


@pytest.mark.parametrize("oracle_class", [DDIMScheduler, PNDMScheduler])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("count", [2, 20, 30, 999])
def test_latent_tables_timesteps_and_ends_equal_the_oracles(oracle_class, whole, count):
    config = STABLE | {"_class_name": oracle_class.__name__, "set_alpha_to_one": whole}
    schedule, oracle = Schedule.from_config(config), oracle_class.from_config(config)
    oracle.set_timesteps(count)
    assert torch.equal(schedule.betas, oracle.betas)
    assert torch.equal(schedule.alpha_bars, oracle.alphas_cumprod)
    # PNDM visits the second timestep twice, for Heun's step.
    assert [step.t for step in schedule.steps(count)] == list(dict.fromkeys(oracle.timesteps.tolist()))
    assert schedule.steps(count)[-1].alpha_bar_prev == oracle.final_alpha_cumprod.item()
    assert schedule.clip_range is None


def test_what_a_latent_schedule_leaves_out_is_as_in_its_class():
    for oracle_class, clips, whole in ((DDIMScheduler, True, True), (PNDMScheduler, False, False)):
        config = {"_class_name": oracle_class.__name__, "skip_prk_steps": True}
        schedule, oracle = Schedule.from_config(config), oracle_class.from_config(config)
        assert torch.equal(schedule.alpha_bars, oracle.alphas_cumprod)
        assert schedule.last_alpha_bar == oracle.final_alpha_cumprod.item()
        assert (schedule.clip_range is not None) == clips
        assert (schedule.last_alpha_bar == 1) == whole


def test_a_stride_beyond_the_last_trained_timestep_is_refused_where_the_oracle_would_crash():
    oracle = DDPMScheduler.from_config(KANDINSKY)
    oracle.set_timesteps(1000)
    assert oracle.timesteps[0] == 1000  # there is no such timestep: 999 is the last
    with pytest.raises(ValueError, match="between 2 and 999"):
        Schedule.from_config(KANDINSKY).steps(1000)


@pytest.mark.parametrize(
    "change",
    [
        {"timestep_spacing": "trailing"},
        {"steps_offset": 5},
        {"thresholding": True, "_class_name": "DDIMScheduler"},
        {"thresholding": True, "dynamic_thresholding_ratio": 1.5},
        {"thresholding": True, "sample_max_value": 0.5},
        {"rescale_betas_zero_snr": True},
        {"trained_betas": [0.1, 0.2]},
        {"trained_betas": [0.1] * 999 + [1.0]},
        {"trained_betas": "linear"},
        {"variance_type": "fixed_large"},
        {"variance_type": "learned"},
        {"prediction_type": "sample", "_class_name": "PNDMScheduler", "skip_prk_steps": True},
        {"trained_betas": [0.1] * 1000, "_class_name": "UnCLIPScheduler", "beta_schedule": "squaredcos_cap_v2"},
        {"num_train_timesteps": 999.5},
        {"clip_sample": "false"},
        {"set_alpha_to_one": "false", "_class_name": "DDIMScheduler"},
        {"steps_offset": True},
        {"beta_start": 0.5, "beta_end": 0.1},
        {"skip_prk_steps": False, "_class_name": "PNDMScheduler"},
        {"_class_name": "EulerDiscreteScheduler"},
    ],
)
def test_other_ways_of_a_ddpm_schedule_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Schedule.from_config(KANDINSKY | change)


def test_missing_fields_are_the_published_defaults(schedule):
    assert schedule.prediction_type == "epsilon"
    assert schedule.variance_type == "fixed_small_log"
    assert schedule.clip_range == 1.0
    assert schedule.num_train_timesteps == 1000


def test_fields_are_read_from_the_file():
    schedule = Schedule.from_config(
        {
            "_class_name": "UnCLIPScheduler",
            "_diffusers_version": "0.10.0",
            "clip_sample": True,
            "clip_sample_range": 5.0,
            "num_train_timesteps": 100,
            "prediction_type": "sample",
            "variance_type": "learned_range",
        }
    )
    assert schedule.clip_range == 5.0
    assert schedule.num_train_timesteps == 100
    assert schedule.prediction_type == "sample"
    assert schedule.variance_type == "learned_range"
    assert Schedule.from_config({"clip_sample": False}).clip_range is None


@pytest.mark.parametrize("field", ["beta_schedule", "prediction_type", "variance_type"])
def test_an_unknown_kind_of_schedule_is_refused(field):
    with pytest.raises(ValueError, match=f"{field} is 'linear'"):
        Schedule.from_config({field: "linear"})


TRAINED = torch.linspace(1e-4, 0.03, 40).square().add(1e-3).tolist()
"""Betas of no schedule that has a name."""


@pytest.mark.parametrize("oracle_class", [DDPMScheduler, DDIMScheduler, PNDMScheduler])
def test_betas_that_a_file_lists_come_before_its_schedule_as_in_the_oracles(oracle_class):
    config = STABLE | {"_class_name": oracle_class.__name__, "trained_betas": TRAINED, "num_train_timesteps": 40}
    schedule, oracle = Schedule.from_config(config), oracle_class.from_config(config)
    oracle.set_timesteps(10)
    assert torch.equal(schedule.betas, oracle.betas)
    assert torch.equal(schedule.alpha_bars, oracle.alphas_cumprod)
    assert [step.t for step in schedule.steps(10)] == list(dict.fromkeys(oracle.timesteps.tolist()))
    assert Schedule.from_config(config | {"trained_betas": None}).betas[3] != schedule.betas[3]


@pytest.mark.parametrize("oracle_class", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_what_a_network_predicts_is_read_as_in_the_oracles(oracle_class, prediction_type):
    config = STABLE | {"_class_name": oracle_class.__name__, "prediction_type": prediction_type}
    schedule, oracle = Schedule.from_config(config), oracle_class.from_config(config)
    oracle.set_timesteps(10)
    x, output = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    step = schedule.steps(10)[3]
    guess = make_denoiser(lambda x, step: output, schedule)(x, step)
    wanted = oracle.step(output, step.t, x).pred_original_sample
    assert torch.allclose(guess.x0, wanted, rtol=1e-5, atol=1e-6)


def test_ddim_goes_in_whole_strides_where_a_schedule_says_so_and_there_are_any():
    schedule = Schedule.from_config({"_class_name": "GaussianDiffusion", "ddim_strides": True})
    assert [step.t for step in schedule.steps(25, "ddim")] == list(range(960, -1, -40))
    assert schedule.steps(25, "ancestral")[0].t == 999
    assert schedule.steps(60, "ddim")[0].t == 999  # no stride makes 60 steps of 1000
    assert Schedule.from_config({"_class_name": "GaussianDiffusion"}).steps(25, "ddim")[0].t == 999


@pytest.mark.parametrize("most", [1.5, 1.0])
def test_pictures_are_pulled_in_by_their_own_numbers_as_the_oracles_are(most):
    config = {"thresholding": True, "dynamic_thresholding_ratio": 0.95, "sample_max_value": most, "clip_sample": True}
    schedule = Schedule.from_config({"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", **config})
    oracle = DDPMScheduler(beta_schedule="squaredcos_cap_v2", **config)
    step = schedule.steps(10)[3]
    noise = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x = noise * torch.tensor([0.1, 1.0, 2.0, 9.0])[:, None, None, None]  # from no picture at all to far out
    guess = make_denoiser(lambda x, step: torch.zeros_like(x), schedule)(x, step)
    assert torch.equal(guess.x0, oracle._threshold_sample(x / step.signal))
    assert guess.x0.abs().max() <= 1
    alone = make_denoiser(lambda x, step: torch.zeros_like(x), schedule)(x[3:], step)
    assert torch.equal(alone.x0, guess.x0[3:])
    assert (schedule.clip_range, schedule.threshold is not None) == (None, True)
