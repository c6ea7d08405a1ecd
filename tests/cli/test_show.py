"""`dalle show`: the recipe inside a picture, for people and for programs."""

import json
import shlex
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Dalle


def test_the_recipe_is_printed_for_people(dalle: Dalle):
    dalle("generate", "a fox", "-s", "7", "-n", "4", "-o", "x.png")
    result = dalle("show", "x.png")
    assert (result.code, result.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.lines if not line.startswith("upsampler 2"))
    assert rows["file"] == "x.png"
    assert rows["prompt"] == "a fox"
    assert rows["seed"] == "7 to 10, 4 pictures"
    assert rows["decoder"] == "25 steps, ancestral, guidance 4"
    assert rows["prior"].endswith("best of 2")


def test_the_command_it_prints_paints_the_same_picture(dalle: Dalle):
    dalle("generate", 'it\'s "quoted" $HOME `x` - and -n 3', "-s", "7", "--steps", "9", "-o", "x.png")
    again = next(line for line in dalle("show", "x.png").lines if line.startswith("again"))
    words = shlex.split(again.removeprefix("again").strip())
    assert words.pop(0) == "dalle"
    at = words.index("--")
    assert dalle(*words[:at], "-o", "y.png", *words[at:]).code == 0
    assert Path("x.png").read_bytes() == Path("y.png").read_bytes()


def test_the_recipe_is_printed_as_json(dalle: Dalle):
    dalle("generate", "a fox", "-s", "7", "-o", "x.png")
    dalle("generate", "a bear", "-s", "8", "-o", "y.webp")
    first, second = dalle("show", "--json", "x.png", "y.webp").objects
    assert (first["path"], first["prompt"], first["seed"]) == ("x.png", "a fox", 7)
    assert (second["path"], second["prompt"], second["seed"]) == ("y.webp", "a bear", 8)


def test_a_picture_from_stdin_is_read_too(dalle: Dalle):
    picture = dalle("generate", "a fox", "-s", "7", "-o", "-").out
    assert "a fox" in dalle("show", "-", stdin=picture).out.decode()


@pytest.mark.parametrize("prompt", ["\x1b[31m red", "\u202egnp", "[/oops]", "two\nlines"])
def test_a_recipe_cannot_speak_to_the_terminal(dalle: Dalle, prompt):
    dalle("generate", prompt, "-o", "x.png")
    text = dalle("show", "x.png").out.decode()
    assert "\x1b" not in text
    assert "\u202e" not in text
    if prompt != "[/oops]":
        assert "again" not in text, "a command that is shown altered would paint something else"


def test_pictures_without_a_recipe_are_refused(dalle: Dalle):
    Image.new("RGB", (4, 4)).save("plain.png")
    Path("text.png").write_text("hello")
    for name, what in (
        ("plain.png", "this picture carries no recipe"),
        ("text.png", "this is not a PNG, JPEG or WebP picture"),
        ("missing.png", "the picture cannot be read: No such file or directory"),
        (".", "this is not a file"),
    ):
        result = dalle("show", name)
        assert (result.code, result.out) == (2, b"")
        assert result.err.splitlines()[:2] == [f"error: {what}", f"where: {name}"]
    assert json.loads(dalle("show", "plain.png", "--json").err)["error"] == "BadRecipe"
