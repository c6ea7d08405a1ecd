"""`dalle generate` with the engine that people use, on a tiny random model."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe

from .conftest import Dalle, command, environment, process

FAST = ("--steps", "3", "--prior-steps", "3", "--upsampler-steps", "2", "--dtype", "fp32")


def test_a_folder_paints_and_its_pictures_say_how(dalle: Dalle, local: None, model: str):
    result = dalle("generate", "a red cat", "-n", "2", "-s", "7", "-m", model, "--json", *FAST, "--device", "cpu")
    assert (result.code, result.remarks) == (0, "")
    assert [(record["seed"], record["size"], record["device"], record["dtype"]) for record in result.objects] == [
        (7, 32, "cpu", "fp32"),
        (8, 32, "cpu", "fp32"),
    ]
    with Image.open("a-red-cat-7-grid.png") as sheet:
        assert sheet.size == (66, 32)
    recipe = read_recipe(Path("a-red-cat-7-grid.png"))
    assert recipe.digest == result.objects[0]["digest"]
    assert set(recipe.versions) == {"dallecli", "torch", "cpu"}


@pytest.mark.long
def test_pictures_painted_at_a_time_are_those_painted_alone(dalle: Dalle, local: None, model: str):
    ask = ("generate", "a red cat", "-n", "3", "-s", "7", "-m", model, *FAST, "--device", "cpu", "-o")
    for batch, file in (("1", "alone.png"), ("3", "together.png")):
        assert dalle(*ask, file, "--batch", batch).code == 0
    assert Path("alone.png").read_bytes() == Path("together.png").read_bytes()


def test_the_models_path_is_its_folder_and_the_doctor_is_content(dalle: Dalle, model: str):
    assert dalle("models", "path", model).lines == [model]
    result = dalle("doctor", "--model", model, "--device", "cpu")
    assert result.code == 0
    assert model in result.out.decode()


def test_a_dry_run_plans_for_a_folder_whatever_it_is_called(dalle: Dalle, local: None, model: str):
    result = dalle("generate", "a red cat", "-m", model, "--dry-run", "--device", "cpu")
    assert (result.code, result.remarks) == (0, "")
    assert "memory:" in result.out.decode()


def test_damaged_weights_are_three_lines_code_3_and_no_file(tmp_path: Path, model: str):
    damaged = shutil.copytree(model, tmp_path / "damaged")
    weights = damaged / "decoder" / "diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    result = process("generate", "a cat", "-m", str(damaged), DALLE_ENGINE="local")
    assert (result.code, result.out, list(Path().iterdir())) == (3, b"", [])
    assert len(result.err.splitlines()) <= 3
    assert str(weights) in result.err


@pytest.mark.long
def test_ctrl_c_in_the_middle_of_real_work_leaves_no_file(model: str):
    running = subprocess.Popen(
        command("generate", "a cat", "-m", model, "--steps", "900", "-n", "50", "--json", "--layout", "files"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(DALLE_ENGINE="local"),
    )
    with pytest.raises(subprocess.TimeoutExpired):
        running.wait(timeout=3)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert len(list(Path().iterdir())) == len(out.splitlines())
    assert b"Traceback" not in err
