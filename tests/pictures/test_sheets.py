"""Sheets of pictures: every picture whole in its place, and its words under it."""

import numpy as np
import pytest
from PIL import Image

from dallecli.errors import BadSetting
from dallecli.pictures.sheets import Tile, contact_sheet, grid, grid_shape

RED, BLUE = (200, 10, 10), (10, 10, 200)


def tile(colour: tuple[int, int, int], size: tuple[int, int] = (32, 32), label: str = "") -> Tile:
    return Tile(image=Image.new("RGB", size, colour), label=label)


def area(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box of all pixels of a colour, which are all that is in it."""
    where = np.argwhere((np.asarray(sheet) == colour).all(axis=-1))
    top, left = where.min(axis=0)
    bottom, right = where.max(axis=0) + 1
    assert (bottom - top) * (right - left) == len(where)
    return left, top, right, bottom


def test_pictures_stand_row_by_row_with_gaps_between_them():
    sheet = contact_sheet([tile(RED), tile(BLUE), tile((0, 99, 0))], 2, 32)
    assert sheet.size == (2 * 36 + 4, 2 * 36 + 4)
    assert area(sheet, RED) == (4, 4, 36, 36)
    assert area(sheet, BLUE) == (40, 4, 72, 36)
    assert area(sheet, (0, 99, 0)) == (4, 40, 36, 72)


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 32), (32, 16)), ((10, 20), (10, 20)), ((8, 16), (16, 32)), ((1, 6000), (1, 32))]
)
def test_a_picture_keeps_its_shape(size, shown):
    left, top, right, bottom = area(contact_sheet([tile(RED, size)], 1, 32), RED)
    assert (right - left, bottom - top) == shown


def test_words_stand_under_pictures_and_never_on_them():
    plain = contact_sheet([tile(RED), tile(BLUE)], 2, 64)
    named = contact_sheet([tile(RED, label="a fox " * 50), tile(BLUE, label="b")], 2, 64)
    assert named.height > plain.height
    for colour in (RED, BLUE):
        assert area(named, colour) == area(plain, colour)
    below = np.asarray(named.convert("L"))[area(plain, RED)[3] + 1 :, : 64 + 4]
    assert below.min() < 100


def test_titles_move_pictures_aside():
    sheet = contact_sheet([tile(RED), tile(BLUE)], 2, 32, column_titles=["x 1", "x 2"], row_titles=["y 1"])
    left, top, _, _ = area(sheet, RED)
    assert left > 4
    assert top > 4
    assert area(sheet, BLUE)[0] == left + 36


def test_words_that_no_font_has_and_controls_are_harmless():
    contact_sheet([tile(RED, label="\x1b[2J\u202e森\U0001f98a\n" * 20)], 1, 32)


def test_a_sheet_that_no_memory_holds_is_refused():
    with pytest.raises(BadSetting, match="the sheet would have"):
        contact_sheet([tile(RED)] * 1000, 10, 2048)


@pytest.mark.parametrize(
    ("count", "shape"),
    [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (4, (2, 2)), (5, (3, 2)), (7, (3, 3)), (9, (3, 3)), (10, (4, 3))],
)
def test_sheets_are_nearly_square(count, shape):
    assert grid_shape(count) == shape


def test_a_sheet_shows_every_picture_in_reading_order():
    images = [Image.new("RGB", (64, 64), (k, 0, 0)) for k in range(5)]
    sheet = grid(images)
    gap = 2
    assert sheet.size == (3 * 64 + 2 * gap, 2 * 64 + gap)
    for k in range(5):
        assert sheet.getpixel(((k % 3) * (64 + gap) + 1, (k // 3) * (64 + gap) + 1)) == (k, 0, 0)
    assert sheet.getpixel((64, 0)) == (255, 255, 255)
    assert grid(images[:1]) is images[0]
    with pytest.raises(ValueError, match="needs a picture"):
        grid([])
