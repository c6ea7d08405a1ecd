"""The probes on tiny random models: sheets, tables, single pictures with recipes, and what cannot be probed."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines.toys import cascade

from dallecli.pictures.metadata import read_recipe
from dallecli.weights.layouts import LAYOUTS

from .conftest import Dalle

PLACED = ("--device", "cpu", "--dtype", "fp32", "-s", "7", "-q")
SMALL = ("--steps", "2", *PLACED)
QUICK = (*SMALL, "--upsampler-steps", "2")
WORDS = ("vicootes", "--prior-steps", "2", "-n", "2", "--size", "8", *SMALL)


@pytest.fixture(autouse=True)
def pictures(local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with pictures to fit on, a list of words, and a family without a CLIP."""
    monkeypatch.setitem(LAYOUTS, "toy-cascade", cascade.LAYOUT)
    Path("album").mkdir()
    rng = np.random.default_rng(1)
    for k in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(f"album/{k}.png")
    Path("album/notes.md").write_text("no picture")
    Path("words.txt").write_text("# real\ncat\ndog\nbear\n")


def test_pca_paints_each_number_of_components_and_all_of_it(dalle: Dalle, model: str) -> None:
    asked = ("probe", "pca", "cat.png", "--fit", "album", "--components", "0,2,5", "-m", model, "--size", "8", *SMALL)
    made = dalle(*asked, "--layout", "both", "--out", "o", "--json")
    assert (made.code, made.err) == (0, "")
    rows = made.objects
    assert [(row["components"], row["rank"]) for row in rows] == [(0, 5), (2, 5), (5, 5)]
    assert [row["lost"] for row in rows] == sorted((row["lost"] for row in rows), reverse=True)
    assert (rows[0]["variance"], rows[0]["lost"], rows[2]["variance"]) == (0, 1, pytest.approx(1))
    singles = sorted(Path("o").glob("cat-pca-7-0*.png"))
    assert [str(path) for path in singles[:3]] == [row["path"] for row in rows]
    assert len(singles) == 4  # and the whole embedding
    assert Path("o/cat-pca-7.png").is_file()
    recipes = [read_recipe(path) for path in singles]
    assert {recipe.seed for recipe in recipes} == {7}
    assert {recipe.stages["decoder"].sampler for recipe in recipes} == {"ddim"}
    # an embedding is in the recipe, so nothing else is needed to make it again
    again = dalle("replay", str(singles[1]), "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    assert Image.open("again.png").tobytes() == Image.open(singles[1]).tobytes()


def test_pca_gives_the_same_picture_for_the_same_seed_and_the_table_says_so(dalle: Dalle, model: str) -> None:
    asked = ("probe", "pca", "cat.png", "--fit", "album", "--size", "8", "-m", model, *SMALL)
    first, second = (dalle(*asked, "-o", f"{k}.png") for k in range(2))
    assert (first.code, first.err) == (0, "")
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes()
    assert first.lines[0].split() == ["COMPONENTS", "VARIANCE", "LOST", "FILE"]
    assert [line.split()[0] for line in first.lines[1:]] == ["1", "4", "5"]
    assert second.lines[1].split()[:3] == first.lines[1].split()[:3]
    piped = dalle(*asked, "-o", "-")
    assert piped.out == Path("0.png").read_bytes()  # and no table among the bytes


def test_pca_fits_on_embeddings_and_sentences_too(dalle: Dalle, model: str) -> None:
    assert dalle("embed", "album/0.png", "album/1.png", "--out", "z", "-m", model, "-q").code == 0
    Path("captions.txt").write_text("a red cat\na blue dog\n")
    asked = ("probe", "pca", "cat.png", "--fit", "z", "--fit", "captions.txt", "--components", "1,3")
    made = dalle(*asked, "-o", "a.png", "-m", model, "--size", "8", *SMALL, "--json")
    assert (made.code, made.err) == (0, "")
    assert [row["rank"] for row in made.objects] == [3, 3]


REFUSED_PCA = {
    "one picture": (("--fit", "dog.png"), "one is too few to find components of"),
    "more components": (("--fit", "album", "--components", "6"), "6 embeddings have 5 components, and 6 are asked for"),
    "no numbers": (("--components", "many"), "--components 'many' are not numbers"),
    "nothing there": (("--fit", "nowhere"), "this cannot be read: No such file"),
    "an empty folder": (("--fit", "empty"), "there is nothing to fit on"),
    "nothing known": ((), "does not say what it knows"),
    "the same": (("--fit", "dog.png") * 3, "is the same"),
}


@pytest.mark.parametrize("why", REFUSED_PCA)
def test_what_pca_cannot_fit_is_refused(dalle: Dalle, model: str, why: str) -> None:
    Path("empty").mkdir()
    options, what = REFUSED_PCA[why]
    result = dalle("probe", "pca", "cat.png", *options, "-m", model, *QUICK)
    assert (result.code, result.lines) == (2, [])
    assert what in result.err


def test_pca_needs_a_model_that_paints_embeddings(dalle: Dalle, judge: str, painter: str, model: str) -> None:
    for folder in (judge, painter):
        result = dalle("probe", "pca", "cat.png", "--fit", "album", "-m", folder, *PLACED)
        assert (result.code, "cannot vary" in result.err) == (2, True)
    assert dalle("embed", "a cat", "-o", "words.safetensors", "-m", model, "-q").code == 0
    result = dalle("probe", "pca", "words.safetensors", "--fit", "album", "-m", model, *QUICK)
    assert result.code == 2
    assert "sentence" in result.err


def test_vocabulary_paints_words_controls_and_the_nearest(dalle: Dalle, model: str) -> None:
    made = dalle(
        "probe", "vocabulary", *WORDS, "--against", "words.txt", "-m", model, "--layout", "both", "--out", "o", "--json"
    )
    assert (made.code, made.err) == (0, "")
    rows = made.objects
    assert [row["kind"] for row in rows] == ["nonsense", "shuffled", "real"]
    assert rows[0]["word"] == "vicootes"
    assert sorted(rows[1]["word"]) == sorted("vicootes")
    for row in rows:
        assert {near["word"] for near in row["nearest"]} == {"cat", "dog", "bear"}
        assert -1.001 <= row["again"] <= 1.001
        assert [read_recipe(Path(file)).prompt for file in row["files"]] == [row["word"]] * 2
        assert [read_recipe(Path(file)).seed for file in row["files"]] == [7, 8]
    again = dalle("replay", rows[0]["files"][1], "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    assert Image.open("again.png").tobytes() == Image.open(rows[0]["files"][1]).tobytes()


def test_vocabulary_with_a_judge_works_for_a_family_without_clip(dalle: Dalle, painter: str, judge: str) -> None:
    words = ("probe", "vocabulary", "vicootes", "--against", "words.txt", "-n", "2", "-m", painter, *PLACED)
    refused = dalle(*words, "-o", "a.png")
    assert refused.code == 2
    assert "painter has no CLIP" in refused.err
    assert "--judge clip-vit-b-32" in refused.err
    made = dalle(*words, "-o", "a.png", "--judge", judge)
    assert (made.code, made.err) == (0, "")
    assert made.lines[0].split()[:2] == ["WORD", "KIND"]
    assert len(made.lines) == 4


REFUSED_WORDS = {
    "no words": (("--random", "0"), "there is no word to probe"),
    "no text": (("x", "--against", "cat.png"), "the words cannot be read"),
    "one word": (("x", "--against", "one.txt"), "there are too few words"),
    "not there": (("x", "--against", "none.txt"), "the words cannot be read"),
}


@pytest.mark.parametrize("why", REFUSED_WORDS)
def test_what_is_no_vocabulary_is_refused(dalle: Dalle, model: str, why: str) -> None:
    Path("one.txt").write_text("cat\n")
    options, what = REFUSED_WORDS[why]
    result = dalle("probe", "vocabulary", *options, "-m", model, *QUICK)
    assert (result.code, result.lines) == (2, [])
    assert what in result.err


def test_the_config_file_counts_for_probes(dalle: Dalle, model: str) -> None:
    assert dalle("config", "set", "model", model).code == 0
    made = dalle("probe", "pca", "cat.png", "--fit", "album", "--components", "1", "-o", "a.png", *QUICK, "--json")
    assert (made.code, json.loads(made.out.splitlines()[0])["model"]) == (0, Path(model).name)
