"""A request that exists is well-formed."""

import dataclasses

import pytest

from dallecli.errors import BadSetting, BadSize, BadSteps, NoSuchDevice, PromptError
from dallecli.request import COUNT_LIMIT, PROMPT_BYTES, SEED_LIMIT, Generate, Stage, check_prompt


def _ask(**changes: object) -> Generate:
    return Generate(**{"prompt": "a red fox", "model": "starter", **changes})  # type: ignore[arg-type]


def test_seed_zero_is_a_seed_and_no_seed_is_none():
    assert _ask(seed=0).seed == 0
    assert _ask().seed is None


def test_guidance_zero_is_a_guidance():
    assert _ask(decoder=Stage(guidance=0.0)).decoder.guidance == 0.0


def test_a_request_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _ask().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        ("", "the prompt is empty"),
        (" \n\t\u3000", "the prompt is only blanks"),
        ("a\0b", "the prompt holds a NUL at character 1"),
        ("Bär \udcff!", "the prompt is not valid UTF-8: byte 0xff at offset 5"),
        ("\ud83d", "the prompt is not valid UTF-8: surrogate 0xd83d at offset 0"),
        ("x" * 10_000_000, f"the prompt has 10000000 bytes, the limit is {PROMPT_BYTES}"),
        ("森" * PROMPT_BYTES, f"the prompt has {3 * PROMPT_BYTES} bytes, the limit is {PROMPT_BYTES}"),
    ],
)
def test_what_is_no_sentence_is_refused(prompt, what):
    with pytest.raises(PromptError) as caught:
        check_prompt(prompt)
    assert caught.value.what == what
    assert caught.value.hint is not None


def test_the_longest_prompt_is_accepted():
    check_prompt("x" * PROMPT_BYTES)
    check_prompt("a fox\r\nin the snow \x1b[31m [/oops] \u202e")


@pytest.mark.parametrize("count", [0, -1, COUNT_LIMIT + 1])
def test_a_count_outside_its_range_is_refused(count):
    with pytest.raises(BadSetting, match=f"the number of pictures is {count}"):
        _ask(count=count)


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT])
def test_a_seed_outside_its_range_is_refused(seed):
    with pytest.raises(BadSetting, match="the seed is"):
        _ask(seed=seed)


def test_the_last_picture_still_has_a_seed():
    assert _ask(seed=SEED_LIMIT - 4, count=4).seed == SEED_LIMIT - 4
    with pytest.raises(BadSetting):
        _ask(seed=SEED_LIMIT - 3, count=4)


@pytest.mark.parametrize("stage", ["prior", "decoder", "upsampler"])
@pytest.mark.parametrize("steps", [1, 0, -5])
def test_fewer_than_two_steps_are_refused_by_name(stage, steps):
    with pytest.raises(BadSteps, match=f"{steps} {stage} steps"):
        _ask(**{stage: Stage(steps=steps)})


@pytest.mark.parametrize("guidance", [-0.1, float("nan"), float("inf")])
def test_a_guidance_that_is_no_amount_is_refused(guidance):
    with pytest.raises(BadSetting, match="the prior guidance is"):
        _ask(prior=Stage(guidance=guidance))


@pytest.mark.parametrize("candidates", [0, -1])
def test_at_least_one_candidate_is_needed(candidates):
    with pytest.raises(BadSetting, match="prior candidates"):
        _ask(prior_candidates=candidates)


def test_a_size_below_one_pixel_is_refused():
    with pytest.raises(BadSize):
        _ask(size=0)


@pytest.mark.parametrize("device", ["potato", "cuda:", "cuda:-1", "CPU", "", "cpu\x1b[31m"])
def test_a_device_that_cannot_exist_is_refused(device):
    with pytest.raises(NoSuchDevice):
        _ask(device=device)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:15", "mps"])
def test_a_device_that_may_exist_is_left_to_the_machine(device):
    assert _ask(device=device).device == device


def test_an_unknown_number_type_is_refused():
    with pytest.raises(BadSetting, match="no number type is called 'int4'"):
        _ask(dtype="int4")
