"""`dalle train`: what it refuses before it trains, and what it leaves behind."""

import math
from pathlib import Path

import pytest
import torch

from .conftest import Dalle


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preset", "huge"), "huge"),
        (("--stage", "painter"), "painter"),
        (("--hours", "0"), "0"),
        (("--hours", "inf"), "--hours is inf"),
        (("--threads", "100000"), "--threads is 100000"),
        (("--threads", "0"), "0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_drawn(
    dalle: Dalle, tmp_path: Path, arguments: tuple[str, ...], said: str
):
    result = dalle("train", "starter", "--state", str(tmp_path / "state"), *arguments)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "state").exists()


def test_a_stage_without_the_one_it_reads_says_what_to_train_first(dalle: Dalle, tmp_path: Path):
    result = dalle("train", "starter", "--preset", "tiny", "--stage", "prior", "--state", str(tmp_path))
    assert result.code == 3
    assert "dalle train starter --stage clip" in result.err


@pytest.mark.parametrize("number", ["0", "1" + "0" * 30])
def test_a_judge_is_asked_for_a_number_of_pictures_that_can_be(dalle: Dalle, number: str):
    result = dalle("train", "evaluate", "-n", number)
    assert (result.code, result.err.splitlines()[0]) == (2, f"error: --num is {number}")


def test_a_model_is_not_judged_without_a_judge(dalle: Dalle, tmp_path: Path):
    result = dalle("train", "evaluate", "--preset", "tiny", "--state", str(tmp_path))
    assert result.code == 3
    assert "--stage judge" in result.err


def test_a_stage_trains_and_leaves_its_state_and_log(dalle: Dalle, tmp_path: Path):
    result = dalle("train", "starter", "--preset", "tiny", "--stage", "judge", "--state", str(tmp_path), "--quiet")
    assert result.code == 0
    assert result.out == b""
    # Denormal numbers are flushed while training, and only then: the setting is the whole process's.
    assert math.ldexp(1.0, -1060) / 2 > 0
    assert torch.tensor(2.0**-140).div(2).item() > 0
    left = {path.name for path in (tmp_path / "tiny" / "judge").iterdir()}
    assert left == {"state.safetensors", "log.jsonl", ".training.lock"}


def test_a_stage_whose_budget_is_spent_says_so_and_is_left_as_it_is(dalle: Dalle, tmp_path: Path):
    ask = ("train", "starter", "--preset", "tiny", "--stage", "judge", "--state", str(tmp_path))
    assert dalle(*ask).code == 0
    state = (tmp_path / "tiny" / "judge" / "state.safetensors").read_bytes()
    again = dalle(*ask)
    assert again.code == 0
    assert "judge is left as it is" in again.err
    assert (tmp_path / "tiny" / "judge" / "state.safetensors").read_bytes() == state


@pytest.mark.slow  # the whole starter is trained, a little
def test_training_goes_on_from_a_model_where_no_state_is_left(dalle: Dalle, tmp_path: Path):
    ask = ("train", "starter", "--preset", "tiny")
    assert dalle(*ask, "--state", str(tmp_path / "first"), "--out", "model").code == 0
    state = ("--state", str(tmp_path / "second"), "--from", "./model", "--stage", "upsampler")
    result = dalle(*ask, *state, "--out", "tuned")
    assert (result.code, result.lines) == (0, ["tuned"])
    assert "upsampler starts from ./model" in result.err.splitlines()
    stages = {path.parent.name for path in (tmp_path / "second").glob("tiny/*/state.safetensors")}
    assert stages == {"upsampler"}
    assert "upsampler continues from its own training state, not from ./model" in dalle(*ask, *state).err.splitlines()


def test_a_model_of_other_sizes_is_refused_by_part_and_field_before_anything_is_drawn(dalle: Dalle, tmp_path: Path):
    result = dalle("train", "starter", "--preset", "tiny", "--from", "starter", "--state", str(tmp_path / "state"))
    assert result.code == 2
    assert "text_encoder.hidden_size is 192, the preset tiny has 16" in result.err
    assert not (tmp_path / "state" / "tiny" / "pools").exists()


def test_the_option_to_go_on_from_a_model_is_in_the_help(dalle: Dalle):
    assert b"--from NAME|DIR" in dalle("train", "starter", "--help").out


def test_the_starter_of_codes_has_stages_of_its_own(dalle: Dalle, tmp_path: Path):
    refused = dalle("train", "starter-tokens", "--preset", "tokens-tiny", "--stage", "clip", "--state", str(tmp_path))
    assert refused.code == 2
    assert "choose from dvae, transformer" in refused.err
    refused = dalle("train", "tokens", "nowhere", "--out", str(tmp_path / "out"), "--stage", "decoder")
    assert refused.code == 2
    assert "choose from dvae, transformer" in refused.err
