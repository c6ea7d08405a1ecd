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
    assert (result.code, result.remarks) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in result.lines if not line.startswith("upsampler 2"))
    assert rows["file"] == "x.png"
    assert rows["prompt"] == "a fox"
    assert rows["seed"] == "7 to 10, 4 pictures"
    assert rows["decoder"] == "25 steps, ancestral, guidance 4"
    assert rows["prior"].endswith("best of 2")


def test_the_command_it_prints_makes_the_same_picture_again(dalle: Dalle):
    dalle("generate", "a fox", "-s", "7", "--steps", "9", "-o", "it's a fox.png")
    again = next(line for line in dalle("show", "it's a fox.png").lines if line.startswith("again"))
    words = shlex.split(again.removeprefix("again").strip())
    assert words == ["dalle", "replay", "it's a fox.png"]
    assert dalle(*words[1:], "-o", "y.png").code == 0
    assert Path("it's a fox.png").read_bytes() == Path("y.png").read_bytes()


def test_a_file_named_like_an_option_is_still_a_file(dalle: Dalle):
    dalle("generate", "a fox", "-s", "7", "--out", ".", "--force")
    Path("a-fox-7.png").rename("-n.png")
    again = next(line for line in dalle("show", "--", "-n.png").lines if line.startswith("again"))
    assert dalle(*shlex.split(again.removeprefix("again").strip())[1:]).lines == ["a-fox-7.png"]


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


def test_a_file_name_cannot_speak_to_the_terminal(dalle: Dalle):
    dalle("generate", "a fox", "-o", "x.png")
    Path("x.png").rename("\x1b[31m.png")
    text = dalle("show", "\x1b[31m.png").out.decode()
    assert "\x1b" not in text
    assert "again" not in text, "a command that is shown altered would not work"


def test_pictures_without_a_recipe_are_refused(dalle: Dalle):
    Image.new("RGB", (4, 4)).save("plain.png")
    Path("text.png").write_text("hello")
    for name, what in (
        ("plain.png", "this picture carries no recipe"),
        ("text.png", "this is not a picture"),
        ("missing.png", "the file cannot be read: No such file or directory"),
        (".", "the file cannot be read: Is a directory"),
    ):
        result = dalle("show", name)
        assert (result.code, result.out) == (2, b"")
        assert result.err.splitlines()[:2] == [f"error: {what}", f"where: {name}"]
    assert json.loads(dalle("show", "plain.png", "--json").err)["error"] == "BadRecipe"


def test_an_embedding_says_what_it_is_of(dalle: Dalle):
    dalle("generate", "a fox", "-o", "x.png")
    dalle("embed", "x.png", "--minus", "a fox", "--plus", "a cat", "-o", "z.safetensors")
    rows = dict(line.split(maxsplit=1) for line in dalle("show", "z.safetensors").lines)
    assert (rows["name"], rows["kind"], rows["space"]) == ("x.png - a fox + a cat", "image", "fake")
    assert dalle("show", "--json", "z.safetensors").objects[0]["dimensions"] == 32


def test_every_task_says_what_was_done_to_what(dalle: Dalle):
    dalle("generate", "a fox", "-o", "x.png", "-s", "1")
    for command, wanted in (
        (["vary", "x.png", "--fidelity", "0.5"], {"task": "vary", "fidelity": "0.5"}),
        (["interpolate", "x.png", "a cat", "--frames", "3"], {"positions": "0, 0.5, 1", "noise": "fixed"}),
        (["inpaint", "x.png", "--mask", "1,2,30,40"], {"mask": "box 1,2,30,40", "resampled": "4 times a step"}),
        (["inpaint", "x.png", "--expand", "left=8"], {"expanded": "left 8"}),
        (["edit", "x.png", "--from", "a", "--to", "b"], {"towards": "b", "strength": "0.4"}),
    ):
        (path,) = dalle(*command).lines
        rows = dict(line.split(maxsplit=1) for line in dalle("show", path).lines)
        assert wanted.items() <= rows.items()
