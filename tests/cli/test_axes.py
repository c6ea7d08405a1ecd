"""`--x` and `--y`: sheets over two options, of every command that paints single pictures."""

from pathlib import Path

import pytest
from PIL import Image

from .conftest import Dalle, process


@pytest.fixture
def pictures(settings: None) -> None:
    """A red picture, and a black one with a white square."""
    Image.new("RGB", (32, 32), "red").save("cat.png")
    square = Image.new("RGB", (32, 32), "black")
    square.paste("white", (4, 4, 16, 16))
    square.save("square.png")


def test_two_options_span_a_sheet(dalle: Dalle):
    result = dalle("generate", "a {panda|fox}", "--x", "seed=1,2,3", "--y", "size=16,64", "--json", "--guidance", "2")
    assert result.code == 0
    facts = [(found["tile"], found["seed"], found["size"], found["prompt"]) for found in result.objects]
    assert facts == [([k % 3, k // 3], 1 + k % 3, (16, 64)[k // 3], "a {panda|fox}") for k in range(6)]
    assert {found["path"] for found in result.objects} == {"a-panda-fox-1-by-seed-size.png"}


def test_without_a_seed_all_pictures_of_a_sheet_have_the_same(dalle: Dalle):
    result = dalle("generate", "a fox", "--x", "prior-steps=3,5", "--json", "-o", "x.png")
    first, second = result.objects
    assert first["seed"] == second["seed"]


def test_a_dry_run_tells_of_every_picture(dalle: Dalle):
    result = dalle("generate", "a fox", "--x", "steps=3,5", "--dry-run")
    assert (result.code, len(result.lines)) == (0, 2)
    assert list(Path().glob("*.png")) == []


def test_sentences_are_an_axis_with_bars(dalle: Dalle):
    result = dalle("generate", "a fox", "--y", "prompt=a fox, at night|a dog", "--json", "--size", "16")
    assert [found["prompt"] for found in result.objects] == ["a fox, at night", "a dog"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--x", "steps"], "the axis 'steps' means nothing"),
        (["--x", "steps=1,5"], "steps 1"),
        (["--x", "stepps=1,5"], "does not know 'stepps'"),
        (["--x", "n=1,5"], "n cannot be an axis"),
        (["--x", f"seed={','.join(map(str, range(40)))}", "--y", f"steps={','.join('5' * 40)}"], "are too many"),
        (["a dog", "--x", "steps=4,5"], "of one prompt"),
    ],
)
def test_axes_that_make_no_sense_are_refused(dalle: Dalle, arguments, reason):
    result = dalle("generate", "a fox", *arguments)
    assert result.code == 2
    assert reason in result.err


@pytest.mark.usefixtures("pictures")
def test_a_picture_from_a_pipe_is_painted_over_by_every_picture_of_a_sheet():
    result = process(
        *("generate", "a dog", "--init", "-", "--x", "steps=3,4", "--y", "strength=0.2,0.4", "--json"),
        stdin=Path("cat.png").read_bytes(),
    )
    assert (result.code, result.remarks) == (0, "")
    assert [found["tile"] for found in result.objects] == [[0, 0], [1, 0], [0, 1], [1, 1]]
    named = process("generate", "a dog", "--init", "cat.png", "--x", "steps=3,4", "--json")
    assert {found["inputs"][0]["sha256"] for found in result.objects + named.objects} == {
        named.objects[0]["inputs"][0]["sha256"]
    }


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["vary", "-", "--x", "fidelity=0.2,0.8"], "stdin-vary-3-by-fidelity.png"),
        (["vary", "-", "--prompt", "a {fox}", "--x", "fidelity=0.2,0.8"], "stdin-a-fox-3-by-fidelity.png"),
        (["inpaint", "-", "--mask", "0,0,9,9", "--resample", "1", "--x", "prompt=a hat|a fox"], None),
        (["inpaint", "cat.png", "--mask", "-", "--resample", "1", "--x", "steps=3,4"], "cat-inpaint-3-by-steps.png"),
        (["edit", "-", "--from", "a", "--to", "b", "--x", "strength=0.2,0.8"], "stdin-to-b-3-by-strength.png"),
    ],
)
def test_what_a_command_is_given_in_a_pipe_is_in_every_picture_of_a_sheet(arguments, name):
    result = process(*arguments, "--seed", "3", "--json", stdin=Path("square.png").read_bytes())
    assert (result.code, result.remarks) == (0, "")
    first, second = result.objects
    assert (first["tile"], second["tile"]) == ([0, 0], [1, 0])
    assert first["inputs"] == second["inputs"] != []
    assert name is None or first["path"] == second["path"] == name


@pytest.mark.usefixtures("pictures")
def test_a_sheet_has_one_picture_for_each_pair(dalle: Dalle):
    result = dalle("edit", "cat.png", "--from", "a", "--to", "b", "--sweep", "3", "--x", "steps=3,4")
    assert (result.code, result.out) == (2, b"")
    assert result.remarks.splitlines() == ["error: each pair of values is one picture, not 3", "where: steps 3"]


@pytest.mark.usefixtures("pictures")
def test_a_sheet_is_of_one_picture_that_is_there(dalle: Dalle):
    result = dalle("vary", "cat.png", "square.png", "--x", "steps=3,4")
    assert (result.code, result.out) == (2, b"")
    assert result.remarks == "error: the pictures of a sheet with axes are of one picture\n"


def test_a_sheet_replaces_an_older_one_if_it_may(dalle: Dalle):
    arguments = ("generate", "a fox", "--seed", "1", "--x", "steps=3,4")
    assert dalle(*arguments).lines == ["a-fox-1-by-steps.png"]
    assert dalle(*arguments).lines == ["a-fox-1-by-steps-2.png"]
    assert dalle(*arguments, "--force").lines == ["a-fox-1-by-steps.png"]


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "--x", "prompt=a fox|a hen"],
        ["vary", "--x", "image=cat.png|dog.png"],
        ["inpaint", "--mask", "0,0,9,9", "--x", "image=cat.png|dog.png"],
        ["edit", "cat.png", "--from", "a cat", "--x", "to=a fox|a dog"],
        ["edit", "--to", "a fox", "--x", "from=a cat|a dog", "--y", "image=cat.png|dog.png"],
    ],
)
def test_what_a_picture_is_of_can_stand_on_an_axis_alone(dalle: Dalle, command):
    for name in ("cat.png", "dog.png"):
        Image.new("RGB", (16, 16)).save(name)
    result = dalle(*command, "--json")
    assert result.code == 0, result.err
    assert len(result.objects) == (4 if "--y" in command else 2)


@pytest.mark.parametrize(
    "command", [["vary", "--x", "steps=2,3"], ["edit", "cat.png", "--from", "a", "--x", "steps=2,3"]]
)
def test_what_no_axis_says_is_missing(dalle: Dalle, command):
    Image.new("RGB", (16, 16)).save("cat.png")
    result = dalle(*command)
    assert (result.code, "issing" in result.err) == (2, True), result.err
