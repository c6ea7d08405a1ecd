"""The fake engine keeps the whole contract of an engine, so that fronts tested with it are tested."""

import pytest

from dallecli.engine import FakeEngine, Progress
from dallecli.errors import BadSteps, PromptTooLong, UnknownModel, UnknownSampler
from dallecli.request import Generate, Stage


def _ask(**changes: object) -> Generate:
    return Generate(**{"prompt": "a red fox", "model": "starter", **changes})  # type: ignore[arg-type]


def _paint(**changes: object) -> list:
    engine = FakeEngine()
    return list(engine.paint(engine.resolve(_ask(**changes)), lambda _: None))


def test_a_seed_is_drawn_once_and_recorded():
    engine = FakeEngine()
    assert engine.resolve(_ask()).seed != engine.resolve(_ask()).seed
    assert engine.resolve(_ask(seed=0)).seed == 0


def test_a_picture_is_the_same_alone_or_in_a_row():
    row = _paint(seed=7, count=3)
    alone = _paint(seed=9)
    assert row[2].image.tobytes() == alone[0].image.tobytes()
    assert row[2].recipe == alone[0].recipe
    assert row[0].image.tobytes() != row[1].image.tobytes()


def test_pictures_have_the_asked_size_and_say_what_was_used():
    picture = _paint(seed=7, size=64)[0]
    assert picture.image.size == (64, 64)
    assert (picture.recipe.device, picture.recipe.dtype) == ("cpu", "fp32")
    assert picture.recipe.digest is not None


def test_every_step_of_every_stage_is_reported_in_order():
    engine = FakeEngine()
    recipe = engine.resolve(_ask(count=2, size=16, prior=Stage(steps=2), decoder=Stage(steps=3)))
    seen: list[Progress] = []
    list(engine.paint(recipe, seen.append))
    one = [("prior", 1, 2), ("prior", 2, 2), ("decoder", 1, 3), ("decoder", 2, 3), ("decoder", 3, 3)]
    assert [(p.stage, p.step, p.steps) for p in seen] == 2 * one
    assert [p.picture for p in seen] == [0] * 5 + [1] * 5
    assert {p.pictures for p in seen} == {2}


def test_words_beyond_the_context_are_dropped_by_name():
    prompt = " ".join(f"w{k}" for k in range(40))
    assert FakeEngine().resolve(_ask(prompt=prompt)).dropped == tuple(f"w{k}" for k in range(32, 40))
    with pytest.raises(PromptTooLong):
        FakeEngine().resolve(_ask(prompt=prompt, strict=True))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"model": "nope"}, UnknownModel),
        ({"decoder": Stage(sampler="nope")}, UnknownSampler),
        ({"decoder": Stage(steps=1001)}, BadSteps),
    ],
)
def test_what_it_does_not_know_is_refused(changes, error):
    with pytest.raises(error):
        FakeEngine().resolve(_ask(**changes))
