"""Arrangements are the same on every grid, stay inside the picture, and say who stands above whom."""

import itertools

import pytest

from dallecli.training.world.arrangements import Arrangement, Figure, Layout, fit, in_painting_order, order_of

PAIRS: tuple[Arrangement, ...] = ("riding", "on", "wearing", "under", "beside", "left of")
ASPECTS = (0.2, 0.5, 0.9, 1.0, 1.3, 3.0)


def figure(aspect: float, saddle: float = 0.3, head: bool = True) -> Figure:
    return Figure(aspect=aspect, head=(0.5, 0.1) if head else None, saddle=(0.45, saddle), boarded=saddle > 0.5)


@pytest.mark.parametrize("relation", PAIRS)
@pytest.mark.parametrize("saddle", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_a_finer_grid_shows_the_same_arrangement(relation: Arrangement, saddle: float) -> None:
    for first, second in itertools.product(ASPECTS, ASPECTS):
        pair = (figure(first), figure(second, saddle))
        for grid in (16, 32):
            coarse, fine = (Layout(size).pair(relation, *pair) for size in (grid, 2 * grid))
            for small, large in zip(coarse, fine, strict=True):
                # Each side is rounded to a pixel, and a place once more.
                assert all(abs(2 * a - b) <= 2 for a, b in zip(small, large, strict=True)), (first, second)


@pytest.mark.parametrize("relation", PAIRS)
def test_nothing_stands_outside_the_picture(relation: Arrangement) -> None:
    for first, second, saddle in itertools.product(ASPECTS, ASPECTS, (0.0, 0.3, 0.55, 0.9)):
        for box in Layout(16).pair(relation, figure(first, head=False), figure(second, saddle)):
            assert box.width >= 1 and box.height >= 1, (first, second, saddle)
            assert 0 <= box.x <= 16 - box.width and 0 <= box.y <= 16 - box.height, (first, second, saddle)


@pytest.mark.parametrize("relation", ["riding", "on", "wearing", "under"])
def test_whoever_is_said_to_be_above_is_above(relation: Arrangement) -> None:
    for first, second in itertools.product(ASPECTS, ASPECTS):
        boxes = Layout(16).pair(relation, figure(first), figure(second))
        upper, lower, axis = order_of(relation, in_painting_order(relation, (0, 1))) or (0, 0, "")
        assert axis == "y" and upper != lower
        assert boxes[upper].y <= boxes[lower].y, (first, second)


def test_neighbours_are_left_and_right_of_each_other_and_do_not_overlap() -> None:
    assert order_of("left of", in_painting_order("left of", (0, 1))) == (0, 1, "x")
    assert order_of("beside", (0, 1)) is None and order_of("left of", (0, 0)) is None
    for first, second in itertools.product(ASPECTS, ASPECTS):
        left, right = Layout(32).pair("left of", figure(first), figure(second))
        assert left.x + left.width <= 16 <= right.x


@pytest.mark.parametrize("relation", ["single", "count"])
def test_what_arranges_one_kind_of_thing_is_no_pair(relation: Arrangement) -> None:
    with pytest.raises(ValueError, match=relation):
        Layout(16).pair(relation, figure(1), figure(1))


def test_a_figure_keeps_its_shape_in_any_box() -> None:
    assert fit(figure(2.0), 12, 12) == (12, 6)
    assert fit(figure(0.5), 12, 12) == (6, 12)
    assert fit(figure(0.01), 12, 12) == (1, 12)
