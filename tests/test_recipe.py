"""A recipe leaves nothing open, and its JSON says the same."""

import json
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallecli.engine import FakeEngine
from dallecli.errors import BadRecipe, BadSize, PromptTooLong, TaskNotSupported
from dallecli.recipe import FORMAT, Recipe, fill, random_seed
from dallecli.request import Generate, Stage, StageSettings


class _Spec:
    name = "two-step"
    tasks: tuple[str, ...] = ("generate",)
    prior_candidates = 2
    sizes = (64, 256)
    stages: ClassVar[dict[str, StageSettings]] = {
        "prior": StageSettings(sampler="ancestral", steps=25, guidance=4.0),
        "decoder": StageSettings(sampler="ancestral", steps=30, guidance=8.0),
        "upsampler": StageSettings(sampler="ancestral", steps=7, guidance=1.0),
    }


def _fill(dropped: str = "", **changes: object) -> Recipe:
    request = Generate(**{"prompt": "a red fox", "model": "two-step", **changes})  # type: ignore[arg-type]
    return fill(request, _Spec(), dropped, 7)


def _recipe() -> Recipe:
    return replace(
        _fill(count=4, dropped="in the snow"), digest="ab" * 32, device="cpu", dtype="fp32", versions={"torch": "2"}
    )


def test_what_was_not_asked_is_the_models_own():
    recipe = _fill()
    assert recipe.stages == _Spec.stages
    assert (recipe.size, recipe.count, recipe.prior_candidates, recipe.seed) == (256, 1, 2, 7)


def test_what_was_asked_wins_even_if_it_is_zero():
    recipe = _fill(decoder=Stage(sampler="ddim", steps=2, guidance=0.0), prior_candidates=1)
    assert recipe.stages["decoder"] == StageSettings(sampler="ddim", steps=2, guidance=0.0)
    assert recipe.prior_candidates == 1


def test_upsampler_dials_reach_every_upsampler():
    recipe = FakeEngine().resolve(Generate(prompt="a fox", model="starter", upsampler=Stage(steps=3)))
    assert [recipe.stages[name].steps for name in ("upsampler", "upsampler_2")] == [3, 3]


def test_a_smaller_size_stops_the_chain_earlier():
    assert list(_fill(size=256).stages) == ["prior", "decoder", "upsampler"]
    assert list(_fill(size=64).stages) == ["prior", "decoder"]


def test_a_size_that_is_not_painted_is_refused_with_those_that_are():
    with pytest.raises(BadSize) as caught:
        _fill(size=100)
    assert caught.value.lines() == ["error: two-step does not paint 100 pixels", "hint: it paints 64, 256"]


def test_a_model_without_the_task_is_refused(monkeypatch):
    monkeypatch.setattr(_Spec, "tasks", ("vary",))
    with pytest.raises(TaskNotSupported):
        _fill()


def test_dropped_words_are_kept_and_strict_refuses_them():
    assert _fill(dropped="in the snow").dropped == ("in", "the", "snow")
    with pytest.raises(PromptTooLong, match="in the snow"):
        _fill(dropped="in the snow", strict=True)
    assert _fill(strict=True).dropped == ()


def test_picture_k_is_the_picture_of_the_kth_seed():
    assert _recipe().single(3) == replace(_recipe(), seed=10, count=1)
    with pytest.raises(IndexError):
        _recipe().single(4)


def test_json_says_the_same_and_is_ascii():
    recipe = replace(_recipe(), prompt="Bär \x1b[31m \u202e 🦊")
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text)["format"] == FORMAT


@given(
    prompt=st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    seed=st.integers(0, 2**63 - 1),
    guidance=st.floats(allow_nan=False, allow_infinity=False),
    dropped=st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]))),
)
def test_any_recipe_survives_json(prompt, seed, guidance, dropped):
    stages = {"decoder": StageSettings(sampler="ddim", steps=9, guidance=guidance)}
    recipe = replace(_recipe(), prompt=prompt, seed=seed, dropped=tuple(dropped), stages=stages, digest=None)
    assert Recipe.from_json(recipe.to_json()) == recipe


def _without(key: str) -> str:
    return json.dumps({k: v for k, v in _recipe().to_dict().items() if k != key})


def _with(key: str, value: object) -> str:
    return json.dumps({**_recipe().to_dict(), key: value})


@pytest.mark.parametrize("key", list(_recipe().to_dict()))
def test_a_missing_key_is_named(key):
    with pytest.raises(BadRecipe, match=f"no '{key}'"):
        Recipe.from_json(_without(key))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"format": "dalle-recipe/1"}',
        _with("format", "dalle-recipe/2"),
        _with("extra", 1),
        _with("seed", True),
        _with("seed", "7"),
        _with("seed", 7.5),
        _with("dropped", ["a", 1]),
        _with("digest", 5),
        _with("versions", {"torch": 2}),
        _with("stages", {"decoder": {"sampler": "ddim", "steps": 2}}),
        _with("stages", {"bottler": {"sampler": "ddim", "steps": 2, "guidance": 1.0}}),
        _with("stages", {"decoder": {"sampler": "ddim", "steps": 2, "guidance": "1", "eta": 0}}),
        _recipe().to_json().replace('"seed": 7', '"seed": NaN'),
        _recipe().to_json().replace('"seed": 7', '"seed": 7, "seed": 8'),
        "[" * 100_000,
    ],
)
def test_what_is_not_a_recipe_is_refused(text):
    with pytest.raises(BadRecipe):
        Recipe.from_json(text)


def test_a_whole_number_is_a_guidance():
    text = _recipe().to_json().replace('"guidance": 8.0', '"guidance": 8')
    assert Recipe.from_json(text) == _recipe()


def test_random_seeds_differ_and_can_be_typed():
    seeds = {random_seed() for _ in range(50)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)
