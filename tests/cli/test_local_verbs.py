"""The verbs with the engine that people use, on a tiny random model; and what only the starter itself can show."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe

from .conftest import Dalle, environment, process

pytestmark = pytest.mark.usefixtures("local")

FAST = ("--steps", "3", "--upsampler-steps", "2", "--device", "cpu", "--dtype", "fp32")
INVERTED = ("--inversion-steps", "3")


EVERYTHING = {
    "best": ["generate", "a cat", "-n", "2", "--best-of", "3", "--prior-steps", "2"],
    "vary": ["vary", "cat.png", "-n", "2", "--fidelity", "0.5", "--prompt", "a cat", *INVERTED],
    "interpolate": ["interpolate", "cat.png", "a dog", "dog.png", "--frames", "4", "--prior-steps", "2"],
    "inpaint": ["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a dog", "--prior-steps", "2", "-n", "2"],
    "edit": ["edit", "cat.png", "--from", "a cat", "--to", "a dog", "--sweep", "3", *INVERTED],
}


@pytest.mark.parametrize("name", EVERYTHING)
@pytest.mark.long
def test_every_task_is_painted_and_made_again_byte_for_byte(dalle: Dalle, model: str, name: str):
    made = dalle(*EVERYTHING[name], *FAST, "-m", model, "-s", "7", "-q", "--layout", "both")
    assert (made.code, made.remarks) == (0, "")
    *singles, last = made.lines
    for path in [last, *singles[-1:]]:
        again = dalle("replay", path, "-m", model, "-o", "again.png", "-q", "--force")
        assert (again.code, again.remarks) == (0, ""), path
        with Image.open(path) as first, Image.open("again.png") as second:
            assert first.tobytes() == second.tobytes(), path
    assert len({Path(path).read_bytes() for path in made.lines}) == len(made.lines)


@pytest.mark.long
def test_embeddings_go_through_pipes(model: str):
    made = process("embed", "cat.png", "--minus", "a cat", "--plus", "a dog", "-o", "-", "-m", model, "-q")
    assert (made.code, made.remarks) == (0, "")
    painted = process("vary", "-", *FAST, "-q", "-s", "7", "-o", "x.png", "-m", model, stdin=made.out)
    assert (painted.code, painted.remarks) == (0, "")
    assert read_recipe(Path("x.png")).inputs[0].data == made.out


@pytest.mark.long
def test_clip_knows_what_the_starter_paints(dalle: Dalle):
    assert dalle("generate", "a red apple", "-s", "1", "-o", "x.png", "-q").code == 0
    rows = dalle("rank", "x.png", "a fish", "a red apple", "a castle", "--json").objects
    assert rows[0]["text"] == "a red apple"
    assert rows[0]["share"] > 0.9


def test_what_is_not_read_is_a_warning_like_any_other(dalle: Dalle):
    sentence = " ".join(["a cat and a dog and"] * 9)
    assert dalle("rank", "cat.png", sentence).err.startswith("warning: starter would not read the end of this: ")
    assert dalle("rank", "cat.png", sentence, "-q").remarks == ""


def test_weights_are_not_loaded_for_what_is_refused():
    """Torch takes seconds to import: who mistyped a name should not wait for it."""
    code = """
import sys
from dallecli.cli.app import run
for words in (
    ["vary", "missing.png"], ["interpolate", "cat.png"], ["inpaint", "cat.png", "--mask", "0,0,64,48"],
    ["edit", "cat.png", "--from", "a", "--to", "a"], ["vary", "cat.png", "--size", "17"],
    ["vary", "cat.png", "--fidelity", "0.5", "--inversion-steps", "9999"], ["rank", "missing.png"],
    ["embed", " "], ["replay", "cat.png"], ["interpolate", "cat.png", "dog.png", "-o", "x.avi"],
):
    assert run(words) == 2, words
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
