"""Of many pictures the best stay, whatever the order; and what was scored before is not asked for again."""

import random
from dataclasses import replace

import pytest
from PIL import Image

from dallecli.fake_engine import FakeEngine
from dallecli.pictures.picture import Picture
from dallecli.recipe import Recipe
from dallecli.shortlist import Scores, Shortlist
from dallecli.tasks.generate import Generate


def recipe(best_of: int, count: int) -> Recipe:
    return FakeEngine().resolve(Generate(prompt="a fox", model="fake", seed=5, best_of=best_of, count=count))


def picture(whole: Recipe, seed: int) -> Picture:
    single = replace(whole.candidates(), seed=seed, count=1)
    return Picture(image=Image.new("RGB", (1, 1)), recipe=single, seconds=0.0, scores={})


@pytest.mark.parametrize("order", range(5))
def test_the_best_are_those_of_a_stable_sort_in_any_order(order: int) -> None:
    rng = random.Random(order)
    whole, scores = recipe(40, 6), {seed: rng.choice((0.1, 0.2, 0.3)) for seed in range(5, 45)}
    shortlist = Shortlist(whole)
    for seed in rng.sample(sorted(scores), k=40):
        shortlist.take(picture(whole, seed), scores[seed])
        assert len(shortlist._pictures) <= 6
    assert [one.recipe.seed for one in shortlist.pictures()] == sorted(scores, key=lambda seed: -scores[seed])[:6]


def test_what_is_missing_comes_in_runs_of_at_most_so_many() -> None:
    scores = Scores()
    scores.known |= {7: 0.1, 8: 0.2, 900: 0.9}
    assert list(Shortlist(recipe(10, 2), scores).missing(4)) == [(5, 2), (9, 4), (13, 2)]
    assert list(Shortlist(recipe(10, 2), scores).missing()) == [(5, 2), (9, 6)]


def test_one_of_the_best_that_an_earlier_run_scored_is_absent_until_it_is_here() -> None:
    whole, scores = recipe(3, 2), Scores()
    scores.known[6] = 0.9
    shortlist = Shortlist(whole, scores)
    shortlist.take(picture(whole, 5), 0.5)
    shortlist.take(picture(whole, 7), 0.1)
    assert (shortlist.best, shortlist.absent()) == ([6, 5], [6])
    shortlist.put(picture(whole, 6))
    assert [(one.recipe.seed, one.scores) for one in shortlist.pictures()] == [(6, {"clip": 0.9}), (5, {"clip": 0.5})]
