"""Karlo at its published size, with random weights: all of it runs on a CPU with 3.5 GB of memory.

    pytest -m slow tests/pipelines/test_full_size.py

It writes 14 GB below pytest's temporary folder (`--basetemp` names another). It takes six to seven processor minutes.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle
import pytest
from PIL import Image

KEYS = Path(__file__).parent.parent / "nets" / "published_keys"
PARTS = ("text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last")
DISK = 16 * 10**9
PEAK = 3.5e9


def write_random(folder: Path, published: dict) -> None:
    """Write the config and the float32 weights of one part: small random matrices, norms that leave all as it is."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(published["config"]))
    header, end = {}, 0
    for name, shape in published["state_dict"].items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    block = np.random.default_rng(len(text)).standard_normal(2**20, dtype=np.float32)
    with (folder / "diffusion_pytorch_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in published["state_dict"].items():
            count = int(np.prod(shape))
            if (len(shape) == 1 and "norm" in name and name.endswith("weight")) or name == "clip_std":
                np.ones(count, np.float32).tofile(file)
                continue
            scaled = block * np.float32(np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.01)
            for first in range(0, count, len(block)):
                scaled[: count - first].tofile(file)


@pytest.fixture
def karlo(tmp_path: Path) -> Iterator[Path]:
    if shutil.disk_usage(tmp_path).free < DISK:
        pytest.skip("needs 16 GB of disk")
    folder = tmp_path / "karlo"
    oracle.tokenizer_files(folder / "tokenizer", replace(oracle.SHAPES["karlo"], context=77))
    for part in PARTS:
        name = part.replace("super_res_last", "super_res_first")  # these two are laid out alike
        write_random(folder / part, json.loads((KEYS / f"{name}.json").read_text()))
    for name, scheduler in oracle.schedulers(oracle.SHAPES["karlo"]).items():
        scheduler.save_pretrained(folder / name)
    oracle.write_index(folder, "UnCLIPPipeline", {*PARTS})
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read in Linux' units")
def test_karlo_at_its_published_size_paints_in_three_and_a_half_gigabytes(karlo: Path, tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    steps = [f"--{stage}steps=2" for stage in ("", "prior-", "upsampler-")]
    command = [sys.executable, "-m", "dallecli", "generate", "a red cat", *steps, "--prior-candidates=1", "--seed=1"]
    command += [f"--model={karlo}", "--device=cpu", "--dtype=bf16", "--memory=low", f"--output={target}"]
    process = subprocess.Popen(command, env={**os.environ, "DALLE_HOME": str(tmp_path / "home")})
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert usage.ru_maxrss * 1024 <= PEAK
    levels = np.asarray(Image.open(target))
    assert levels.shape == (256, 256, 3)
    assert levels.std() > 1  # not one grey
