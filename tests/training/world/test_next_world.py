"""The weights of the next world, which lie in the repository and not in the package."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dallecli.training.machine import Machine
from dallecli.training.preset_file import load_preset
from dallecli.training.world.starter import Workshop
from dallecli.training.world.worlds import find_world
from dallecli.weights.folder import read_object

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "models" / "looks"

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="a source distribution has no weights of the next world"
)


def test_training_can_go_on_from_them(tmp_path: Path) -> None:
    workshop = Workshop(load_preset("looks"), tmp_path, Machine(torch.device("cpu")), str(MODEL))
    workshop.check_origin([name for name in workshop.chain.stages if name != "judge"])


def test_they_know_the_words_of_their_world() -> None:
    assert read_object(MODEL / "words.json") == find_world("looks").word_kinds()


def test_two_seeds_of_a_thing_are_two_pictures(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "dallecli", "generate", "a penguin", "--model", str(MODEL), "-q")
    pictures = []
    for seed in ("0", "1"):
        done = subprocess.run((*command, "--seed", seed, "-o", "-"), capture_output=True, cwd=tmp_path, check=True)
        pictures.append(np.asarray(Image.open(io.BytesIO(done.stdout)).convert("RGB"), dtype=float))
    assert pictures[0].shape == (256, 256, 3)
    assert all(picture.std() > 20 for picture in pictures)  # of 255 levels: neither is one colour
    assert np.abs(pictures[0] - pictures[1]).mean() > 5
