"""The benchmarks run: on tiny random models, where their figures say nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import oracle
import pytest

from dallecli.nets.prepacked import can_prepack

ROOT = Path(__file__).parents[1]


def run(script: str, *options: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_row_of_the_dials_that_is_not_there_is_refused_with_those_that_are() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "sampling.py"), "--rows=as it is,--prior-guidance 5"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no row is called '--prior-guidance 5': as it is, --fast, --best," in done.stderr


@pytest.mark.slow
def test_all_stages_and_whole_pictures_are_measured_on_both_sides(tmp_path: Path) -> None:
    folder = oracle.write(tmp_path / "karlo", oracle.SHAPES["karlo"])
    options = [f"--folder={folder}", "--rounds=2", "--steps=prior=3,upsampler=2", "--whole", "--warm=1"]
    printed = run("stages.py", "karlo", *options, f"--json={tmp_path / 'figures.json'}")
    found = json.loads((tmp_path / "figures.json").read_text())["karlo bf16"]
    assert list(found["stages"]) == ["text", "prior", "decoder", "upsampler"]
    assert {stage["calls"] for stage in found["stages"].values()} == {1, 25, 7}
    for stage in found["stages"].values():
        assert stage["tflop"] > 0
        for side in ("ours", "diffusers"):
            assert len(stage[side]["step"]) == 2
            assert min(stage[side]["step"]) > 0
            assert stage[side]["memory"] > 10**8
    for kind in ("whole", "warm"):
        assert set(found[kind]) >= {"ours", "diffusers"}
    assert "projected, 1 + 25 + 25 + 7 steps" in printed
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.slow
def test_every_lever_is_measured_without_and_with(tmp_path: Path) -> None:
    printed = run("levers.py", "--dtype=fp32", "--rounds=2", f"--json={tmp_path / 'figures.json'}")
    found = json.loads((tmp_path / "figures.json").read_text())["levers fp32"]
    assert len(found["levers"]) == (6 if can_prepack() else 4)
    for name, taken in found["levers"].items():
        assert f"| {name} |" in printed
        assert {side: len(taken[side]) for side in taken} == {"without": 2, "with": 2}
        assert min(*taken["without"], *taken["with"]) > 0


@pytest.mark.slow
def test_a_side_that_fails_ends_the_measuring_and_is_named(tmp_path: Path) -> None:
    folder = oracle.write(tmp_path / "karlo", oracle.SHAPES["karlo"])
    (folder / "prior" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(AssertionError, match="a side ended with 1 before its time"):
        run("stages.py", "karlo", f"--folder={folder}", "--only=prior")
