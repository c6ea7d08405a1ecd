"""What the starter does not know is said, by every command that takes words or pictures, and refused with --strict."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

import dallecli
from dallecli.model import DalleWarning
from dallecli.training.world.known import drawn
from dallecli.training.world.worlds import FIRST

DOES_NOT_KNOW = "warning: the starter does not know: wizard (dalle models words starter; for anything else: --model"
STRANGE = "warning: the starter was trained on nothing like noise.png, and may paint something else"

WAYS = {
    "generate": ["generate", "a wizard"],
    "negative": ["generate", "a dog", "--negative", "wizard"],
    "vary": ["vary", "scene.png", "-p", "a wizard"],
    "interpolate": ["interpolate", "scene.png", "a wizard"],
    "inpaint": ["inpaint", "scene.png", "--mask", "8,8,20,20", "-p", "a wizard"],
    "edit": ["edit", "scene.png", "--from", "a dog", "--to", "a wizard"],
}
LOOKING = {
    "init": ["generate", "a dog", "--init", "noise.png"],
    "vary": ["vary", "noise.png"],
    "interpolate": ["interpolate", "scene.png", "noise.png"],
    "inpaint": ["inpaint", "noise.png", "--mask", "8,8,20,20"],
    "edit": ["edit", "noise.png", "--from", "a dog", "--to", "a cat"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DALLE_ENGINE", raising=False)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    # Coarse: finer noise is nearly grey to a decoder of 16 px.
    Image.fromarray(noise).resize((64, 64), Image.Resampling.NEAREST).save("noise.png")
    drawn(FIRST, 2**32, 1)[0].save("scene.png")


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_word_is_named_once(dalle, way):
    result = dalle(*WAYS[way], "--dry-run")
    assert result.code == 0
    assert DOES_NOT_KNOW in result.err
    assert result.err.count("wizard") == 1


@pytest.mark.parametrize("way", LOOKING)
@pytest.mark.long
def test_a_picture_unlike_all_that_was_trained_on_is_named(dalle, way):
    result = dalle(*LOOKING[way], "--dry-run", "--json")
    assert (result.code, result.err.count(STRANGE)) == (0, 1)
    assert json.loads(result.out)["unknown"] == {"words": [], "pictures": ["noise.png"]}


@pytest.mark.parametrize("arguments", [["generate", "a wizard"], ["vary", "noise.png"], ["embed", "a wizard"]])
def test_strict_refuses_before_anything_is_made(dalle, tmp_path, arguments):
    before = set(tmp_path.iterdir())
    result = dalle(*arguments, "--strict")
    assert (result.code, result.out) == (2, b"")
    assert result.err.startswith("error: the starter ")
    assert len(result.err.splitlines()) == 2
    assert {path for path in tmp_path.iterdir() if path.suffix in (".png", ".safetensors")} <= before


def test_a_thousand_lines_get_one_warning(dalle, tmp_path):
    (tmp_path / "p.txt").write_text("".join(f"a dog and wizard{number}\n" for number in range(1000)))
    result = dalle("generate", "--prompts", "p.txt", "--dry-run")
    assert result.code == 0
    (line,) = [line for line in result.err.splitlines() if line.startswith("warning")]
    assert "p.txt: in 1000 lines, from line 1 on: the starter does not know: wizard0, wizard1, " in line
    assert "and 988 more" in line
    assert len(line) < 500


def test_a_painted_picture_tells_programs(dalle):
    result = dalle("generate", "a wizard", "--size", "16", "--fast", "--json")
    assert json.loads(result.out)["unknown"] == {"words": ["wizard"], "pictures": []}


def test_rank_names_words_and_pictures(dalle):
    result = dalle("rank", "noise.png", "scene.png", "a dog", "a wizard", "--json")
    assert DOES_NOT_KNOW in result.err
    assert "nothing like noise.png," in result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    strange = {(row["path"], row["text"]): row["unknown"] for row in rows}
    assert strange["scene.png", "a dog"] == {"words": [], "pictures": []}
    assert strange["noise.png", "a wizard"] == {"words": ["wizard"], "pictures": ["noise.png"]}


def test_python_warns():
    model = dallecli.open("starter")
    with pytest.warns(DalleWarning, match="does not know: wizard"):
        model.generate("a wizard")
    with pytest.warns(DalleWarning, match="does not know: wizard"):
        model.embed("a wizard")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate("two dogs in the snow")


@pytest.mark.long
def test_drawn_scenes_are_not_strange(dalle, tmp_path):
    (tmp_path / "scenes").mkdir()
    for number, scene in enumerate(drawn(FIRST, 2**32 + 100, 20)):
        scene.save(tmp_path / "scenes" / f"{number}.png")
    result = dalle("embed", *sorted(map(str, (tmp_path / "scenes").iterdir())), "--out", "e", "--json")
    strange = [line for line in result.out.splitlines() if json.loads(line)["unknown"]["pictures"]]
    assert len(strange) <= 1, "0.5 % are expected: two of 20 or more have a chance below one in two hundred"


def test_models_words_prints_the_words_by_kind(dalle):
    plain, rows = dalle("models", "words"), dalle("models", "words", "starter", "--json").out.splitlines()
    assert plain.code == 0
    assert plain.out.decode().splitlines()[0].startswith("things ")
    assert {"kind": "things", "name": "dog", "also": ["dogs", "corgi", "puppy"]} in [json.loads(row) for row in rows]
