"""Models at their published size, with random weights: all of Karlo runs on a CPU with 3.5 GB of memory, IF-M with 12.

    pytest -m slow tests/pipelines/test_full_size.py

It writes 14 and 12 GB below pytest's temporary folder (`--basetemp` names another), and removes them. It takes six to
seven processor minutes for Karlo, and as many for IF-M, of which T5 needs most.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DISK = 16 * 10**9

Written = Callable[[str, str], Path]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    if shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip("needs 16 GB of disk")
    monkeypatch.syspath_prepend(BENCHMARKS)
    from random_folders import find_or_write

    folder = tmp_path / "model"
    yield lambda model, dtype: find_or_write(model, folder, dtype)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read in Linux' units")
@pytest.mark.parametrize(
    ("model", "stored", "stages", "peak"),
    [
        ("karlo", "fp32", ["--steps=2", "--prior-steps=2", "--upsampler-steps=2", "--prior-candidates=1"], 3.5e9),
        ("if-m", "bf16", ["--steps=2", "--upsampler-steps=2"], 12e9),
    ],
    ids=["karlo", "if-m"],
)
def test_a_model_at_its_published_size_paints_within_its_memory(
    written: Written, tmp_path: Path, model: str, stored: str, stages: list[str], peak: float
) -> None:
    target = tmp_path / "picture.png"
    command = [sys.executable, "-m", "dallecli", "generate", "a red cat", *stages, "--seed=1", "--device=cpu"]
    command += [f"--model={written(model, stored)}", "--dtype=bf16", "--memory=low", f"--output={target}"]
    process = subprocess.Popen(command, env={**os.environ, "DALLE_HOME": str(tmp_path / "home")})
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert usage.ru_maxrss * 1024 <= peak
    levels = np.asarray(Image.open(target))
    assert levels.shape == (256, 256, 3)
    assert levels.std() > 1  # not one grey
