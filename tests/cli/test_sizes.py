"""`--size`: squares, other sizes, and proportions, in every command, prompt file, sheet, animation and recipe."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe
from dallecli.size import Size

from .conftest import Dalle, assert_refused


def size_of(path: str | Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.fixture
def cat() -> str:
    Image.new("RGB", (96, 64), "orange").save("cat.png")
    return "cat.png"


COMMANDS = {
    "generate": ("generate", "a fox"),
    "init": ("generate", "a fox", "--init", "cat.png", "--strength", "0.6"),
    "vary": ("vary", "cat.png"),
    "interpolate": ("interpolate", "cat.png", "a fox", "--at", "0.5"),
    "edit": ("edit", "cat.png", "--from", "a cat", "--to", "a dog"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("size", "pixels", "painted"),
    [("384x256", (384, 256), "384x256"), ("300x250", (300, 250), "384x256"), ("9:16", (216, 384), "256x384")],
)
def test_every_command_paints_what_is_asked_for_and_replays_it(dalle: Dalle, cat, name, size, pixels, painted):
    result = dalle(*COMMANDS[name], "-s", "7", "--size", size, "-o", "a.png")
    assert (result.code, size_of("a.png")) == (0, pixels), result.err
    recipe = read_recipe(Path("a.png"))
    assert (str(recipe.size), recipe.picture_size) == (painted, Size(*pixels))
    assert dalle("replay", "a.png", "-o", "b.png", "--input", cat).code == 0
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()


def test_a_square_is_recorded_as_ever(dalle: Dalle):
    for k, size in enumerate(("64", "64x64")):
        dalle("generate", "a fox", "-s", "7", "--size", size, "-o", f"{k}.png")
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes()
    stated = read_recipe(Path("0.png")).to_dict()
    assert (stated["size"], "crop" in stated) == (64, False)


def test_a_recipe_states_a_size_as_it_is_asked_for(dalle: Dalle):
    dalle("generate", "a fox", "--size", "300x250", "-o", "a.png")
    stated = read_recipe(Path("a.png")).to_dict()
    assert (stated["size"], stated["crop"]) == ("384x256", "300x250")
    shown = dalle("show", "a.png").out.decode()
    assert "300 x 250 pixels, the middle of 384 x 256" in shown


def test_a_record_has_the_painted_size_and_the_sides_of_the_picture(dalle: Dalle):
    (record,) = dalle("generate", "a fox", "--size", "300x250", "--json").objects
    assert (record["size"], record["width"], record["height"]) == ("384x256", 300, 250)


def test_a_dry_run_says_what_will_be_painted_and_cut(dalle: Dalle):
    said = dalle("generate", "a fox", "--size", "300x250", "-s", "7", "--dry-run").out.decode()
    assert "1 picture of 300x250 px out of 384x256, seed 7" in said


def test_picture_k_is_the_picture_of_its_own_seed_in_any_batch(dalle: Dalle):
    dalle("generate", "a fox", "-n", "3", "-s", "7", "--size", "384x256", "--layout", "files", "--out", ".")
    dalle("generate", "a fox", "-s", "9", "--size", "384x256", "-o", "alone.png")
    assert Path("a-fox-9.png").read_bytes() == Path("alone.png").read_bytes()


def test_sheets_and_animations_are_of_the_pictures_size(dalle: Dalle, cat):
    dalle("generate", "a fox", "-n", "4", "--size", "384x256", "-o", "sheet.png")
    width, height = size_of("sheet.png")
    assert width > 2 * 384 and height > 2 * 256 and width > height
    dalle("interpolate", cat, "a fox", "--frames", "3", "--size", "300x250", "--animate", "webp", "-o", "a.webp")
    assert size_of("a.webp") == (300, 250)
    assert read_recipe(Path("a.webp")).picture_size == Size(300, 250)


def test_a_size_is_an_axis(dalle: Dalle):
    result = dalle("generate", "a fox", "--x", "size=64,96x64,16:9", "-o", "sheet.png", "--json")
    assert [record["size"] for record in result.objects] == [64, "96x64", "384x256"]


def test_lines_of_a_prompt_file_have_sizes_of_their_own(dalle: Dalle):
    sizes: list[object] = [64, "96x64", "16:9", "100x64"]
    lines = [json.dumps({"prompt": f"fox {k}", "size": size}) for k, size in enumerate(sizes)]
    Path("p.jsonl").write_text("\n".join(lines))
    ask = ("generate", "--prompts", "p.jsonl", "--out", "made", "--batch", "2")
    result = dalle(*ask)
    assert result.code == 0, result.err
    assert sorted(size_of(path) for path in Path("made").glob("*.png")) == [(64, 64), (96, 64), (100, 64), (384, 216)]
    again = dalle(*ask)
    assert "4" in again.err and again.code == 0  # all of it was there


def test_the_config_file_has_a_size(dalle: Dalle, monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text('size = "16:9"\n')
    monkeypatch.setenv("DALLE_CONFIG", str(home / "config.toml"))
    dalle("generate", "a fox", "-o", "a.png")
    assert size_of("a.png") == (384, 216)


@pytest.mark.parametrize("size", ["wide", "512x", "x512", "0x64", "-5", "16:0", "100:1", "5.5"])
def test_what_is_no_size_is_refused(dalle: Dalle, size):
    result = dalle("generate", "a fox", "--size", size)
    assert (result.code, "--size" in result.err or "pixels" in result.err) == (2, True)
    Path("p.jsonl").write_text(json.dumps({"prompt": "a fox", "size": size}))
    assert dalle("generate", "--prompts", "p.jsonl", "--out", "made", "--check").code != 0


def test_a_size_that_is_not_painted_is_refused_with_one_that_is(dalle: Dalle):
    assert_refused(dalle("generate", "a fox", "--size", "1024x576"), "--size 384x216")


def test_a_hole_is_painted_in_squares(dalle: Dalle, cat):
    for size in ("384x256", "16:9"):
        assert_refused(dalle("inpaint", cat, "--mask", "0,0,8,8", "--size", size), "a hole is painted in squares")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"size": "384x256"', '"size": "384:256"'),
        ('"size": "384x256"', '"size": "0x256"'),
        ('"size": "384x256"', '"size": "385x256"'),
        ('"size": "384x256"', '"size": true'),
        ('"crop": "300x250"', '"crop": "300x257"'),
        ('"crop": "300x250"', '"crop": []'),
    ],
)
def test_a_recipe_that_lies_about_its_size_is_refused(dalle: Dalle, old, new):
    dalle("generate", "a fox", "--size", "300x250", "-o", "a.png")
    recipe = read_recipe(Path("a.png")).to_json()
    assert old in recipe
    Path("recipe.json").write_text(recipe.replace(old, new))
    result = dalle("replay", "recipe.json", "-o", "b.png")
    assert result.code == 2 and not Path("b.png").exists(), result.err
