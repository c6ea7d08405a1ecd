"""The best of many, by the CLIP of another model, with every front there is."""

import gc
import json
from pathlib import Path

import clip_oracle
import pytest
import torch
from PIL import Image
from pipelines.toys import cascade
from transformers import CLIPImageProcessorPil

import dallecli
from dallecli.errors import BadFile, BadSetting, UnknownModel
from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.picture import Picture
from dallecli.recipe import Recipe
from dallecli.shortlist import Scores
from dallecli.studio import judging
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request
from dallecli.weights.layouts import LAYOUTS

from .conftest import Dalle

QUICK = ("--device", "cpu", "--dtype", "fp32", "-s", "7", "-q")


@pytest.fixture(autouse=True)
def a_family_without_clip(local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYOUTS, "toy-cascade", cascade.LAYOUT)


def scored(judge: str, paths: list[str], sentence: str) -> list[float]:
    """The cosines that transformers' class finds."""
    net, tokenizer = clip_oracle.open_model(Path(judge))
    images = [Image.open(path) for path in paths]
    with torch.inference_mode():
        pixels = CLIPImageProcessorPil.from_pretrained(judge)(images, return_tensors="pt")["pixel_values"]
        seen = net.get_image_features(pixels).pooler_output
        read = net.get_text_features(**tokenizer(sentence, padding="max_length", return_tensors="pt")).pooler_output
        return torch.cosine_similarity(seen, read).tolist()


def test_the_best_are_those_that_transformers_clip_finds_best(dalle: Dalle, painter: str, judge: str) -> None:
    every = dalle("generate", "a red cat", "-n", "6", "--layout", "files", "--out", "all", "-m", painter, *QUICK).lines
    wanted = scored(judge, every, "a red cat")
    order = sorted(range(6), key=lambda k: -wanted[k])[:2]
    kept = dalle(
        *("generate", "a red cat", "-n", "2", "--best-of", "6", "--judge", judge, "--layout", "files", "--json"),
        *("--out", "best", "-m", painter, *QUICK),
    ).objects
    assert [record["seed"] for record in kept] == [7 + k for k in order]
    assert [record["scores"]["tiny-clip"] for record in kept] == pytest.approx([wanted[k] for k in order], abs=1e-5)
    for record, k in zip(kept, order, strict=True):
        assert Image.open(record["path"]).tobytes() == Image.open(every[k]).tobytes()
        recipe = read_recipe(Path(record["path"]))
        assert record["judge"] == {"name": "tiny-clip", "digest": recipe.settings.judge_digest}
        assert recipe.settings.judge_digest is not None
        assert recipe.settings.best_of is None
    shown = dalle("show", kept[0]["path"]).out.decode()
    assert "judged by" in shown
    again = dalle("replay", kept[0]["path"], "-m", painter, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    assert Image.open("again.png").tobytes() == Image.open(kept[0]["path"]).tobytes()
    assert read_recipe(Path("again.png")).settings.judge is None  # nobody judged this time


def test_a_sheet_is_replayed_without_the_judge(dalle: Dalle, painter: str, judge: str) -> None:
    made = dalle(
        "generate", "a cat", "-n", "2", "--best-of", "4", "--judge", judge, "-m", painter, "-o", "a.png", *QUICK
    )
    assert (made.code, made.err) == (0, "")
    recipe = read_recipe(Path("a.png"))
    assert (recipe.settings.judge, recipe.settings.best_of) == ("tiny-clip", 4)
    assert recipe.settings.kept is not None
    again = dalle("replay", "a.png", "-m", painter, "-o", "b.png", "-q")
    assert (again.code, again.err) == (0, "")
    assert Image.open("a.png").tobytes() == Image.open("b.png").tobytes()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("own", "memory"),
    [(False, "low"), pytest.param(True, "low", marks=SLOW), pytest.param(False, "auto", marks=SLOW)],
)
@pytest.mark.long
def test_turns_and_streams_keep_the_same_pictures(
    dalle: Dalle, model: str, judge: str, memory: str, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "TURN_PIXELS", 2 * 8**2)  # turns of two pictures
    chosen = () if own else ("--judge", judge)
    dials = ("--steps", "2", "--prior-steps", "2", "--size", "8", "-m", model, *QUICK)
    seeds = [
        [record["seed"] for record in dalle("generate", "a cat", "-n", "2", "--best-of", "3", "--json", *rest).objects]
        for rest in ((*chosen, *dials, "--memory", memory), (*chosen, *dials, "--memory", "high"))
    ]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2


class Counting(Scores):
    """Counts the pictures that are in memory whenever one is scored, and stops after so many."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.alive: list[int] = []
        self.most = most

    def note(self, seed: int, score: float) -> None:
        if len(self.alive) == self.most:
            raise KeyboardInterrupt
        super().note(seed, score)
        self.alive.append(sum(type(one) is Picture for one in gc.get_objects()))


@pytest.mark.long
def test_only_the_kept_pictures_stay_in_memory(painter: str, judge: str) -> None:
    engine, scores = LocalEngine(), Counting()
    before = sum(type(one) is Picture for one in gc.get_objects())
    recipe = engine.resolve(request_of(painter, judge, best_of=12, n=3))
    kept = list(engine.paint(recipe, lambda step: None, scores))
    assert (len(kept), len(scores.alive)) == (3, 12)
    assert max(scores.alive) - before <= 3 + 2  # the new one, and the one that it takes the place of


def request_of(painter: str, judge: str | None, **options: object) -> object:
    values = {"prompt": "a red cat", "model": painter, "device": "cpu", "dtype": "fp32", "seed": 1, "judge": judge}
    return build_request("generate", {**values, **options})


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on_and_keeps_the_same(painter: str, judge: str) -> None:
    engine, scores, steps = LocalEngine(), Counting(most=5), []
    recipe = engine.resolve(request_of(painter, judge, best_of=8, n=2))
    whole = list(engine.paint(recipe, lambda step: None))
    with pytest.raises(KeyboardInterrupt):
        list(engine.paint(recipe, lambda step: None, scores))
    assert len(scores.known) == 5
    scores.most = 1000
    went_on = list(engine.paint(recipe, steps.append, scores))
    assert [one.recipe.seed for one in went_on] == [one.recipe.seed for one in whole]
    assert [one.image.tobytes() for one in went_on] == [one.image.tobytes() for one in whole]
    assert [one.scores for one in went_on] == [one.scores for one in whole]
    # three that were not scored, and at most the two that are kept
    assert 3 <= sum(step.stage == "decoder" and step.step == 1 for step in steps) <= 5


def test_other_weights_than_a_recipe_was_judged_with_are_refused(painter: str, judge: str) -> None:
    engine = LocalEngine()
    recipe = engine.resolve(request_of(painter, judge, best_of=2)).judged("tiny-clip", "0" * 64)
    with pytest.raises(BadFile, match="other weights"):
        list(engine.paint(recipe, lambda step: None))


def test_a_recipe_of_a_stranger_names_no_folder_as_its_judge(painter: str, judge: str) -> None:
    engine = LocalEngine()
    recipe = engine.resolve(request_of(painter, None))
    strange = Recipe.from_json(
        json.dumps(recipe.to_dict() | {"settings": {"best_of": 4, "kept": None, "judge": judge, "judge_digest": None}})
    )
    with pytest.raises(UnknownModel):
        engine.revive(strange)


def test_a_judge_that_is_the_model_itself_is_none(model: str, judge: str) -> None:
    recipe = LocalEngine().resolve(request_of(model, model, best_of=4))
    assert recipe.settings.judge is None
    assert "judge" not in recipe.settings.to_dict()  # so keys of older journals stay


def test_what_a_judge_does_not_read_or_know_is_said(model: str, judge: str) -> None:
    long = "a red cat on a blue dog on a teddy bear on a red dog"
    recipe = LocalEngine().resolve(request_of(model, judge, prompt=long, best_of=2))
    assert any(notice.startswith("tiny-clip judges without the end of the prompt") for notice in recipe.notices)
    recipe = LocalEngine().resolve(request_of(model, "starter", prompt="a zorble", best_of=2))
    assert "starter judges, and does not know: zorble" in recipe.notices


def test_a_dry_run_says_who_judges_and_how_both_fit(dalle: Dalle, painter: str, judge: str) -> None:
    asked = ("generate", "a cat", "--best-of", "9", "--judge", judge, "-m", painter, "--dry-run")
    said = dalle(*asked, *QUICK).out.decode()
    assert "the best of 9 by tiny-clip" in said
    assert "tiny-clip judges beside it: all networks are kept" in said
    assert (
        "tiny-clip judges in turns with it: one network at a time"
        in dalle(*asked, "--memory", "low", *QUICK).out.decode()
    )


REFUSED = {
    "no best-of": (("--judge", "starter"), "--judge scores the pictures of a best-of, and there is none"),
    "no clip": (("--best-of", "4"), "painter has no CLIP, which --best-of needs"),
    "a judge without clip": (("--best-of", "4", "--judge", "glide"), "glide has no CLIP to judge by"),
    "not here": (("--best-of", "4", "--judge", "clip-vit-b-32"), "clip-vit-b-32 is not on this machine"),
    "unknown": (("--best-of", "4", "--judge", "nobody"), "no model is called 'nobody'"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_judged_is_refused_by_name(dalle: Dalle, painter: str, hub: object, why: str) -> None:
    options, what = REFUSED[why]
    result = dalle("generate", "a cat", "-m", painter, *options, *QUICK)
    assert (result.code in (2, 3), result.lines) == (True, [])
    assert what in result.err
    if why == "no clip":
        assert "--judge clip-vit-b-32" in result.err


def test_prompt_files_judge_too_and_a_judge_in_the_config_is_idle_elsewhere(
    dalle: Dalle, painter: str, judge: str
) -> None:
    assert dalle("config", "set", "judge", judge).code == 0
    lines = [{"prompt": "a cat", "best_of": 3, "n": 2}, {"prompt": "a dog"}, {"prompt": "a bear", "judge": "starter"}]
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    dry = dalle("generate", "--prompts", "lines.jsonl", "--out", "o", "-m", painter, *QUICK[:-1])
    assert dry.code == 2
    assert "a judge scores the pictures of a best-of" in dry.err
    Path("lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:2]))
    made = dalle("generate", "--prompts", "lines.jsonl", "--out", "o", "-m", painter, "--json", *QUICK)
    assert (made.code, made.err) == (0, "")
    judges = [record["judge"] and record["judge"]["name"] for record in made.objects]
    assert sorted(judges, key=str) == [None, "tiny-clip", "tiny-clip"]
    assert not list(Path("o/.dalle").glob("scores-*"))
    again = dalle("generate", "--prompts", "lines.jsonl", "--out", "o", "-m", painter, *QUICK[:-1])
    assert (again.code, again.lines) == (0, [])


def test_python_judges_as_the_command_line_does(dalle: Dalle, painter: str, judge: str) -> None:
    model = dallecli.open(painter, device="cpu", dtype="fp32")
    (picture,) = model.generate("a red cat", seed=7, best_of=4, judge=judge)
    made = dalle("generate", "a red cat", "--best-of", "4", "--judge", judge, "-m", painter, "-o", "a.png", *QUICK)
    assert made.code == 0
    assert Image.open("a.png").tobytes() == picture.image.tobytes()
    with pytest.raises(BadSetting, match="a judge scores"):
        model.generate("a red cat", judge=judge)
