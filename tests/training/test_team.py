"""Two processes with a part of a batch each train as one does with all of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dallecli.cli.app import run
from tests.networks import ADDRESSES, CABLE, NETWORKS, inside, two_networks
from tests.training.postcards import write_postcards

STAGES = ("clip", "prior", "decoder", "upsampler")
ASK = ("train", "all", "data", "--preset", "tiny", "--train-steps", "3", "--device", "cpu", "--quiet")
# --multi_gpu is how `accelerate launch` is told to start several; --device cpu keeps them on the CPU.
LAUNCH = (sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
          "--mixed_precision", "no", "--dynamo_backend", "no")  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def last_line(model: Path, stage: str) -> dict[str, float]:
    """What the log of a stage says at its end."""
    line: dict[str, float] = json.loads((model / "training" / stage / "log.jsonl").read_text().splitlines()[-1])
    return line


@pytest.fixture(autouse=True)
def trained_by_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder `one`, in the working directory, beside the data."""
    pytest.importorskip("accelerate")
    write_postcards(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others have: more of them sum in another order
    try:
        assert run([*ASK, "--out", "one"]) == 0
    finally:
        torch.set_num_threads(threads)


def assert_same_losses() -> None:
    for stage in STAGES:
        one, two = last_line(Path("one"), stage), last_line(Path("two"), stage)
        assert one["samples"] == two["samples"]
        # The mean of three steps, the last two behind shared gradients: equal but for the order of float32 sums.
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4), stage


@pytest.mark.slow  # three processes import torch for what takes them a second
def test_two_launched_processes_have_the_losses_of_one_with_twice_the_batch() -> None:
    launch = [*LAUNCH, "--num_machines", "1", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, "-m", "dallecli", *ASK, "--out", "two"], capture_output=True, text=True, env=ENVIRONMENT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["two"]  # one of them speaks for both
    assert_same_losses()


@pytest.mark.slow  # five processes import torch
def test_two_machines_with_a_network_of_their_own_have_the_losses_of_one() -> None:
    with two_networks():
        machines = []
        for rank, network in enumerate(NETWORKS):
            launch = [*LAUNCH, "--num_machines", "2", "--machine_rank", str(rank),
                      "--main_process_ip", ADDRESSES[0], "--main_process_port", "29500"]  # fmt: skip
            environment = ENVIRONMENT | {"GLOO_SOCKET_IFNAME": CABLE[rank]}
            machines.append(inside(network, *launch, "-m", "dallecli", *ASK, "--out", "two", env=environment))
        ended = [(machine.communicate(timeout=600), machine.returncode) for machine in machines]
    assert [code for _, code in ended] == [0, 0], ended
    assert [out.split() for (out, _), _ in ended] == [["two"], []]
    assert_same_losses()
