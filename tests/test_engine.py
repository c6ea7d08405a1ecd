"""The fake engine keeps the whole contract of an engine, so that fronts tested with it are tested."""

import hashlib
import io
from dataclasses import replace

import pytest
from PIL import Image

from dallecli.embedding_file import read_embedding
from dallecli.engine import Progress
from dallecli.errors import BadEmbedding, BadRecipe, BadSteps, PromptTooLong, UnknownModel, UnknownSampler
from dallecli.fake_engine import FakeEngine
from dallecli.recipe import Recipe
from dallecli.source import Source, words
from dallecli.tasks.edit import Edit
from dallecli.tasks.embed import Embed
from dallecli.tasks.generate import Generate
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.interpolate import Interpolate
from dallecli.tasks.mask import Edges
from dallecli.tasks.stages import Dials, DiffusionSettings
from dallecli.tasks.task import Request
from dallecli.tasks.vary import Vary


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
    recipe = engine.resolve(_ask(count=2, size=16, prior=Dials(steps=2), decoder=Dials(steps=3)))
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
        ({"decoder": Dials(sampler="nope")}, UnknownSampler),
        ({"decoder": Dials(steps=1001)}, BadSteps),
    ],
)
def test_what_it_does_not_know_is_refused(changes, error):
    with pytest.raises(error):
        FakeEngine().resolve(_ask(**changes))


def _picture(name: str) -> Source:
    target = io.BytesIO()
    Image.new("RGB", (8, 8), name).save(target, "PNG")
    data = target.getvalue()
    return Source(kind="picture", name=f"{name}.png", sha256=hashlib.sha256(data).hexdigest(), data=data)


RED, BLUE = _picture("red"), _picture("blue")

TASKS: list[Request] = [
    Vary(model="starter", image=RED, count=3, fidelity=0.5),
    Interpolate(model="starter", ends=(RED, BLUE, words("a fox")), frames=4),
    Interpolate(model="starter", ends=(RED, BLUE), weights=(1, 2), count=2),
    Inpaint(model="starter", image=RED, mask=None, expand=Edges(left=8), count=2),
    Edit(model="starter", image=RED, before="a fox", after="a cat", sweep=3),
]


@pytest.mark.parametrize("request_", TASKS, ids=lambda request: type(request).__name__)
def test_every_picture_of_every_task_can_be_painted_alone(request_):
    engine = FakeEngine()
    recipe = engine.resolve(request_)
    pictures = list(engine.paint(recipe, lambda _: None))
    assert len(pictures) == recipe.count
    for picture in pictures:
        again = engine.revive(Recipe.from_json(picture.recipe.to_json()).with_sources(_found))
        (alone,) = engine.paint(again, lambda _: None)
        assert alone.image.tobytes() == picture.image.tobytes()
        assert alone.recipe == picture.recipe
    assert len({picture.image.tobytes() for picture in pictures}) > 1


def _found(source: Source) -> Source:
    return next((known for known in (RED, BLUE) if known.sha256 == source.sha256), source)


def test_frames_go_from_one_end_to_the_other():
    def paint(**where: object) -> list:
        engine = FakeEngine()
        asked = Interpolate(model="starter", ends=(RED, BLUE), seed=7, **where)  # type: ignore[arg-type]
        return [picture.image.getpixel((0, 0)) for picture in engine.paint(engine.resolve(asked), lambda _: None)]

    first, middle, last = paint(frames=3)
    assert all(abs(2 * m - a - b) <= 1 for a, m, b in zip(first, middle, last, strict=True))
    assert paint(positions=(0.0, 0.5, 1.0)) == [first, middle, last]
    assert paint(weights=(3, 3)) == [middle]


def test_the_best_are_kept_the_best_first():
    def scores(**changes: object) -> list[float]:
        return [picture.scores["clip"] for picture in _paint(seed=7, **changes)]

    everything = scores(count=9)
    assert scores(count=3, best_of=9) == sorted(everything, reverse=True)[:3]
    kept = _paint(seed=7, count=1, best_of=9)[0]
    assert kept.recipe == _paint(seed=kept.recipe.seed)[0].recipe


def test_a_recipe_of_other_stages_or_dials_is_not_painted():
    engine = FakeEngine()
    recipe = engine.resolve(_ask())
    with pytest.raises(BadRecipe, match="other stages"):
        engine.revive(replace(recipe, stages={"decoder": recipe.stages["decoder"]}))
    stages = {**recipe.stages, "upsampler": DiffusionSettings(sampler="nope", steps=3, guidance=1.0)}
    with pytest.raises(UnknownSampler):
        engine.revive(replace(recipe, stages=stages))


def test_an_embedding_can_stand_where_a_picture_can():
    engine = FakeEngine()
    seen, read, noisy = engine.embed(
        Embed(model="starter", inputs=(RED, words("a fox"), BLUE), invert=True), lambda _: None
    )
    assert (seen.kind, read.kind, seen.space) == ("image", "text", "fake")
    assert (list(noisy.noise), list(read.noise)) == (["decoder"], [])
    file = _file(seen.encode())
    (same,) = engine.embed(Embed(model="starter", inputs=(file,)), lambda _: None)
    assert same.vector.tobytes() == seen.vector.tobytes()
    assert engine.resolve(Vary(model="starter", image=file, fidelity=1)).inputs == (file,)
    (imagined,) = engine.embed(Embed(model="starter", inputs=(words("a fox"),), imagine=True), lambda _: None)
    assert imagined.kind == "image"


def _file(data: bytes) -> Source:
    return Source(kind="embedding", name="z.safetensors", sha256=hashlib.sha256(data).hexdigest(), data=data)


def test_embeddings_that_do_not_fit_are_refused_by_resolve():
    engine = FakeEngine()
    seen, read = engine.embed(Embed(model="starter", inputs=(RED, words("a fox"))), lambda _: None)
    for embedded, what in (
        (replace(seen, space="ViT-L/14"), "lives in the space of ViT-L/14, not of fake"),
        (read, "the embedding of a sentence"),
        (seen, "brings no noise"),
    ):
        with pytest.raises(BadEmbedding, match=what):
            engine.resolve(Vary(model="starter", image=_file(embedded.encode()), fidelity=1))
    elsewhere = _file(replace(seen, space="ViT-L/14").encode())
    with pytest.raises(BadEmbedding):
        engine.resolve(Interpolate(model="starter", ends=(elsewhere, RED), frames=2))
    assert read_embedding(elsewhere).space == "ViT-L/14"
