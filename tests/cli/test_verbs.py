"""vary, interpolate, inpaint, edit: what goes in, what comes out, and what is refused before anything is painted."""

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dallecli.installation import extra_command
from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.record import RECORD
from dallecli.tasks.edit import Editing
from dallecli.tasks.inpaint import Inpainting
from dallecli.tasks.interpolate import Interpolating

from .conftest import Dalle, process


@pytest.fixture(autouse=True)
def pictures(settings: None) -> None:
    """Two pictures and a mask that marks the left half of the first."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("cat.png")
    Image.new("RGB", (32, 32), "blue").save("dog.jpg")
    mask = Image.new("L", (64, 48), 0)
    mask.paste(255, (0, 0, 32, 48))
    mask.save("left.png")


def _files() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"cat.png", "dog.jpg", "left.png"}


def _size(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# Vary


def test_a_variation_is_one_file(dalle: Dalle):
    result = dalle("vary", "cat.png", "-s", "7")
    assert (result.code, result.lines, result.remarks) == (0, ["cat-vary-7.png"], "")
    assert read_recipe(Path("cat-vary-7.png")).inputs[0].name == "cat.png"


def test_variations_are_a_sheet_with_the_original_in_its_first_corner(dalle: Dalle):
    result = dalle("vary", "dog.jpg", "-n", "3", "-s", "7", "--json")
    assert [(record["seed"], record["tile"]) for record in result.objects] == [(7, [1, 0]), (8, [0, 1]), (9, [1, 1])]
    sheet = _pixels("dog-vary-7-grid.png")
    assert _size("dog-vary-7-grid.png") == (516, 516)
    assert (np.abs(sheet[:256, :256].astype(int) - (0, 0, 254)) <= 2).all(), "the blue picture, as JPEG kept it"
    alone = dalle("vary", "dog.jpg", "-s", "9", "-o", "alone.png")
    assert alone.code == 0
    assert (sheet[260:, 260:] == _pixels("alone.png")).all()


def test_each_picture_has_variations_of_its_own(dalle: Dalle):
    lines = dalle("vary", "cat.png", "dog.jpg", "-s", "7", "-n", "2", "--layout", "files").lines
    assert lines == ["cat-vary-7.png", "cat-vary-8.png", "dog-vary-7.png", "dog-vary-8.png"]
    refused = dalle("vary", "cat.png", "dog.jpg", "-o", "x.png")
    assert refused.err.splitlines()[0] == "error: -o names one file, but 2 pictures make 2"


def test_a_picture_can_come_from_a_pipe(dalle: Dalle):
    result = dalle("vary", "-", "-s", "7", stdin=Path("cat.png").read_bytes())
    assert result.lines == ["stdin-vary-7.png"]
    assert dalle("vary", "-", "-", stdin=Path("cat.png").read_bytes()).code == 2


def test_records_have_every_documented_key(dalle: Dalle):
    for words in (
        ["vary", "cat.png"],
        ["interpolate", "cat.png", "a dog"],
        ["inpaint", "cat.png", "--mask", "0,0,8,8"],
    ):
        for record in dalle(*words, "--json").objects:
            assert list(record) == list(RECORD)


def test_a_picture_that_is_half_there_is_refused_before_anything_is_written(dalle: Dalle):
    Path("cut.png").write_bytes(Path("cat.png").read_bytes()[:200])
    Path("empty.png").touch()
    Path("x.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for name, what in (
        ("cut.png", "the file is cut short"),
        ("empty.png", "the file is empty"),
        ("missing.png", "No such file"),
        ("x.heic", "a HEIC picture"),
    ):
        before = _files()
        result = dalle("vary", name)
        assert (result.code, result.out) == (2, b"")
        assert what in result.err
        assert name in result.err
        assert len(result.err.splitlines()) <= 3
        assert _files() == before


def test_who_gives_words_or_an_address_for_a_picture_is_told_what_to_do(dalle: Dalle):
    words = dalle("vary", "a red cat").err.splitlines()
    assert words[1:] == ["where: a red cat", "hint: a file name is expected here; dalle generate paints sentences"]
    assert dalle("vary", "https://example.com/cat.png").err.splitlines()[-1].startswith("hint: nothing is downloaded")


# Interpolate


def test_a_way_is_a_strip(dalle: Dalle):
    result = dalle("interpolate", "cat.png", "a blue dog", "-s", "7", "--frames", "5", "--json", "--size", "16")
    records = result.objects
    assert [record["position"] for record in records] == [0, 0.25, 0.5, 0.75, 1]
    assert [record["tile"] for record in records] == [[k, 0] for k in range(5)]
    assert {record["path"] for record in records} == {"cat-to-a-blue-dog-7-strip.png"}
    assert _size("cat-to-a-blue-dog-7-strip.png") == (5 * 16 + 4 * 2, 16)


def test_a_long_way_is_a_sheet_of_rows(dalle: Dalle):
    records = dalle("interpolate", "cat.png", "dog.jpg", "--frames", "16", "--size", "16", "--json").objects
    assert records[5]["tile"] == [1, 1]


def test_frames_as_files_are_numbered_in_order(dalle: Dalle):
    lines = dalle("interpolate", "cat.png", "dog.jpg", "-s", "7", "--frames", "10", "--layout", "files").lines
    assert lines == [f"cat-to-dog-7-{k:02}.png" for k in range(1, 11)]


def test_one_place_on_the_way_is_one_picture_or_several_with_seeds_of_their_own(dalle: Dalle):
    assert dalle("interpolate", "cat.png", "dog.jpg", "--at", "0.3", "-s", "7").lines == ["cat-to-dog-7.png"]
    assert read_recipe(Path("cat-to-dog-7.png")).settings == Interpolating(
        positions=(0.3,), weights=None, noise="fixed"
    )
    seeds = [
        record["seed"]
        for record in dalle("interpolate", "cat.png", "dog.jpg", "--at", "0", "-n", "2", "--json").objects
    ]
    assert seeds[1] == seeds[0] + 1


def test_a_blend_has_a_weight_for_each_end(dalle: Dalle):
    dalle("interpolate", "cat.png", "dog.jpg", "a fox", "--weights", "2,1,1", "-o", "x.png")
    assert read_recipe(Path("x.png")).settings == Interpolating(
        positions=None, weights=(0.5, 0.25, 0.25), noise="fixed"
    )


@pytest.mark.parametrize(
    ("name", "format", "frames"), [("x.gif", "GIF", 8), ("x.apng", "PNG", 8), ("y.webp", "WEBP", 8)]
)
def test_frames_become_an_animation(dalle: Dalle, name, format, frames):
    more = ["--animate", "webp"] if name == "y.webp" else []
    result = dalle("interpolate", "cat.png", "dog.jpg", "--frames", "5", "--bounce", "--size", "16", "-o", name, *more)
    assert (result.code, result.lines) == (0, [name])
    with Image.open(name) as image:
        assert (image.format, image.n_frames, image.size) == (format, frames, (16, 16))


def test_an_animation_gets_a_name_of_its_own(dalle: Dalle):
    dials = ["--frames", "3", "--size", "16", "-s", "7"]
    assert dalle("interpolate", "cat.png", "dog.jpg", *dials, "--animate", "gif").lines == ["cat-to-dog-7.gif"]
    assert dalle("edit", "cat.png", "--from", "a", "--to", "b", "--sweep", "3", "-s", "7", "-o", "x.gif").code == 0


def test_frames_stay_beside_their_animation_if_asked(dalle: Dalle):
    way = ["interpolate", "cat.png", "dog.jpg", "--frames", "3", "--size", "16", "-s", "7", "--animate", "gif"]
    records = dalle(*way, "--layout", "both", "--json").objects
    frames = [f"cat-to-dog-7-{k}.png" for k in (1, 2, 3)]
    assert [record["path"] for record in records] == [*frames, "cat-to-dog-7.gif"]
    assert [(record["index"], record["position"]) for record in records] == [(0, 0), (1, 0.5), (2, 1), (None, None)]
    assert (records[-1]["count"], records[-1]["width"]) == (3, 16)


def test_an_animation_goes_into_a_pipe(dalle: Dalle):
    data = dalle(
        "interpolate", "cat.png", "dog.jpg", "--frames", "3", "--size", "16", "--animate", "gif", "-o", "-"
    ).out
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["cat.png"], "there is nothing between a picture and itself"),
        (["cat.png", "dgo.jpg"], "the file cannot be read: No such file or directory"),
        (["cat.png", "dog.jpg", "--at", "1.5"], "a position between the ends is 1.5"),
        (["cat.png", "dog.jpg", "--at", "nan"], "a position between the ends is nan"),
        (["cat.png", "dog.jpg", "--at", "0.3", "0.5"], "0.5 is neither a file nor a sentence"),
        (["cat.png", "dog.jpg", "--frames", "1"], "the number of frames is 1"),
        (["cat.png", "dog.jpg", "--weights", "1,x"], "--weights '1,x' are not numbers"),
        (["cat.png", "dog.jpg", "--weights", "1"], "1 weights for 2 ends"),
        (["cat.png", "dog.jpg", "--weights", "1,1", "--at", "0.5"], "frames, positions and weights exclude each other"),
        (["cat.png", "a dog", "--noise", "inverted"], "words have no noise to invert: 'a dog'"),
        (["cat.png", "dog.jpg", "-n", "2"], "all frames share one seed"),
        (["cat.png", "dog.jpg", "-o", "x.avi"], "what format is 'x.avi'?"),
        (["cat.png", "dog.jpg", "-o", "x.png", "--animate", "gif"], "x.png is not a name for an animated gif"),
        (["cat.png", "dog.jpg", "--at", "0.5", "-o", "x.gif"], "one picture does not move"),
        (["cat.png", "dog.jpg", "-o", "x.gif", "--fps", "0"], "0 frames a second are not possible"),
        (["cat.png", "dog.jpg", "--animate", "gif", "--fps", "inf"], "--fps is inf"),
        (["cat.png", "dog.jpg", "--animate", "gif", "--hold", "nan"], "--hold is nan"),
        (
            ["cat.png", "dog.jpg", "-o", "x.gif", "--layout", "both"],
            "-o names one file, but --layout both makes several",
        ),
    ],
)
def test_ways_that_lead_nowhere_are_refused(dalle: Dalle, words, what):
    result = dalle("interpolate", *words)
    assert (result.code, result.out) == (2, b"")
    assert result.err.splitlines()[0] == f"error: {what}"
    assert len(result.err.splitlines()) <= 3
    assert _files() == set()


def test_an_mp4_without_pyav_names_the_command_that_installs_it(dalle: Dalle, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = dalle("interpolate", "cat.png", "dog.jpg", "-o", "x.mp4")
    assert (result.code, result.out) == (2, b"")
    assert f"hint: {extra_command('video')}" in result.err
    assert _files() == set()


# Inpaint


def test_kept_pixels_are_those_of_the_picture(dalle: Dalle):
    assert dalle("inpaint", "cat.png", "--mask", "left.png", "-o", "x.png").lines == ["x.png"]
    assert _size("x.png") == (64, 48)
    assert (_pixels("x.png")[:, 32:] == _pixels("cat.png")[:, 32:]).all()
    assert (_pixels("x.png")[:, :32] != _pixels("cat.png")[:, :32]).any()


def test_boxes_and_masks_add_up_and_can_be_turned_around(dalle: Dalle):
    dalle("inpaint", "cat.png", "--mask", "0,0,8,48", "--mask", "8,0,24,48", "--show-mask", "-o", "boxes.png")
    dalle("inpaint", "cat.png", "--mask", "left.png", "--show-mask", "-o", "file.png")
    assert (_pixels("boxes.png") == _pixels("file.png")).all()
    dalle("inpaint", "cat.png", "--mask", "left.png", "--invert-mask", "-o", "turned.png")
    assert (_pixels("turned.png")[:, :32] == _pixels("cat.png")[:, :32]).all()


def test_transparency_is_a_mask(dalle: Dalle):
    with Image.open("cat.png") as image, Image.open("left.png") as mask:
        image.putalpha(mask)
        image.save("cutout.png")
    dalle("inpaint", "cutout.png", "-o", "x.png")
    assert (_pixels("x.png")[:, :32] == _pixels("cat.png")[:, :32]).all()
    dalle("inpaint", "cat.png", "--mask", "cutout.png", "--mask-mode", "alpha", "-o", "y.png")
    assert (_pixels("y.png")[:, :32] == _pixels("cat.png")[:, :32]).all()


def test_a_picture_grows_at_its_edges(dalle: Dalle):
    dalle("inpaint", "cat.png", "--expand", "left=8,bottom=4", "-o", "x.png")
    assert _size("x.png") == (72, 52)
    assert (_pixels("x.png")[:48, 8:] == _pixels("cat.png")).all()
    dalle("inpaint", "cat.png", "--expand", "5", "-o", "y.png")
    assert _size("y.png") == (74, 58)


def test_show_mask_paints_nothing_and_says_how_much(dalle: Dalle):
    result = dalle("inpaint", "cat.png", "--mask", "left.png", "--show-mask")
    assert (result.code, result.lines) == (0, ["cat-mask.png"])
    assert result.remarks == "50.0% of 64 x 48 pixels would be repainted, in 1 square\n"
    assert (_pixels("cat-mask.png")[:, 32:] == _pixels("cat.png")[:, 32:]).all()
    (facts,) = dalle("inpaint", "cat.png", "--mask", "left.png", "--show-mask", "--json", "-q").objects
    assert (facts["share"], facts["width"], facts["height"]) == (0.5, 64, 48)


def test_a_mask_that_is_nearly_nothing_is_warned_of(dalle: Dalle):
    result = dalle("inpaint", "cat.png", "--mask", "0,0,2,2", "-o", "x.png")
    assert result.code == 0
    assert result.err.startswith("warning: the mask repaints 0.13% of the picture")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "this picture has no transparency that could be a mask"),
        (["--mask", "dog.jpg"], "the mask has 32 x 32 pixels, the picture 64 x 48"),
        (["--mask", "0,0,64,48"], "the mask leaves nothing of the picture"),
        (["--mask", "0,0,64,48", "--invert-mask"], "the mask marks nothing for repainting"),
        (["--mask", "60,0,8,8"], "the box 60,0,8,8 leaves the picture"),
        (["--mask", "0,0,0,8"], "0,0,0,8 is not a box"),
        (["--mask", "-1,0,8,8"], "-1,0,8,8 is not a box"),
        (["--mask", "1,2,3"], "'1,2,3' is not a box"),
        (["--mask", "1 2 30 40"], "'1 2 30 40' is not a box"),
        (["--mask", "30x40"], "'30x40' is not a box"),
        (["--mask", "left"], "the file cannot be read: No such file or directory"),
        (["--mask", "left.png", "--mask-mode", "alpha"], "this mask has no transparency"),
        (["--expand", "up=5"], "--expand 'up=5' means nothing"),
        (["--expand", "left=5,left=6"], "--expand 'left=5,left=6' means nothing"),
        (["--expand", "99999"], "the left edge is 99999"),
        (["--mask", "left.png", "--resample", "0"], "the number of resamplings is 0"),
        (["--mask", "-"], "standard input is a terminal"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(dalle: Dalle, words, what):
    result = dalle("inpaint", "cat.png", *words, terminal=True)
    assert (result.code, result.out) == (2, b"")
    assert result.err.splitlines()[0] == f"error: {what}"
    assert len(result.err.splitlines()) <= 3
    assert _files() == set()


# Edit


def test_an_edit_follows_two_sentences(dalle: Dalle):
    result = dalle("edit", "cat.png", "--from", "a cat", "--to", "a dog", "--strength", "0.3", "-s", "7")
    assert result.lines == ["cat-to-a-dog-7.png"]
    recipe = read_recipe(Path("cat-to-a-dog-7.png"))
    assert recipe.settings == Editing(before="a cat", after="a dog", strengths=(0.3,))
    assert next(iter(recipe.stages)) == "inversion"


def test_a_sweep_shows_the_way_there(dalle: Dalle):
    records = dalle(
        "edit", "cat.png", "--from", "a", "--to", "b", "--strength", "0.5", "--sweep", "3", "--json"
    ).objects
    assert [record["position"] for record in records] == [0, 0.25, 0.5]
    assert records[0]["path"].endswith("-strip.png")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--from", "a cat"], "Missing option '--to'."),
        (["--from", "a cat", "--to", "a cat"], "both sentences are the same, so there is no difference to follow"),
        (["--from", " ", "--to", "a cat"], "the text of --from is only blanks"),
        (["--from", "a", "--to", "b", "--strength", "2"], "the strength is 2"),
        (["--from", "a", "--to", "b", "--sweep", "1"], "the number of pictures in a sweep is 1"),
    ],
)
def test_edits_that_cannot_be_meant_are_refused(dalle: Dalle, words, what):
    result = dalle("edit", "cat.png", *words)
    assert (result.code, result.out) == (2, b"")
    assert result.err.splitlines()[0] == f"error: {what}"


# All of them


def test_everything_works_in_processes_and_pipes():
    assert process("vary", "-", "-o", "-", "-s", "7", stdin=Path("cat.png").read_bytes()).out.startswith(b"\x89PNG")
    result = process("inpaint", "cat.png", "--mask", "left.png", "--json")
    assert json.loads(result.out)["inputs"][0]["name"] == "cat.png"
    with Image.open(json.loads(result.out)["path"]) as image:
        assert image.size == (64, 48)
    assert isinstance(read_recipe(Path(json.loads(result.out)["path"])).settings, Inpainting)


@pytest.mark.parametrize(
    "words",
    [
        ["vary", "cat.png"],
        ["interpolate", "cat.png", "dog.jpg", "a fox"],
        ["inpaint", "cat.png", "--mask", "left.png"],
        ["edit", "cat.png", "--from", "a", "--to", "b"],
    ],
    ids=lambda words: words[0],
)
def test_every_dial_of_every_task_reaches_its_recipe(dalle: Dalle, words):
    dials = ["--size", "64", "--steps", "9", "--upsampler-steps", "5", "--guidance", "2.5", "-m", "fake"]
    assert dalle(*words, *dials, "-s", "3", "-o", "x.png").code == 0
    recipe = read_recipe(Path("x.png"))
    assert (recipe.model, recipe.seed, recipe.size.stated, recipe.task) == ("fake", 3, 64, words[0])
    assert (recipe.stages["decoder"].steps, recipe.stages["decoder"].guidance) == (9, 2.5)
    assert recipe.stages["upsampler"].steps == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["vary", "cat.png", "-n", "2"], "'cat vary': 2 pictures of 256 px"),
        (["interpolate", "cat.png", "a dog"], "'cat to a dog': 7 pictures of 256 px"),
        (["interpolate", "cat.png", "a dog", "-o", "x.gif"], "'cat to a dog': 7 pictures of 256 px"),
        (
            ["inpaint", "cat.png", "--mask", "left.png", "--size", "64", "--resample", "1"],
            "'cat inpaint': 1 picture of 64 px",
        ),
        (["edit", "cat.png", "--from", "a cat", "--to", "a dog", "--sweep", "3"], "'cat to a dog': 3 pictures of 256"),
    ],
)
def test_a_dry_run_tells_and_paints_nothing(dalle: Dalle, arguments, told):
    result = dalle(*arguments, "--seed", "5", "--dry-run")
    assert (result.code, result.remarks) == (0, "")
    assert result.lines[0].startswith(told)
    assert "seed 5, starter; memory: next to nothing" in result.lines[0]
    assert _files() == set()
    (facts,) = dalle(*arguments, "--seed", "5", "--dry-run", "--json").objects
    assert (facts["recipe"]["task"], facts["memory"]) == (arguments[0], "next to nothing")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["interpolate"], "argument 'A B'"),
        (["inpaint"], "argument 'IMAGE'"),
        (["edit", "--from", "a", "--to", "b"], "argument 'IMAGE'"),
        (["edit", "cat.png", "--to", "b"], "option '--from'"),
        (["edit", "cat.png", "--from", "a"], "option '--to'"),
    ],
)
def test_what_is_needed_without_a_prompt_file_is_asked_for(dalle: Dalle, arguments, missing):
    result = dalle(*arguments)
    assert (result.code, result.out) == (2, b"")
    assert result.remarks.splitlines() == [f"error: Missing {missing}.", f"hint: dalle {arguments[0]} --help"]
