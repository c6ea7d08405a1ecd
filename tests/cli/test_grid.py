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
