"""A recipe leaves nothing open, and its JSON says the same."""

import hashlib
import json
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallecli.errors import BadRecipe, BadSetting, BadSize, PromptTooLong, RequestError, TaskNotSupported
from dallecli.fake_engine import FakeEngine
from dallecli.filling import INVERTING, fill, random_seed, request_of
from dallecli.recipe import FORMAT, Motion, Recipe
from dallecli.size import Size
from dallecli.sizing import own_side
from dallecli.source import Source, words
from dallecli.tasks.edit import Edit, Editing
from dallecli.tasks.generate import Generate, Generating
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.interpolate import Interpolate, Interpolating
from dallecli.tasks.mask import Edges, Mask
from dallecli.tasks.stages import CODES, DECODER, PRIOR, UPSAMPLERS, Dials, DiffusionSettings
from dallecli.tasks.table import TASKS
from dallecli.tasks.task import HABITS
from dallecli.tasks.vary import Vary


class _Spec:
    name = "two-step"
    tasks: tuple[str, ...] = tuple(TASKS)
    prior_candidates = 2
    sizes = (64, 256)
    largest: int | None = None
    grids: tuple[int, ...] = (16, 64)
    habits = HABITS
    prompts = True
    classes = None
    stages: ClassVar[dict[str, DiffusionSettings]] = {
        "prior": DiffusionSettings(sampler="ancestral", steps=25, guidance=4.0),
        "decoder": DiffusionSettings(sampler="ancestral", steps=30, guidance=8.0),
        "upsampler": DiffusionSettings(sampler="ancestral", steps=7, guidance=1.0),
    }
    declared = (PRIOR, DECODER, UPSAMPLERS[0])

    def dials(self, way: str) -> dict[str, DiffusionSettings]:
        return self.stages

    def running(self, size: Size) -> tuple[str, ...]:
        return ("decoder", "upsampler")[: 1 + self.sizes.index(own_side(size, self.sizes))]


def _fill(dropped: str = "", **changes: object) -> Recipe:
    request = Generate(**{"prompt": "a red fox", "model": "two-step", **changes})  # type: ignore[arg-type]
    return fill(request, _Spec(), dropped, 7)


FOX = Source(kind="picture", name="fox.png", sha256="f0" * 32, data=b"fox")
CAT = Source(kind="embedding", name="cat.safetensors", sha256=hashlib.sha256(b"cat").hexdigest(), data=b"cat")
MASK = Source(kind="picture", name="mask.png", sha256="aa" * 32, data=b"mask")

VERBS = {
    "vary": Vary(model="two-step", image=FOX, count=2, prompt="in snow"),
    "vary faithfully": Vary(model="two-step", image=FOX, fidelity=0.7),
    "interpolate": Interpolate(model="two-step", ends=(FOX, words("a cat"), CAT), frames=5),
    "interpolate inverted": Interpolate(model="two-step", ends=(FOX, CAT), positions=(0.0, 0.25), noise="inverted"),
    "interpolate at": Interpolate(model="two-step", ends=(FOX, CAT), positions=(0.3,), count=3),
    "blend": Interpolate(model="two-step", ends=(FOX, CAT), weights=(1, 3)),
    "inpaint": Inpaint(model="two-step", image=FOX, mask=Mask(files=(MASK,), boxes=((1, 2, 3, 4),), invert=True)),
    "outpaint": Inpaint(model="two-step", image=FOX, mask=None, expand=Edges(left=8), prompt="a wood", count=2),
    "edit": Edit(model="two-step", image=FOX, before="a fox", after="a cat"),
    "sweep": Edit(model="two-step", image=FOX, before="a fox", after="a cat", strength=0.5, sweep=3),
    "best": Generate(model="two-step", prompt="a fox", count=2, best_of=5),
    "over": Generate(model="two-step", prompt="a fox", negative="a cat", init=FOX, strength=0.7, count=2),
    "continued": Generate(model="two-step", prompt="a fox", continued=FOX, rows=3, count=2),
    "instead": Inpaint(model="two-step", image=FOX, mask=Mask(), prompt="a fox", negative="a cat"),
}


def _recipe() -> Recipe:
    return replace(
        _fill(count=4, dropped="in the snow"), digest="ab" * 32, device="cpu", dtype="fp32", versions={"torch": "2"}
    )


def test_what_was_not_asked_is_the_models_own():
    recipe = _fill()
    assert recipe.stages == _Spec.stages
    assert (recipe.size, recipe.count, recipe.prior_candidates, recipe.seed) == (Size.square(256), 1, 2, 7)


def test_what_was_asked_wins_even_if_it_is_zero():
    recipe = _fill(decoder=Dials(sampler="ddim", steps=2, guidance=0.0), prior_candidates=1)
    assert recipe.stages["decoder"] == DiffusionSettings(sampler="ddim", steps=2, guidance=0.0)
    assert recipe.prior_candidates == 1


def _steps(recipe: Recipe) -> dict[str, int]:
    return {name: stage.steps for name, stage in recipe.stages.items()}


def test_dials_that_leave_out_work_are_written_where_they_leave_out_any():
    recipe = _fill(decoder=Dials(guidance_stop=0.5, reuse=2), upsampler=Dials(reuse=1))
    decoder = recipe.stages["decoder"]
    assert isinstance(decoder, DiffusionSettings)
    assert (decoder.guidance_start, decoder.guidance_stop, decoder.reuse) == (0.0, 0.5, 2)
    written = recipe.to_dict()["stages"]
    assert written["decoder"].keys() == {"sampler", "steps", "guidance", "guidance_stop", "reuse"}
    assert written["upsampler"].keys() == written["prior"].keys() == {"sampler", "steps", "guidance"}
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_dials_that_leave_out_work_are_of_stages_that_paint_and_of_guidance_where_there_is_any():
    assert "reuse" not in PRIOR.dials and "guidance_stop" not in PRIOR.dials
    assert {"guidance_start", "guidance_stop", "reuse"} <= set(DECODER.dials)
    assert "reuse" in UPSAMPLERS[0].dials and "guidance_stop" not in UPSAMPLERS[0].dials
    assert "reuse" not in CODES.dials


def test_fast_takes_few_steps_of_the_better_sampler_and_the_models_own_guidance():
    recipe = _fill(effort="fast")
    assert _steps(recipe) == {"prior": 10, "decoder": 10, "upsampler": 7}
    assert recipe.stages["decoder"].sampler == "dpm++"
    assert recipe.stages["prior"].sampler == "ancestral"
    assert [stage.guidance for stage in recipe.stages.values()] == [4.0, 8.0, 1.0]
    assert [stage.reuse for stage in recipe.stages.values()] == [1, 2, 2]


def test_best_takes_twice_the_steps_and_candidates_of_the_model():
    recipe = _fill(effort="best")
    assert _steps(recipe) == {"prior": 50, "decoder": 60, "upsampler": 7}
    assert recipe.stages["decoder"].sampler == "ancestral"
    assert recipe.prior_candidates == 4


def test_what_is_stated_counts_more_than_the_effort():
    recipe = _fill(effort="fast", decoder=Dials(sampler="ddim", steps=40), prior_candidates=3)
    assert (recipe.stages["decoder"].sampler, recipe.stages["decoder"].steps) == ("ddim", 40)
    assert recipe.prior_candidates == 3
    assert _fill(effort="best", prior_candidates=3).prior_candidates == 3


def test_the_effort_is_that_of_an_inversion_too():
    steps = {
        effort: _steps(fill(Vary(model="two-step", image=FOX, fidelity=1.0, effort=effort), _Spec(), "", 7))
        for effort in ("fast", "best")
    }
    assert steps["fast"] == {"inversion": 10, "decoder": 10, "upsampler": 10}
    assert steps["best"] == {"inversion": 50, "decoder": 50, "upsampler": 50}


def test_an_effort_that_is_none_is_refused():
    with pytest.raises(BadSetting, match="no effort is called 'great'"):
        _fill(effort="great")


def test_upsampler_dials_reach_every_upsampler():
    recipe = FakeEngine().resolve(Generate(prompt="a fox", model="starter", upsampler=Dials(steps=3)))
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


@pytest.mark.parametrize("name", VERBS)
def test_the_recipe_of_every_task_survives_json(name):
    recipe = replace(fill(VERBS[name], _Spec(), "", 7), scores={"clip": 0.25})
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("name", sorted(VERBS.keys() - {"sweep"}))
def test_a_recipe_leads_back_to_its_request(name):
    recipe = Recipe.from_json(fill(VERBS[name], _Spec(), "", 7).to_json())
    assert fill(request_of(recipe), _Spec(), "", 7) == recipe


@pytest.mark.parametrize("name", sorted(VERBS.keys() - {"best"}))
def test_a_single_picture_of_every_task_is_a_recipe_of_one(name):
    recipe = fill(VERBS[name], _Spec(), "", 7)
    for k in range(recipe.count):
        single = recipe.single(k)
        assert single.count == 1
        assert single.single(0) == single
        assert request_of(single).count == 1
    with pytest.raises(IndexError):
        recipe.single(recipe.count)


def test_the_best_of_many_are_led_away_and_painted_over_like_any_others():
    recipe = fill(replace(VERBS["over"], best_of=5), _Spec(), "", 7)
    alone = Generating(negative="a cat", strength=0.7)
    assert recipe.candidates().settings == alone
    assert recipe.keeping((9, 8)).single(1).settings == alone
    assert recipe.alike is None


def test_a_picture_is_painted_over_by_a_third_if_nothing_is_asked():
    assert fill(replace(VERBS["over"], strength=None), _Spec(), "", 7).settings == Generating(
        negative="a cat", strength=0.3
    )


def test_recipes_from_before_negative_prompts_are_read():
    assert "negative" not in _fill().to_json()
    assert "strength" not in _fill().to_json()
    assert Recipe.from_json(_fill().to_json()).settings == Generating()


@pytest.mark.parametrize("alone", ["picture", "strength"])
def test_a_strength_and_a_picture_go_together(alone):
    recipe = fill(VERBS["over"], _Spec(), "", 7)
    missing = {"inputs": ()} if alone == "strength" else {"settings": Generating()}
    with pytest.raises(BadRecipe, match="the recipe starts from"):
        request_of(replace(recipe, **missing))


def test_frames_share_their_seed_and_pictures_do_not():
    def seeds(name: str) -> list[int]:
        recipe = fill(VERBS[name], _Spec(), "", 7)
        return [recipe.single(k).seed for k in range(recipe.count)]

    assert seeds("interpolate") == [7] * 5
    assert seeds("sweep") == [7] * 3
    assert seeds("interpolate at") == [7, 8, 9]
    assert seeds("vary") == [7, 8]
    assert seeds("outpaint") == [7, 8]


def test_frames_are_spread_evenly_and_reach_both_ends():
    recipe = fill(VERBS["interpolate"], _Spec(), "", 7)
    assert recipe.settings == Interpolating(positions=(0, 0.25, 0.5, 0.75, 1), weights=None, noise="fixed")
    assert recipe.single(3).settings == Interpolating(positions=(0.75,), weights=None, noise="fixed")
    sweep = fill(VERBS["sweep"], _Spec(), "", 7)
    assert sweep.settings == Editing(before="a fox", after="a cat", strengths=(0, 0.25, 0.5))


def test_weights_are_shares():
    settings = fill(VERBS["blend"], _Spec(), "", 7).settings
    assert isinstance(settings, Interpolating)
    assert settings.weights == (0.25, 0.75)


def test_the_best_of_many_is_known_afterwards():
    recipe = fill(VERBS["best"], _Spec(), "", 7)
    assert (recipe.candidates().count, recipe.candidates().single(4).seed) == (5, 11)
    with pytest.raises(ValueError, match="which pictures"):
        recipe.single(0)
    kept = recipe.keeping((9, 7))
    assert kept.settings == Generating(best_of=5, kept=(9, 7))
    assert kept.single(0) == replace(_fill(prompt="a fox"), seed=9)


def test_only_stages_that_are_needed_run():
    stages = {name: list(fill(VERBS[name], _Spec(), "", 7).stages) for name in VERBS}
    painting = ["decoder", "upsampler"]
    assert stages["vary"] == painting
    assert stages["interpolate"] == ["prior", *painting], "one of its ends is a sentence"
    assert stages["interpolate at"] == painting
    assert stages["outpaint"] == ["prior", *painting]
    assert stages["inpaint"] == painting
    assert stages["vary faithfully"] == stages["edit"] == ["inversion", *painting]


def test_inverted_noise_is_painted_by_the_steps_that_found_it():
    asked = Vary(model="two-step", image=FOX, fidelity=1, inverting=Dials(steps=100), decoder=Dials(guidance=2))
    recipe = fill(asked, _Spec(), "", 7)
    inversion = replace(INVERTING, steps=100)
    assert recipe.stages == {
        "inversion": inversion,
        "decoder": replace(inversion, guidance=2),
        "upsampler": inversion,
    }


@pytest.mark.parametrize(("stage", "option"), [("decoder", "--sampler"), ("upsampler", "--upsampler-sampler")])
def test_inverted_noise_is_painted_by_the_sampler_that_found_it(stage, option):
    dpm = {stage: Dials(sampler="dpm++")}
    assert fill(Vary(model="two-step", image=FOX, **dpm), _Spec(), "", 7).stages[stage].sampler == "dpm++"
    with pytest.raises(BadSetting, match=r"cannot be painted with the sampler 'dpm\+\+'") as refused:
        fill(Vary(model="two-step", image=FOX, fidelity=0, **dpm), _Spec(), "", 7)
    assert refused.value.hint == f"leave {option} out: it is ddim"


def test_a_recipe_keeps_the_bytes_of_its_inputs_out_of_the_file():
    recipe = fill(VERBS["inpaint"], _Spec(), "", 7)
    assert [source.data for source in recipe.sources] == [b"fox", b"mask"]
    again = Recipe.from_json(recipe.to_json())
    assert [source.data for source in again.sources] == [None, None]
    found = again.with_sources(lambda source: replace(source, data=source.name.encode()))
    assert [source.data for source in found.sources] == [b"fox.png", b"mask.png"]


def test_a_small_embedding_travels_inside_the_recipe():
    """It may have come out of a pipe, and would be nowhere to be found."""
    recipe = fill(Vary(model="two-step", image=CAT), _Spec(), "", 7)
    assert Recipe.from_json(recipe.to_json()).inputs[0].data == b"cat"
    for data in ("Y2F0IQ==", "no base64!"):
        inside = {**recipe.to_dict(), "inputs": [{**recipe.to_dict()["inputs"][0], "data": data}]}
        with pytest.raises(BadRecipe):
            Recipe.from_json(json.dumps(inside))
    large = replace(CAT, data=bytes(10_000))
    assert len(fill(Vary(model="two-step", image=large), _Spec(), "", 7).to_json()) < 2000


def test_a_recipe_does_not_tell_where_inputs_lay():
    there = replace(FOX, name="/home/somebody/private/fox.png")
    mask = Mask(files=(replace(MASK, name="../secret/mask.png"),))
    for asked in (
        Vary(model="two-step", image=there),
        Interpolate(model="two-step", ends=(there, there), frames=2),
        Inpaint(model="two-step", image=there, mask=mask),
    ):
        text = fill(asked, _Spec(), "", 7).to_json()
        assert "private" not in text
        assert "secret" not in text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("best", "a fox"),
        ("vary", "fox in snow"),
        ("vary faithfully", "fox vary"),
        ("interpolate", "fox to cat"),
        ("inpaint", "fox inpaint"),
        ("outpaint", "fox a wood"),
        ("edit", "fox to a cat"),
    ],
)
def test_a_recipe_has_a_title_for_file_names(name, title):
    assert fill(VERBS[name], _Spec(), "", 7).title == title


def test_the_first_format_is_still_read():
    new = ("inputs", "settings", "scores", "motion")
    old = {key: value for key, value in _recipe().to_dict().items() if key not in new}
    old["format"] = "dalle-recipe/1"
    assert Recipe.from_json(json.dumps(old)) == _recipe()


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": []},
        {"count": 0},
        {"seed": -1},
        {"settings": {"fidelity": 2}},
        {"inputs": [{"kind": "text", "name": "a fox", "sha256": None}]},
    ],
)
def test_a_recipe_from_a_file_is_checked_like_a_request(changed):
    data = {**fill(VERBS["vary"], _Spec(), "", 7).to_dict(), **changed}
    with pytest.raises(RequestError):
        request_of(Recipe.from_json(json.dumps(data)))


def test_frames_without_places_are_refused():
    for name in ("interpolate", "sweep"):
        recipe = replace(fill(VERBS[name], _Spec(), "", 7), count=2)
        with pytest.raises(BadRecipe, match="places"):
            request_of(recipe)
    empty = Editing(before="a", after="b", strengths=())
    with pytest.raises(BadRecipe, match="not how far"):
        request_of(replace(fill(VERBS["edit"], _Spec(), "", 7), settings=empty))
    with pytest.raises(BadSetting):
        settings = Editing(before="a", after="b", strengths=(2.0, 0.1))
        request_of(replace(fill(VERBS["sweep"], _Spec(), "", 7), settings=settings, count=2))


def test_how_an_animation_moves_is_kept():
    moving = replace(_recipe(), motion=Motion(fps=12.5, bounce=True, hold=0.0))
    assert Recipe.from_json(moving.to_json()) == moving
    with pytest.raises(BadRecipe):
        Recipe.from_json(_with("motion", {"fps": 8, "bounce": 1, "hold": 0}))


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
    stages = {"decoder": DiffusionSettings(sampler="ddim", steps=9, guidance=guidance)}
    whole = replace(_recipe(), prompt=prompt, seed=seed, dropped=tuple(dropped), digest=None)
    recipe = replace(whole, stages=stages, prior=None)
    assert Recipe.from_json(recipe.to_json()) == recipe


def _without(key: str) -> str:
    return json.dumps({k: v for k, v in _recipe().to_dict().items() if k != key})


def _with(key: str, value: object) -> str:
    return json.dumps({**_recipe().to_dict(), key: value})


@pytest.mark.parametrize(
    "key", [key for key in _recipe().to_dict() if key not in ("threads", "together", "compiled", "prior")]
)
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
        _with("format", "dalle-recipe/3"),
        _with("task", "juggle"),
        _with("settings", {"best_of": 1.5, "kept": None}),
        _with("settings", {"best_of": 4}),
        _with("inputs", [{"kind": "picture", "name": "x.png", "sha256": None}]),
        _with("inputs", [{"kind": "text", "name": "a fox", "sha256": "00"}]),
        _with("inputs", [{"kind": "smell", "name": "x.png", "sha256": "00"}]),
        _with("scores", {"clip": "high"}),
        _with("extra", 1),
        _with("prior", "magic"),
        _with("prior", "autoregressive"),
        _with("prior", "none"),
        _with("prior", None),
        _with("seed", True),
        _with("seed", "7"),
        _with("seed", 7.5),
        _with("dropped", ["a", 1]),
        _with("digest", 5),
        _with("versions", {"torch": 2}),
        _with("stages", {"decoder": {"sampler": "ddim", "steps": 2}}),
        _with("stages", {"decoder": {"temperature": 1.0, "top_k": 0, "guidance": 1.0}}),
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


def test_the_number_of_threads_is_kept_and_may_be_missing_as_in_recipes_of_0_1_0():
    recipe = replace(_recipe(), threads=3)
    assert Recipe.from_json(recipe.to_json()) == recipe
    facts = recipe.to_dict()
    del facts["threads"]
    assert Recipe.from_json(json.dumps(facts)) == replace(recipe, threads=None)


def test_how_many_at_a_time_and_compiled_are_kept_and_may_be_missing():
    recipe = replace(_recipe(), together=4, compiled=True)
    assert Recipe.from_json(recipe.to_json()) == recipe
    facts = recipe.to_dict()
    del facts["together"], facts["compiled"]
    assert Recipe.from_json(json.dumps(facts)) == replace(recipe, together=None, compiled=None)


@pytest.mark.parametrize(("key", "value"), [("together", 0), ("together", "4"), ("compiled", 1), ("compiled", "yes")])
def test_no_other_company_is_read(key, value):
    with pytest.raises(BadRecipe, match=f"'{key}' in the recipe is"):
        Recipe.from_json(json.dumps(_recipe().to_dict() | {key: value}))


def test_a_recipe_of_0_1_0_does_not_name_its_prior_and_has_the_one_that_ran():
    facts = _recipe().to_dict()
    assert facts.pop("prior") == "diffusion"
    assert Recipe.from_json(json.dumps(facts)) == _recipe()
    del facts["stages"]["prior"]
    assert Recipe.from_json(json.dumps(facts)).prior is None


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_no_other_number_of_threads_is_read(threads):
    with pytest.raises(BadRecipe, match="'threads' in the recipe is"):
        Recipe.from_json(json.dumps(_recipe().to_dict() | {"threads": threads}))


def test_what_made_a_picture_is_said_in_words():
    versions = {"dallecli": "0.1.0", "torch": "2.13.0"}
    recipe = replace(_recipe(), device="cpu", dtype="bf16", versions=versions)
    assert recipe.made_with == "dallecli 0.1.0, torch 2.13.0 on cpu bf16"
    here = replace(recipe, threads=2, versions=versions | {"cpu": "AVX512+AMX"})
    assert here.machine == "torch 2.13.0, cpu AVX512+AMX on cpu bf16, 2 threads"
    assert replace(here, threads=1).machine.endswith(" on cpu bf16, 1 thread")
    assert replace(here, together=1, compiled=False).machine == here.machine
    assert replace(here, together=4, compiled=True).machine == f"{here.machine}, 4 at a time, compiled"
