"""`dalle train all`: from a folder of captioned pictures to a model, on the command line."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.training.postcards import write_postcards

from .conftest import Dalle, command, environment

QUICK = ("--preset", "tiny", "--train-steps", "1")


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder with twelve captioned pictures, and three things that cannot be used."""
    folder = tmp_path / "pictures"
    write_postcards(folder)
    (folder / "alone.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "page.png").write_text("<html>")
    (folder / "page.txt").write_text("a page")
    (folder / "1.txt").write_text("word " * 40)
    return str(folder)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.long
def test_a_folder_of_pictures_becomes_a_model_that_paints(dalle: Dalle, data: str, dtype: str) -> None:
    result = dalle("train", "all", data, "--out", "model", *QUICK, "--dtype", dtype)
    assert (result.code, result.lines) == (0, ["model"])
    said = result.err.splitlines()
    assert "11 pictures to learn from, 1 held out" in said
    assert "left out: 1 without a caption (alone.png)" in said
    assert "left out: 1 unreadable pictures (page.png)" in said
    assert any(line.startswith("1 captions are longer than 32 tokens: word word") for line in said)
    assert [line.split()[0] for line in said if " held_out " in line] == ["prior", "decoder", "upsampler"]
    shown = dalle("models", "path", "./model")
    assert shown.code == 0


def test_every_fault_is_named_in_a_file(dalle: Dalle, data: str) -> None:
    dalle("train", "upsampler", data, "--out", "model", *QUICK)
    lines = Path("model/training/left-out.jsonl").read_text().splitlines()
    assert {json.loads(line)["name"] for line in lines} == {"alone.png", "page.png"}


def test_what_is_still_to_train_is_said(dalle: Dalle, data: str) -> None:
    result = dalle("train", "upsampler", data, "--out", "model", *QUICK)
    assert "not a whole model yet; still to train: clip, prior, decoder" in result.err.splitlines()
    assert not Path("model/model_index.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strict",), "1 without a caption (alone.png)"),
        (("--min-side", "100"), "12 pictures that are too small"),
        (("--hours", "0"), "--hours"),
        (("--hours", "inf"), "--hours is inf"),
        (("--hours", "nan"), "--hours is nan"),
        (("--hours", "1e308"), "--hours is 1e+308"),
        (("--train-steps", "1" + "0" * 400), "--train-steps"),
        (("--threads", "100000"), "--threads is 100000"),
        (("--set", "runs.decoder.rate=inf"), "runs.decoder.rate is inf"),
        (("--set", "runs.decoder.rate=1" + "0" * 400), "runs.decoder.rate is too large"),
        (("--set", "runs.decoder.weight_decay=nan"), "weight_decay is nan"),
        (("--set", "runs.decoder.seconds=inf"), "runs.decoder.seconds is inf"),
        (("--set", "runs.decoder.seconds=1" + "0" * 400), "runs.decoder.seconds is too large"),
        (("--set", "runs.decoder.batch=1" + "0" * 30), "batch is 1"),
        (("--set", "recipes.prior.scale=0"), "scale is 0"),
        (("--set", "recipes.upsampler.noise=inf"), "noise is inf"),
        (("--set", "decoder.norm_eps=inf"), "norm_eps is inf"),
        (("--set", "dials.stages.decoder.guidance=inf"), "dials.stages.decoder.guidance is inf"),
        (("--hours", "1", "--train-steps", "3"), "either"),
        (("--threads", "-1"), "--threads"),
        (("--dtype", "fp16"), "fp16"),
        (("--preset", "huge"), "huge"),
        (("--set", "runs.decoder.bach=3"), "bach"),
        (("--from", "nobody"), "nobody"),
        (("--preset", "karlo", "--hours", "1"), "counts steps"),
        (("--set", "runs.upsampler.accumulate=5"), "cut into 5"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused(dalle: Dalle, data: str, arguments: tuple[str, ...], said: str) -> None:
    given = ("--preset", "tiny") if "--preset" not in arguments else ()
    result = dalle("train", "all", data, "--out", "model", *given, *arguments)
    assert result.code == 2
    assert said in result.err
    assert not Path("model/training/clip").exists()
    assert 1 <= len([line for line in result.err.splitlines() if line.startswith(("error:", "where:", "hint:"))]) <= 3


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_no_data_are_refused_before_a_folder_is_made(dalle: Dalle, name: str) -> None:
    Path("empty").mkdir()
    result = dalle("train", "all", name, "--out", "model")
    assert result.code == 2
    assert not Path("model/training/album").exists()


def test_a_folder_that_holds_something_else_is_refused(dalle: Dalle, data: str) -> None:
    Path("model").mkdir()
    Path("model/mine.txt").write_text("mine")
    result = dalle("train", "all", data, "--out", "model", *QUICK)
    assert result.code == 2
    assert "dalle train did not make it" in result.err
    assert [path.name for path in Path("model").iterdir()] == ["mine.txt"]


@pytest.mark.long
def test_a_training_that_is_stopped_goes_on_where_it_stopped(dalle: Dalle, data: str) -> None:
    from dallecli.training.state import STATE, saved_step

    ask = ("train", "upsampler", data, "--out", "model", "--preset", "tiny")
    state = Path("model/training/upsampler")
    for seconds in (1, 10, 40):  # on a busy machine the first step takes its time
        running = subprocess.Popen(command(*ask, "--train-steps", "1000000"), env=environment(), stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)
        os.kill(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=60)
        assert running.returncode == 130, err
        if (state / STATE).exists() and saved_step(state / STATE) > 0:
            break
    again = dalle(*ask, "--train-steps", "1")
    assert again.code == 0
    assert "upsampler is left as it is: its 1 steps are spent" in again.err
