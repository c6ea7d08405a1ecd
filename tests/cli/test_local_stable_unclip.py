"""Every command on a tiny random Stable unCLIP: what it can do is painted, and what it cannot is said."""

from pathlib import Path

import pytest
import stable_oracle
from PIL import Image

from .conftest import Dalle

pytestmark = pytest.mark.usefixtures("local")

FAST = ("--steps", "2", "--device", "cpu", "--dtype", "fp32", "--seed", "7", "-q")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(stable_oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(stable_oracle.write(tmp_path_factory.mktemp("models") / "words", words=True))


@pytest.mark.parametrize(
    "command",
    [
        ("vary", "cat.png", "--prompt", "a cat"),
        ("vary", "cat.png", "--fidelity", "0.5", "--inversion-steps", "2"),
        ("interpolate", "cat.png", "dog.png", "--at", "0.5"),
        ("inpaint", "cat.png", "--mask", "4,4,30,30"),
    ],
    ids=lambda command: " ".join(command),
)
def test_every_task_of_pictures_is_painted_and_made_again_byte_for_byte(
    dalle: Dalle, model: str, command: tuple[str, ...]
):
    made = dalle(*command, *FAST, "-m", model, "-o", "made.png")
    assert (made.code, made.remarks) == (0, "")
    again = dalle("replay", "made.png", "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.remarks) == (0, "")
    with Image.open("made.png") as first, Image.open("again.png") as second:
        assert first.size == ((64, 48) if command[0] == "inpaint" else (64, 64))
        assert first.tobytes() == second.tobytes()


def test_a_model_with_a_prior_paints_words(dalle: Dalle, words: str):
    made = dalle("generate", "a red cat", *FAST, "--prior-steps", "2", "-m", words, "-o", "made.png")
    assert (made.code, made.remarks) == (0, "")
    assert Image.open("made.png").size == (64, 64)


def test_a_model_with_a_prior_paints_words_without_it(dalle: Dalle, words: str):
    made = dalle("generate", "a red cat", *FAST, "--prior", "none", "-m", words, "-o", "made.png")
    assert (made.code, made.remarks) == (0, "")
    again = dalle("replay", "made.png", "-m", words, "-o", "again.png", "-q")
    assert (again.code, Path("again.png").read_bytes() == Path("made.png").read_bytes()) == (0, True)


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("generate", "a cat"), "prior"),
        (("edit", "cat.png", "--from", "a cat", "--to", "a dog"), "prior"),
        (("interpolate", "cat.png", "a dog"), "prior"),
        (("inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a dog"), "prior"),
        (("rank", "cat.png", "a cat"), "prior_text_encoder"),
        (("embed", "a cat"), "prior_text_encoder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_what_needs_words_in_clips_space_is_refused_without_a_prior(
    dalle: Dalle, model: str, command: tuple[str, ...], missing: str
):
    result = dalle(*command, "-m", model)
    assert result.code == 2
    assert f"has no {missing}" in result.err
    assert not list(Path().glob("*-*.png"))


def test_the_memory_plan_counts_latents_and_pixels(dalle: Dalle, model: str):
    (findings,) = dalle("doctor", "--model", model, "--memory", "low", "--json").objects
    assert "one network at a time" in findings["placement"]["memory plan"]
    assert "vae" in findings["placement"]["networks at work"]
    assert findings["problems"] == []


def test_pictures_do_not_depend_on_the_memory_plan(dalle: Dalle, model: str):
    for memory in ("low", "auto", "high"):
        made = dalle("vary", "cat.png", *FAST, "-m", model, "--memory", memory, "-o", f"{memory}.png")
        assert (made.code, made.remarks) == (0, "")
    low, auto, high = (Image.open(f"{memory}.png").tobytes() for memory in ("low", "auto", "high"))
    assert low == auto == high
