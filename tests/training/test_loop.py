"""The training loop: what a run owes to whoever interrupts it."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from dallecli.errors import BadFile, BadSetting, DiskFull, NonFinite
from dallecli.training.batch import Draw
from dallecli.training.loop import Optimisation, Report, TrainingRun, hash_seed
from dallecli.training.machine import Machine
from dallecli.training.state import STATE
from tests.training.conftest import files_of_at_most

HOW = Optimisation(batch=16, rate=1e-2, warmup=5, average=0.9)
CPU = Machine(torch.device("cpu"))


class Line:
    """Fit y = 3 x - 1 from noisy samples."""

    name = "line"

    def __init__(self, width: int = 1) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(width, 1)

    def loss(self, draw: Draw) -> Tensor:
        x = draw.normal(self.module.in_features)
        y = 3 * x.sum(dim=1, keepdim=True) - 1 + 0.1 * draw.normal(1)
        return nn.functional.mse_loss(self.module(x), y)

    def validate(self) -> dict[str, float]:
        return {"slope": float(self.module.weight.detach().mean())}

    def samples(self) -> None:
        return None


class Enough(Exception):
    """The test has seen enough of a run."""


def train(folder: Path, steps: int, watch: list[Report] | None = None) -> TrainingRun:
    run = TrainingRun(Line(), HOW, folder, CPU)
    run.train(1e9, None if watch is None else watch.append, steps=steps)
    return run


def test_a_run_learns_and_reports_what_it_learned(tmp_path: Path) -> None:
    reports: list[Report] = []
    run = train(tmp_path, 600, reports)
    # The averaged line is within the noise (0.1) of the true one.
    assert run.average[0].item() == pytest.approx(3, abs=0.1)
    assert reports[-1].figures["slope"] == pytest.approx(3, abs=0.1)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 600
    assert lines[-1]["samples"] == 600 * HOW.batch


@pytest.mark.parametrize("averaged", [0, 2000])
def test_an_interrupted_run_takes_the_same_steps_as_an_uninterrupted_one(tmp_path: Path, averaged: int) -> None:
    whole = TrainingRun(Line(), HOW, tmp_path / "whole", CPU)
    whole.counters.averaged = averaged
    for _ in range(20):
        whole._step(0.0)
        whole.counters.step += 1
    first = TrainingRun(Line(), HOW, tmp_path / "parts", CPU)
    first.counters.averaged = averaged
    for _ in range(9):
        first._step(0.0)
        first.counters.step += 1
    first.save()
    second = TrainingRun(Line(), HOW, tmp_path / "parts", CPU)
    assert second.counters.step == 9
    for _ in range(11):
        second._step(0.0)
        second.counters.step += 1
    for mine, theirs in zip([*second.weights, *second.average], [*whole.weights, *whole.average], strict=True):
        assert torch.equal(mine, theirs)


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    train(tmp_path, 10)
    before = (tmp_path / STATE).read_bytes()
    again = train(tmp_path, 10)
    assert again.counters.step == 10
    assert (tmp_path / STATE).read_bytes() == before


def test_a_state_of_another_network_is_refused_by_name(tmp_path: Path) -> None:
    train(tmp_path, 3)
    with pytest.raises(BadFile, match=r"weight\.weight"):
        TrainingRun(Line(width=2), HOW, tmp_path, CPU)


def test_a_loss_that_is_not_a_number_stops_the_run_and_leaves_the_state_before(tmp_path: Path) -> None:
    run = train(tmp_path, 3)
    before = (tmp_path / STATE).read_bytes()
    with torch.no_grad():
        run.weights[0].fill_(float("nan"))
    with pytest.raises(NonFinite, match="line"):
        run.train(1e9, steps=6, save_every=0.0)
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.parametrize("save_every", [0.0, 1e9])
def test_weights_that_are_no_numbers_are_never_saved_though_the_loss_is_one(tmp_path: Path, save_every: float) -> None:
    run = train(tmp_path, 3)
    before = (tmp_path / STATE).read_bytes()
    with torch.no_grad():
        run.weights[0].fill_(1e18)  # the loss is 1e36, and the step after it leads out of float32
    run.how = replace(HOW, rate=3e38, warmup=1)
    with pytest.raises(NonFinite, match="the weights of line hold NaN or infinity at step 4") as caught:
        run.train(1e9, steps=4, save_every=save_every)
    assert "smaller rate" in str(caught.value.hint)
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.parametrize("what", ["average", "moment"])
def test_a_state_with_any_number_that_is_none_is_not_saved(tmp_path: Path, what: str) -> None:
    run = train(tmp_path, 3)
    before = (tmp_path / STATE).read_bytes()
    held = run.average[0] if what == "average" else run.optimizer.moments(run.weights[0])["exp_avg_sq"]
    held.detach().fill_(float("inf"))
    with pytest.raises(NonFinite):
        run.save()
    with pytest.raises(NonFinite):
        run.settle(lambda: None)
    assert (tmp_path / STATE).read_bytes() == before


def test_leaving_a_run_whose_weights_are_no_numbers_keeps_the_state_before_and_says_so(tmp_path: Path) -> None:
    run = train(tmp_path, 3)
    before = (tmp_path / STATE).read_bytes()
    said: list[str] = []

    def stop(report: Report) -> None:
        with torch.no_grad():
            run.weights[0].fill_(float("inf"))
        raise Enough

    with pytest.raises(Enough):
        run.train(1e9, stop, steps=9, every=0.0, warn=said.append)
    assert said == [
        "line: step 4 was not saved, the weights of line hold NaN or infinity at step 4; the state of step 3 is kept"
    ]
    assert (tmp_path / STATE).read_bytes() == before


@pytest.mark.parametrize("field", ["rate", "warmup", "decay", "clip", "weight_decay"])
@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0])
def test_an_optimiser_has_finite_settings(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is"):
        replace(HOW, **{field: value})


def test_a_figure_that_is_no_number_is_null_in_the_log(tmp_path: Path) -> None:
    class Undecided(Line):
        def validate(self) -> dict[str, float]:
            return {"recall": math.nan, "apart": math.inf}

    TrainingRun(Undecided(), HOW, tmp_path, CPU).train(1e9, steps=2)
    line = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(line, parse_constant=lambda name: pytest.fail(name))["recall"] is None


def test_the_trained_weights_come_back_after_looking_through_the_averaged_ones(tmp_path: Path) -> None:
    run = train(tmp_path, 10)
    before = [weight.detach().clone() for weight in run.weights]
    with run.averaged():
        assert torch.equal(run.weights[0], run.average[0])
        assert not torch.equal(run.weights[0], before[0])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(run.weights, before, strict=True))


def test_every_step_has_its_own_seed() -> None:
    seeds = {hash_seed(seed, step) for seed in range(20) for step in range(500)}
    assert len(seeds) == 20 * 500
    assert all(0 <= seed < 2**63 for seed in seeds)


def curve(folder: Path) -> list[tuple[int, float]]:
    """The steps and losses in a run's log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def train_up_to(folder: Path, last: int) -> None:
    """Train a run that would take ENDLESS steps, one line of the log a step, and leave it as a kill would."""

    def watch(report: Report) -> None:
        if report.counters.step == last:
            raise Enough

    with pytest.raises(Enough):
        TrainingRun(Line(), HOW, folder, CPU).train(math.inf, watch, steps=ENDLESS, every=0.0)


ENDLESS = 100_000

KILLED = """
import math, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_loop import CPU, ENDLESS, HOW, Line, TrainingRun
TrainingRun(Line(), HOW, Path({folder!r}), CPU).train(math.inf, steps=ENDLESS, every=0.0, save_every=0.001)
"""


@pytest.mark.long
def test_a_run_killed_twice_goes_on_with_the_loss_curve_of_one_that_was_not(tmp_path: Path) -> None:
    program = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "killed"))
    steps = 0
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", program])
        deadline = time.monotonic() + 60
        while not _saved_past(tmp_path / "killed" / STATE, steps) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        resumed = TrainingRun(Line(), HOW, tmp_path / "killed", CPU)
        assert resumed.counters.step > steps
        steps = resumed.counters.step
    train_up_to(tmp_path / "killed", steps + 5)
    train_up_to(tmp_path / "whole", steps + 5)
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "whole")) == steps + 5


def _saved_past(state: Path, steps: int) -> bool:
    """Whether the state was saved some steps further on."""
    if not state.exists():
        return False
    with safe_open(state, framework="pt") as file:
        saved: int = json.loads(file.metadata()["counters"])["step"]
    return saved > steps + 5


def test_a_batch_in_parts_is_the_same_batch(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 20)
    parts = TrainingRun(Line(), replace(HOW, accumulate=4), tmp_path / "parts", CPU)
    parts.train(math.inf, steps=20)
    for mine, theirs in zip(parts.weights, whole.weights, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5)  # float32, summed in another order


def test_a_batch_that_cannot_be_shared_out_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="16 cannot be cut into 3"):
        TrainingRun(Line(), replace(HOW, accumulate=3), tmp_path, CPU)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"rate": -1.0}, {"accumulate": 0}, {"warmup": 0}, {"average": 1.0}])
def test_an_optimisation_that_cannot_be_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(HOW, **wrong)


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before_and_training_goes_on(tmp_path: Path) -> None:
    run = train(tmp_path, 5)
    before = (tmp_path / STATE).read_bytes()
    warnings: list[str] = []
    disk = ExitStack()
    disk.enter_context(files_of_at_most(500))

    def watch(report: Report) -> None:
        if report.counters.step == 15:
            assert (tmp_path / STATE).read_bytes() == before
            disk.close()  # somebody made room

    run.train(math.inf, watch, steps=30, every=0.0, save_every=0.0, warn=warnings.append)
    assert "line: step 6 was not saved, the disk is full; the state of step 5 is kept" in warnings
    assert TrainingRun(Line(), HOW, tmp_path, CPU).counters.step == 30


def test_a_disk_that_is_full_to_the_end_is_an_error_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    run = train(tmp_path, 5)
    before = (tmp_path / STATE).read_bytes()
    with files_of_at_most(500), pytest.raises(DiskFull) as full:
        run.train(math.inf, steps=30)
    assert "the state of step 5 is kept" in str(full.value.hint)
    assert (tmp_path / STATE).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {STATE, "log.jsonl"}


def test_tensorboard_gets_the_figures_of_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = TrainingRun(Line(), HOW, tmp_path / "run", CPU, events=tmp_path / "events")
    run.train(math.inf, steps=20, every=0.0)
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert {"loss", "slope", "samples_per_second"} <= set(events.Tags()["scalars"])
    shown = {event.step: event.value for event in events.Scalars("loss")}
    assert shown == pytest.approx(dict(curve(tmp_path / "run")))  # float32 there
