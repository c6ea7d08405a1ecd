"""A request that exists is well-formed."""

import dataclasses

import pytest

from dallecli.errors import (
    BadInput,
    BadMask,
    BadSetting,
    BadSize,
    BadSteps,
    NoSuchDevice,
    PromptError,
    TaskNotSupported,
)
from dallecli.filling import settle_rows
from dallecli.limits import COUNT_LIMIT, PROMPT_BYTES
from dallecli.source import Source, words
from dallecli.tasks.edit import Edit
from dallecli.tasks.embed import Embed
from dallecli.tasks.generate import Generate
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.interpolate import Interpolate
from dallecli.tasks.mask import Edges, Mask
from dallecli.tasks.stages import Dials
from dallecli.tasks.task import SEED_LIMIT, check_prompt
from dallecli.tasks.vary import Vary

FOX = Source(kind="picture", name="fox.png", sha256="f0" * 32, data=b"fox")
CAT = Source(kind="embedding", name="cat.safetensors", sha256="ca" * 32, data=b"cat")


def _ask(**changes: object) -> Generate:
    return Generate(**{"prompt": "a red fox", "model": "starter", **changes})  # type: ignore[arg-type]


def test_seed_zero_is_a_seed_and_no_seed_is_none():
    assert _ask(seed=0).seed == 0
    assert _ask().seed is None


def test_guidance_zero_is_a_guidance():
    assert _ask(decoder=Dials(guidance=0.0)).decoder.guidance == 0.0


def test_a_request_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _ask().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        ("", "the prompt is empty"),
        (" \n\t\u3000", "the prompt is only blanks"),
        ("a\0b", "the prompt holds a NUL at character 1"),
        ("Bär \udcff!", "the prompt is not valid UTF-8: byte 0xff at offset 5"),
        ("\ud83d", "the prompt is not valid UTF-8: surrogate 0xd83d at offset 0"),
        ("x" * 10_000_000, f"the prompt has 10000000 bytes, the limit is {PROMPT_BYTES}"),
        ("森" * PROMPT_BYTES, f"the prompt has {3 * PROMPT_BYTES} bytes, the limit is {PROMPT_BYTES}"),
    ],
)
def test_what_is_no_sentence_is_refused(prompt, what):
    with pytest.raises(PromptError) as caught:
        check_prompt(prompt)
    assert caught.value.what == what
    assert caught.value.hint is not None


def test_the_longest_prompt_is_accepted():
    check_prompt("x" * PROMPT_BYTES)
    check_prompt("a fox\r\nin the snow \x1b[31m [/oops] \u202e")


@pytest.mark.parametrize("count", [0, -1, COUNT_LIMIT + 1])
def test_a_count_outside_its_range_is_refused(count):
    with pytest.raises(BadSetting, match=f"the number of pictures is {count}"):
        _ask(count=count)


@pytest.mark.parametrize("seed", [-1, SEED_LIMIT])
def test_a_seed_outside_its_range_is_refused(seed):
    with pytest.raises(BadSetting, match="the seed is"):
        _ask(seed=seed)


def test_the_last_picture_still_has_a_seed():
    assert _ask(seed=SEED_LIMIT - 4, count=4).seed == SEED_LIMIT - 4
    with pytest.raises(BadSetting):
        _ask(seed=SEED_LIMIT - 3, count=4)


@pytest.mark.parametrize("stage", ["prior", "decoder", "upsampler"])
@pytest.mark.parametrize("steps", [1, 0, -5])
def test_fewer_than_two_steps_are_refused_by_name(stage, steps):
    with pytest.raises(BadSteps, match=f"{steps} {stage} steps"):
        _ask(**{stage: Dials(steps=steps)})


@pytest.mark.parametrize("guidance", [-0.1, float("nan"), float("inf")])
def test_a_guidance_that_is_no_amount_is_refused(guidance):
    with pytest.raises(BadSetting, match="the prior guidance is"):
        _ask(prior=Dials(guidance=guidance))


@pytest.mark.parametrize("candidates", [0, -1])
def test_at_least_one_candidate_is_needed(candidates):
    with pytest.raises(BadSetting, match="prior candidates"):
        _ask(prior_candidates=candidates)


def test_a_size_below_one_pixel_is_refused():
    with pytest.raises(BadSize):
        _ask(size=0)


@pytest.mark.parametrize("device", ["potato", "cuda:", "cuda:-1", "CPU", "", "cpu\x1b[31m"])
def test_a_device_that_cannot_exist_is_refused(device):
    with pytest.raises(NoSuchDevice):
        _ask(device=device)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:15", "mps"])
def test_a_device_that_may_exist_is_left_to_the_machine(device):
    assert _ask(device=device).device == device


def test_an_unknown_number_type_is_refused():
    with pytest.raises(BadSetting, match="no number type is called 'int4'"):
        _ask(dtype="int4")


# The other tasks


def _between(*ends: Source, **changes: object) -> Interpolate:
    return Interpolate(**{"model": "starter", "ends": ends, **changes})  # type: ignore[arg-type]


def _edit(**changes: object) -> Edit:
    asked = {"model": "starter", "image": FOX, "before": "a fox", "after": "a cat", **changes}
    return Edit(**asked)  # type: ignore[arg-type]


def _inpaint(**changes: object) -> Inpaint:
    return Inpaint(**{"model": "starter", "image": FOX, "mask": Mask(boxes=((0, 0, 8, 8),)), **changes})  # type: ignore[arg-type]


def test_every_task_checks_what_is_common_to_all():
    for make in (_ask, lambda **c: Vary(model="starter", image=FOX, **c), _edit, _inpaint):
        with pytest.raises(BadSetting, match="the number of pictures is 0"):
            make(count=0)
    with pytest.raises(BadSize):
        _between(FOX, CAT, frames=3, size=0)


def test_only_a_picture_is_painted_over_and_with_some_strength():
    assert _ask(init=FOX, strength=1.0).sources == (FOX,)
    with pytest.raises(BadInput, match="only a picture"):
        _ask(init=CAT)
    with pytest.raises(BadSetting, match="a strength is for a picture"):
        _ask(strength=0.5)
    for strength in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(BadSetting, match="the strength is"):
            _ask(init=FOX, strength=strength)


def test_only_a_picture_is_continued_after_some_rows_and_not_painted_over_as_well():
    assert _ask(continued=FOX, rows=2).sources == (FOX,)
    with pytest.raises(BadInput, match="only a picture can be continued"):
        _ask(continued=CAT)
    with pytest.raises(BadSetting, match="rows are for a picture"):
        _ask(rows=2)
    with pytest.raises(BadSetting, match="painted over, or continued"):
        _ask(continued=FOX, init=FOX)
    for rows in (0, -1, 257):
        with pytest.raises(BadSetting, match="the number of rows"):
            _ask(continued=FOX, rows=rows)


def test_half_of_the_rows_are_kept_unless_others_are_and_never_none_or_all():
    asked = _ask(continued=FOX)
    assert settle_rows(asked, "tokens", 8).rows == 4
    assert settle_rows(_ask(continued=FOX, rows=7), "tokens", 8).rows == 7
    assert settle_rows(_ask(), "karlo", None) == _ask()
    with pytest.raises(BadSetting, match="8 rows are kept of the 8"):
        settle_rows(_ask(continued=FOX, rows=8), "tokens", 8)
    with pytest.raises(TaskNotSupported, match="karlo cannot go on from a picture"):
        settle_rows(asked, "karlo", None)


def test_what_is_to_be_avoided_is_read_as_well():
    assert _ask(negative="a cat").texts == ("a red fox", "a cat")
    assert _inpaint(prompt="a fox", negative="a cat").texts == ("a fox", "a cat")
    with pytest.raises(BadSetting, match="does not say what to paint"):
        _inpaint(negative="a cat")
    with pytest.raises(PromptError):
        _ask(negative=" ")


def test_the_best_of_fewer_than_asked_cannot_be_kept():
    assert _ask(count=4, best_of=4).best_of == 4
    with pytest.raises(BadSetting, match="--best-of is 3"):
        _ask(count=4, best_of=3)
    with pytest.raises(BadSetting, match="the seed"):
        _ask(seed=SEED_LIMIT - 4, best_of=5)


def test_only_a_picture_or_an_embedding_is_varied_or_edited():
    assert Vary(model="starter", image=CAT).sources == (CAT,)
    with pytest.raises(BadInput, match="not words"):
        Vary(model="starter", image=words("a fox"))
    with pytest.raises(BadInput, match="not words"):
        _edit(image=words("a fox"))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_shares_go_from_zero_to_one(share):
    for make in (
        lambda: Vary(model="starter", image=FOX, fidelity=share),
        lambda: _between(FOX, CAT, positions=(0.5, share)),
        lambda: _edit(strength=share),
    ):
        with pytest.raises(BadSetting, match=r"(fidelity|position between the ends|strength) is"):
            make()


def test_zero_is_a_fidelity_and_a_position():
    assert Vary(model="starter", image=FOX, fidelity=0.0).inversion == Dials()
    assert Vary(model="starter", image=FOX).inversion is None
    assert _between(FOX, CAT, positions=(0.0,)).positions == (0.0,)


def test_a_way_needs_two_ends():
    with pytest.raises(BadInput, match="between a picture and itself"):
        _between(FOX, frames=3)


@pytest.mark.parametrize(
    "ways", [{}, {"frames": 3, "positions": (0.5,)}, {"positions": (0.5,), "weights": (1, 1)}], ids=str
)
def test_exactly_one_thing_says_where_between_the_ends(ways):
    with pytest.raises(BadSetting, match="exclude"):
        _between(FOX, CAT, **ways)


@pytest.mark.parametrize("frames", [1, 0, COUNT_LIMIT + 1])
def test_a_way_has_two_frames_or_more(frames):
    with pytest.raises(BadSetting, match="frames"):
        _between(FOX, CAT, frames=frames)


@pytest.mark.parametrize("weights", [(1,), (1, 1, 1), (0, 0), (1, -1), (1, float("nan"))])
def test_weights_are_amounts_one_for_each_end(weights):
    with pytest.raises(BadSetting, match="weight"):
        _between(FOX, CAT, weights=weights)


def test_frames_of_a_way_have_one_seed_and_a_single_place_may_have_many():
    assert _between(FOX, CAT, positions=(0.5,), count=4).count == 4
    assert _between(FOX, CAT, weights=(1, 1), count=4).count == 4
    for way in ({"frames": 3}, {"positions": (0.1, 0.2)}):
        with pytest.raises(BadSetting, match="share one seed"):
            _between(FOX, CAT, count=2, **way)


def test_words_have_no_noise_to_invert():
    assert _between(FOX, CAT, frames=3, noise="inverted").inversion == Dials()
    with pytest.raises(BadSetting, match="words have no noise"):
        _between(FOX, words("a cat"), frames=3, noise="inverted")
    with pytest.raises(BadSetting, match="blend"):
        _between(FOX, CAT, weights=(1, 1), noise="inverted")
    with pytest.raises(BadSetting, match="no noise is called"):
        _between(FOX, CAT, frames=3, noise="white")


def test_sentences_among_the_ends_are_checked_and_read():
    ask = _between(FOX, words("a cat"), words("a dog"), frames=3)
    assert (ask.texts, ask.imagines) == (("a cat", "a dog"), True)
    assert not _between(FOX, CAT, frames=3).imagines
    with pytest.raises(PromptError):
        _between(FOX, words(" "), frames=3)


@pytest.mark.parametrize("box", [(-1, 0, 4, 4), (0, -1, 4, 4), (0, 0, 0, 4), (0, 0, 4, -4)])
def test_a_box_has_room(box):
    with pytest.raises(BadMask, match="is not a box"):
        Mask(boxes=(box,))


def test_a_mask_is_a_picture():
    with pytest.raises(BadMask, match="a mask is a picture"):
        Mask(files=(CAT,))
    with pytest.raises(BadSetting, match="no mask mode"):
        Mask(mode="black")  # type: ignore[arg-type]


def test_something_is_repainted_or_added():
    assert _inpaint(mask=None, expand=Edges(top=8)).mask is None
    assert _inpaint(mask=Mask()).sources == (FOX,)
    with pytest.raises(BadMask, match="nothing was marked"):
        _inpaint(mask=None)
    with pytest.raises(BadSetting, match="the top edge is -1"):
        Edges(top=-1)
    with pytest.raises(BadInput, match="only a picture"):
        _inpaint(image=CAT)


@pytest.mark.parametrize("resample", [0, -1, 101])
def test_a_step_is_taken_at_least_once(resample):
    with pytest.raises(BadSetting, match="resamplings"):
        _inpaint(resample=resample)


def test_an_edit_needs_a_difference():
    with pytest.raises(BadSetting, match="the same"):
        _edit(before="a fox ", after="a fox")
    with pytest.raises(PromptError):
        _edit(after="")
    with pytest.raises(BadSetting, match="share one seed"):
        _edit(sweep=3, count=2)
    with pytest.raises(BadSetting, match="sweep"):
        _edit(sweep=1)


def test_there_is_something_to_embed():
    ask = Embed(model="starter", inputs=(FOX, words("a fox")))
    assert (ask.texts, ask.imagines, ask.inversion) == (("a fox",), False, None)
    with pytest.raises(BadInput):
        Embed(model="starter", inputs=())
    with pytest.raises(PromptError):
        Embed(model="starter", inputs=(words("a\0"),))


def test_inversion_takes_two_steps_or_more():
    for make in (
        lambda: Vary(model="starter", image=FOX, inverting=Dials(steps=1)),
        lambda: _edit(inverting=Dials(steps=1)),
        lambda: Embed(model="starter", inputs=(FOX,), inverting=Dials(steps=1)),
    ):
        with pytest.raises(BadSteps, match="1 inversion steps"):
            make()
