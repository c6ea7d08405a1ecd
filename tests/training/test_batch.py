"""A step's random numbers are the whole batch's, however it is shared out."""

import pytest
import torch
from torch import Tensor

from dallecli.training.batch import Draw, Emphasis, choose, take

CPU = torch.device("cpu")


def numbers(draw: Draw) -> list[Tensor]:
    """One draw of every kind."""
    return [draw.integers(1000), draw.uniform(1, 1), draw.normal(3, 4), draw.timesteps(1000, 0.65), draw.integers(9, 2)]


def test_the_parts_of_a_draw_are_the_draw() -> None:
    whole = numbers(Draw(7, 12, CPU))
    parts = [numbers(Draw(7, 12, CPU, part, 3)) for part in range(3)]
    for number, kind in enumerate(whole):
        assert torch.equal(torch.cat([part[number] for part in parts]), kind)


def test_what_is_drawn_once_is_the_same_for_every_part() -> None:
    draws = [Draw(7, 8, CPU, part, 2) for part in range(2)]
    assert draws[0].once() == draws[1].once()
    orders = [draw.order("abcdef") for draw in draws]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list("abcdef")


def test_a_batch_that_cannot_be_cut_equally_is_refused() -> None:
    with pytest.raises(ValueError, match="10"):
        Draw(0, 10, CPU, 0, 4)


def test_timesteps_come_one_from_each_slice_of_the_schedule() -> None:
    t = Draw(3, 50, CPU).timesteps(1000)
    assert sorted((t // 20).tolist()) == list(range(50))
    assert t.tolist() != sorted(t.tolist())


def test_a_power_below_one_leans_timesteps_to_the_noisy_end() -> None:
    # u ** p of a uniform u has the mean 1 / (1 + p); stratified means of 1000 are within 1 %.
    for power in (1.0, 0.65):
        mean = Draw(3, 1000, CPU).timesteps(1000, power).float().mean().item()
        assert mean == pytest.approx(1000 / (1 + power), rel=0.01)


@pytest.mark.parametrize(("share", "often", "seldom"), [(None, 0.1, 0.1), (0.5, 0.3, 0.05), (1.0, 0.5, 0.0)])
def test_what_is_emphasised_is_chosen_as_often_as_its_share_says(share, often, seldom) -> None:
    emphasis = None if share is None else Emphasis(rows=torch.tensor([3, 7]), share=share)
    found = choose(10, Draw(3, 10000, CPU), emphasis).bincount(minlength=10) / 10000
    expected = torch.tensor([often if row in (3, 7) else seldom for row in range(10)])
    # Four deviations of the share of 10000 draws.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_rows_are_taken_from_data_of_any_kind() -> None:
    data = torch.arange(12).reshape(6, 2)
    assert take(data, torch.tensor([5, 0])).tolist() == [[10, 11], [0, 1]]
