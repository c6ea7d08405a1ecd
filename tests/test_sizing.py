"""Sizes as they are written, and what models paint for them."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallecli.errors import BadSize
from dallecli.size import Proportions, Size, read_size
from dallecli.sizing import Asked, own_side, settle_size, settle_whole


@dataclass(frozen=True)
class Model:
    sizes: tuple[int, ...]
    largest: int | None = None
    grids: tuple[int, ...] = ()
    name: str = "model"


CASCADE = Model((64, 256), grids=(8, 32))
LATENT = Model((512,), largest=2048)
SQUARES = Model((16, 64, 256))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("512", Size.square(512)),
        ("1024x576", Size(1024, 576)),
        ("1024X576", Size(1024, 576)),
        (" 1024 × 576 ", Size(1024, 576)),
        ("16:9", Proportions(16, 9)),
    ],
)
def test_a_size_is_read_as_it_is_written(text, found):
    assert read_size(text) == found


@pytest.mark.parametrize(
    "text", ["", "x", "512x", "x512", "0x512", "512x0", "5.5", "16/9", "-1", "16:0", "21:1", "1e3", "1234567"]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"size|pixels|proportions"):
        read_size(text)


@pytest.mark.parametrize("text", ["512", "1024x576", "1x1"])
def test_a_size_is_stated_as_it_is_read(text):
    assert str(read_size(text).stated) == text or read_size(text).is_square


@pytest.mark.parametrize(
    ("model", "asked", "size", "crop"),
    [
        (CASCADE, None, "256x256", None),
        (CASCADE, 64, "64x64", None),
        (CASCADE, Size(448, 256), "448x256", None),
        (CASCADE, Size(400, 225), "416x256", "400x225"),
        (CASCADE, Size(96, 56), "96x56", None),
        (CASCADE, Proportions(16, 9), "352x192", "342x192"),
        (CASCADE, Proportions(9, 16), "192x352", "192x342"),
        (CASCADE, Proportions(3, 3), "256x256", None),
        (LATENT, None, "512x512", None),
        (LATENT, Size(1024, 576), "1024x576", None),
        (LATENT, Size(700, 300), "700x300", None),
        (LATENT, Proportions(16, 9), "682x384", None),
        (SQUARES, Size(256, 144), "256x256", "256x144"),
        (SQUARES, Size(36, 64), "64x64", "36x64"),
        (SQUARES, Proportions(16, 9), "256x256", "256x144"),
        (SQUARES, Proportions(3, 2), "256x256", "256x170"),
    ],
)
def test_a_model_paints_what_comes_nearest_and_cuts_the_rest(model, asked, size, crop):
    found = settle_size(asked, model)
    assert (str(found.size), None if found.crop is None else str(found.crop)) == (size, crop)


@pytest.mark.parametrize(
    ("model", "asked", "hint"),
    [
        (CASCADE, Size(1024, 576), "--size 342x192"),
        (CASCADE, 100, "it paints 64, 256"),
        (CASCADE, Size(16, 9), "squares of 64, 256"),
        (LATENT, Size(4096, 16), "up to 2048"),
        (SQUARES, Size(448, 256), "--size 256x146"),
        (SQUARES, Size(100, 60), "--size 256x154"),
    ],
)
def test_what_a_model_cannot_paint_is_refused_with_what_it_can(model, asked, hint):
    with pytest.raises(BadSize) as refused:
        settle_size(asked, model)
    assert hint in str(refused.value.hint)


def test_only_what_is_cut_out_of_squares_is_warned_of():
    assert settle_size(Size(256, 144), SQUARES).warning == "model paints squares: of 256x256 the middle 256x144 is kept"
    assert settle_size(Size(400, 225), CASCADE).warning is None


sides = st.integers(1, 1200)
asked_for = st.one_of(
    st.builds(Size, sides, sides), st.builds(Proportions, st.integers(5, 40), st.integers(5, 40)), sides, st.none()
)


@given(asked_for, st.sampled_from((CASCADE, LATENT, SQUARES)))
def test_a_picture_has_the_size_that_was_asked_for_or_none(asked: Asked, model: Model):
    try:
        found = settle_size(asked, model)
    except BadSize:
        return
    picture = found.crop if found.crop is not None else found.size
    assert found.size.holds(picture)
    if isinstance(asked, Size):
        assert picture == asked
    if isinstance(asked, Proportions):
        assert picture.width / picture.height == pytest.approx(asked.width / asked.height, rel=0.05)
    if model.grids and not found.size.is_square:
        grid = model.grids[model.sizes.index(own_side(found.size, model.sizes))]
        assert found.size.width % grid == found.size.height % grid == 0
    if not model.grids and model.largest is None:
        assert found.size.is_square


def test_what_cannot_be_a_part_is_refused_as_one():
    with pytest.raises(BadSize, match="as a part of 416x256 only"):
        settle_whole(Size(400, 225), CASCADE)
    assert settle_whole(Size(448, 256), CASCADE) == Size(448, 256)
