"""Two processes with a part of a batch each train as one does with all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dallecli.cli.app import run
from tests.training.postcards import write_postcards

STAGES = ("clip", "prior", "decoder", "upsampler")
ASK = ("train", "all", "data", "--preset", "tiny", "--train-steps", "3", "--device", "cpu", "--quiet")


def last_line(model: Path, stage: str) -> dict[str, float]:
    """What the log of a stage says at its end."""
    line: dict[str, float] = json.loads((model / "training" / stage / "log.jsonl").read_text().splitlines()[-1])
    return line


@pytest.mark.slow  # three processes import torch for what takes them a second
def test_two_launched_processes_have_the_losses_of_one_with_twice_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    write_postcards(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert run([*ASK, "--out", "one"]) == 0
    # --multi_gpu is how `accelerate launch` is told to start several; --device cpu keeps them on the CPU.
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              "--main_process_port", "0"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, "-m", "dallecli", *ASK, "--out", "two"], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["two"]  # one of them speaks for both
    for stage in STAGES:
        one, two = last_line(tmp_path / "one", stage), last_line(tmp_path / "two", stage)
        assert one["samples"] == two["samples"]
        # The mean of three steps, the last two behind shared gradients: equal but for the order of float32 sums.
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4), stage
