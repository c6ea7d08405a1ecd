"""The published respacings, and the schedule that uses them."""

import pytest
import torch
from diffusers.pipelines.deepfloyd_if import timesteps

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.respacing import SECTIONS, respaced
from dallecli.diffusion.schedule import Schedule
from dallecli.tasks.stages import RESPACINGS

COSINE = {"_class_name": "GaussianDiffusion", "beta_schedule": "squaredcos_cap_v2"}


def test_glides_fast27_is_the_published_list() -> None:
    assert respaced("fast27", 1000, of_glide=True) == [
        *(0, 22, 44, 66, 88, 111, 133, 155, 177, 199, 200, 222, 244, 266, 288),
        *(311, 333, 355, 377, 399, 400, 500, 599, 600, 799, 800, 997),
    ]


@pytest.mark.parametrize("name", SECTIONS)
def test_ifs_respacings_are_diffusers_lists(name: str) -> None:
    assert respaced(name, 1000)[::-1] == getattr(timesteps, f"{name}_timesteps")
    assert len(respaced(name, 1000)) == RESPACINGS[name]


def test_a_run_may_be_asked_for_by_name_and_ends_on_the_clean_sample() -> None:
    for config in (COSINE, {"_class_name": "DDPMScheduler"}, {}):
        steps = Schedule.from_config(config).steps("smart50")
        assert [step.t for step in steps] == timesteps.smart50_timesteps
        assert [step.t_prev for step in steps] == [*timesteps.smart50_timesteps[1:], -1]
    assert Schedule.from_config(COSINE).steps("fast27")[0].t == 997
    with pytest.raises(ValueError, match="a section of 2 timesteps"):
        Schedule.from_config({"num_train_timesteps": 20}).steps("super27")


def test_one_section_goes_from_end_to_end_and_several_fill_theirs() -> None:
    assert respaced("4", 1000) == [0, 333, 666, 999]
    assert respaced("2,3", 10) == [0, 4, 5, 7, 9]
    assert respaced("1,1", 5) == [0, 3]


def test_a_ddim_respacing_is_a_whole_stride() -> None:
    assert respaced("ddim50", 1000) == list(range(0, 1000, 20))
    with pytest.raises(ValueError, match="no whole stride"):
        respaced("ddim999", 1000)


@pytest.mark.parametrize("count", [21, 23, 31, 35])
def test_the_published_sum_is_rounded_and_not_the_product(count: int) -> None:
    stride, along, visits = 999 / (count - 1), 0.0, []
    for _ in range(count):
        visits.append(round(along))
        along += stride
    assert respaced(str(count), 1000) == visits
    assert visits != [round(k * stride) for k in range(count)]


@pytest.mark.parametrize("name", ["fast28", "", "0", "1001", "10,x", "-3"])
def test_anything_else_is_no_respacing(name: str) -> None:
    with pytest.raises(ValueError, match=r"respacing|section"):
        respaced(name, 1000)


def test_a_named_respacing_takes_the_place_of_its_number_of_steps() -> None:
    schedule = Schedule.from_config({**COSINE, "respacings": ["fast27", "ddim50"]})
    assert [step.t for step in schedule.steps(27)][:2] == [997, 800]
    assert schedule.steps(50)[0].t == 980
    assert [step.t for step in schedule.steps(4)] == [999, 666, 333, 0]
    with pytest.raises(ValueError, match="no respacing is called"):
        Schedule.from_config({**COSINE, "respacings": ["slow27"]})


def test_its_numbers_are_those_of_double_precision() -> None:
    step = Schedule.from_config(COSINE).steps(100)[-1]
    assert step.dtype == torch.float64
    assert step.beta == 1 - step.alpha_bar  # so that ancestral sampling ends on x0 itself


def test_noise_for_pairs_is_the_first_half_of_twice_as_much() -> None:
    pairs, plain = Noise([3, 4]).for_pairs(), Noise([3, 4])
    assert torch.equal(pairs.draw((3, 8, 8)), plain.draw((2, 3, 8, 8))[:, 0])
    assert all(torch.equal(a, b) for a, b in zip(pairs.state(), plain.state(), strict=True))
