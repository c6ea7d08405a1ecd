"""Every command on a tiny random GLIDE: what it does is made again to the byte, and the rest is refused by name."""

from pathlib import Path

import glide_oracle
import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe
from dallecli.tasks.stages import DiffusionSettings

from .conftest import NO_CLIP, NO_PRIOR, Dalle, assert_refused

pytestmark = pytest.mark.usefixtures("local")

FAST = ("--steps", "2", "--upsampler-steps", "2", "--device", "cpu", "--dtype", "fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(glide_oracle.write(tmp_path_factory.mktemp("models") / "tiny"))


EVERYTHING = {
    "generate": ["generate", "a cat", "-n", "2", "--negative", "a dog"],
    "small": ["generate", "a cat", "--size", "16"],
    "over": ["generate", "a cat", "--init", "cat.png", "--strength", "0.6"],
    "inpaint": ["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a dog", "--negative", "a cat"],
    "without words": ["inpaint", "cat.png", "--mask", "4,4,30,30"],
    "resampled": ["inpaint", "cat.png", "--mask", "4,4,30,30", "--prompt", "a dog", "--resample", "2"],
    "expand": ["inpaint", "cat.png", "--expand", "left=16", "--prompt", "a dog"],
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_task_is_painted_and_made_again_byte_for_byte(dalle: Dalle, model: str, name: str) -> None:
    made = dalle(*EVERYTHING[name], *FAST, "-m", model, "-s", "7", "-q", "--layout", "files")
    assert (made.code, made.err) == (0, "")
    again = dalle("replay", made.lines[-1], "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    with Image.open(made.lines[-1]) as first, Image.open("again.png") as second:
        sizes = {"small": (16, 16), "expand": (80, 48)}
        assert first.size == sizes.get(name, (64, 48) if "inpaint" in EVERYTHING[name] else (32, 32))
        assert first.tobytes() == second.tobytes()


def test_without_a_word_it_takes_the_published_dials(dalle: Dalle, model: str) -> None:
    made = dalle("generate", "a cat", "-m", model, "-s", "1", "-o", "x.png", "--dtype", "fp32", "--json")
    assert made.code == 0
    recipe = read_recipe(Path("x.png"))
    assert recipe.stages == {
        "decoder": DiffusionSettings(sampler="ancestral", steps=100, guidance=3.0),
        "upsampler": DiffusionSettings(sampler="ddim", steps=27, guidance=1.0),
    }
    assert (recipe.prior_candidates, recipe.scores) == (None, {})


REFUSED = {
    "vary": (["vary", "cat.png"], "cannot vary"),
    "interpolate": (["interpolate", "a cat", "a dog"], "cannot interpolate"),
    "edit": (["edit", "cat.png", "--from", "a cat", "--to", "a dog"], "cannot edit"),
    **NO_CLIP,
    **NO_PRIOR,
    "class": (["generate", "--class", "tench"], "knows no classes"),
    "size": (["generate", "a cat", "--size", "20"], "it paints 16, 32"),
    "steps": (["generate", "a cat", "--steps", "1001"], "1001 decoder steps"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_by_name(dalle: Dalle, model: str, name: str) -> None:
    assert_refused(dalle(*REFUSED[name][0], "-m", model, "-q"), REFUSED[name][1])


def test_the_end_of_a_long_prompt_is_named_or_refused(dalle: Dalle, model: str) -> None:
    prompt = " ".join(["cat"] * 10 + ["dog"] * 10)  # each is a token and the tower reads twelve, the first in two
    painted = dalle("generate", prompt, *FAST, "--size", "16", "-m", model, "-o", "x.png")
    assert painted.code == 0
    assert "dog dog" in painted.err
    assert read_recipe(Path("x.png")).dropped
    refused = dalle("generate", prompt, *FAST, "--strict", "-m", model, "-o", "y.png")
    assert (refused.code, "would not read the end" in refused.err) == (2, True)


def test_a_dry_run_and_the_doctor_know_its_memory(dalle: Dalle, model: str) -> None:
    dry = dalle("generate", "a cat", "-m", model, "--dry-run", "--json")
    assert dry.code == 0
    assert dry.objects[0]["recipe"]["stages"]["upsampler"]["steps"] == 27
    doctor = dalle("doctor", "--model", model)
    assert (doctor.code, "at most" in doctor.out.decode()) == (0, True)
    low = dalle("generate", "a cat", *FAST, "-m", model, "-s", "3", "--memory", "low", "-o", "low.png", "--no-metadata")
    high = dalle("generate", "a cat", *FAST, "-m", model, "-s", "3", "-o", "high.png", "--no-metadata")
    assert (low.code, high.code) == (0, 0)
    assert Path("low.png").read_bytes() == Path("high.png").read_bytes()


def test_a_prompt_file_is_painted_and_goes_on(dalle: Dalle, model: str) -> None:
    Path("prompts.txt").write_text("a cat\na dog\n")
    ask = ("generate", "--prompts", "prompts.txt", *FAST, "--size", "16", "-m", model, "-s", "1", "--out", "out", "-q")
    first = dalle(*ask)
    assert first.code == 0, first.err
    pictures = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    assert len(pictures) == 2
    name = sorted(pictures)[0]
    (Path("out") / name).unlink()
    assert dalle(*ask).code == 0
    assert (Path("out") / name).read_bytes() == pictures[name]
