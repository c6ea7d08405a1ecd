"""Variety is 1 for pictures that differ as drawn ones do, and near 0 where every seed paints the same."""

import numpy as np
import pytest
import torch

from dallecli.training.world.judge import Judge
from dallecli.training.world.looks.world import LOOKS_WORLD
from dallecli.training.world.variety import perplexity, spread, variety


def drawn(seed: int, count: int = 8) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    some = []
    for prompt in LOOKS_WORLD.varied()[:4]:
        pictures = [LOOKS_WORLD.redraw(rng, prompt).draw(64) for _ in range(count)]
        some.append(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    return some


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(len(LOOKS_WORLD.things), len(LOOKS_WORLD.grounds), len(LOOKS_WORLD.styles), len(LOOKS_WORLD.looks))


def test_the_spread_is_the_mean_distance_of_two() -> None:
    assert spread(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)


def test_perplexity_counts_the_classes_in_use() -> None:
    assert perplexity(torch.tensor([0, 1, 2, 3] * 4), 5) == pytest.approx(4)
    assert perplexity(torch.tensor([2, 2, 2]), 5) == pytest.approx(1)
    assert 1 < perplexity(torch.tensor([0, 0, 0, 1]), 5) < 2


def test_one_picture_for_every_seed_has_no_variety(judge: Judge) -> None:
    same = [pictures[:1].expand(len(pictures), -1, -1, -1).clone() for pictures in drawn(0)]
    figures = variety(judge, same, drawn(1))
    assert figures["spread"] == pytest.approx(0, abs=1e-3) and figures["looks"] == pytest.approx(1)


def test_other_drawn_scenes_of_the_same_captions_have_all_of_it(judge: Judge) -> None:
    figures = variety(judge, drawn(2, 24), drawn(3, 24))
    assert figures["spread"] == pytest.approx(1, abs=0.15)
    assert figures["ground_spread"] == pytest.approx(1, abs=0.15)
    assert 0 <= figures["drawn_mirrored"] <= 1


def test_a_judge_of_one_look_is_not_asked_for_looks() -> None:
    some = drawn(4, 3)
    assert variety(Judge(48, 18, 4), some, some).keys() == {"spread", "ground_spread"}
