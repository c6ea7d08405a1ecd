"""Contact sheets, and sheets with axes."""

from pathlib import Path

import pytest
from PIL import Image

from .conftest import Dalle


@pytest.fixture
def foxes(dalle: Dalle) -> list[str]:
    return dalle(
        "generate", "--prompts", "-", "--out", "o", "--size", "16", stdin=b"fox 1\nfox 2\nfox 3\nfox 4\n"
    ).lines


def test_a_folder_becomes_a_sheet(dalle: Dalle, foxes):
    result = dalle("grid", "o", "--tile", "32", "--label", "none", "-o", "sheet.png")
    assert (result.code, result.lines) == (0, ["sheet.png"])
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (2 * 36 + 4, 2 * 36 + 4)
        for k, name in enumerate(sorted(foxes)):
            with Image.open(name) as picture:
                assert sheet.getpixel((20 + k % 2 * 36, 20 + k // 2 * 36)) == picture.getpixel((8, 8))


def test_what_does_not_fit_is_on_further_sheets(dalle: Dalle, foxes):
    result = dalle("grid", "o", "--columns", "1", "--rows", "3", "--json", "-o", "sheet.webp")
    assert [(found["path"], found["page"], len(found["pictures"])) for found in result.objects] == [
        ("sheet-1.webp", 1, 3),
        ("sheet-2.webp", 2, 1),
    ]
    assert "standard output takes one sheet" in dalle("grid", "o", "--columns", "1", "--rows", "3", "-o", "-").err


@pytest.mark.parametrize("label", ["prompt", "name", "seed"])
def test_files_with_and_without_recipes_have_words(dalle: Dalle, foxes, label):
    Image.new("RGB", (8, 8)).save("plain.png")
    assert dalle("grid", foxes[0], "plain.png", "--label", label, "-o", "sheet.png").code == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.height > 256 + 16


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["empty"], "there are no pictures"),
        (["absent.png"], "No such file"),
        (["o", "-o", "sheet.gif"], "what format is '.gif'?"),
        (["o", "-o", "taken.png"], "exists already"),
    ],
)
def test_a_sheet_that_cannot_be_made_is_refused(dalle: Dalle, foxes, arguments, reason):
    Path("empty").mkdir()
    Path("taken.png").write_bytes(b"x")
    result = dalle("grid", *arguments)
    assert result.code == 2
    assert reason in result.err


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
