"""Recipes know the weights that they used, whatever else a model's folder gains."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import oracle
import pytest
from PIL import Image

from dallecli.errors import BadFile
from dallecli.recipe import Recipe
from dallecli.source import read_source
from dallecli.studio.engine import LocalEngine
from dallecli.studio.used import Digests
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials
from dallecli.tasks.vary import Vary
from dallecli.weights.folder import Folder

SECOND = ("super_res_2_first", "super_res_2_last", "super_res_2_scheduler")
FAST = Dials(steps=2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with everything: an image tower and two upsamplers."""
    return oracle.write(tmp_path_factory.mktemp("models") / "cascade", oracle.SHAPES["starter"])


@pytest.fixture
def model(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "cascade")


def asked(folder: Path, **changes: Any) -> Recipe:
    dials = {"seed": 7, "size": 8, "prior": FAST, "decoder": FAST, "dtype": "fp32"}
    return LocalEngine().resolve(Generate(prompt="a red cat", model=str(folder), **(dials | changes)))


def painted(folder: Path, recipe: Recipe) -> Recipe:
    engine = LocalEngine()
    (picture,) = engine.paint(engine.revive(recipe, str(folder)), lambda step: None)
    return picture.recipe


def without(folder: Path, *parts: str) -> None:
    for part in parts:
        shutil.rmtree(folder / part)


def change(folder: Path, part: str) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unused": 1}))


def test_a_folder_that_gains_parts_replays_what_it_painted_before(whole, model):
    without(model, "image_encoder", "feature_extractor", *SECOND)
    recipe = painted(model, asked(model))
    assert recipe.digest == Folder(model).digest()
    assert painted(whole, recipe) == recipe


def test_a_folder_that_lost_parts_replays_what_did_not_use_them(whole, model):
    recipe = painted(whole, asked(whole))
    without(model, "image_encoder", *SECOND)
    assert painted(model, recipe) == recipe


def test_older_recipes_counted_all_that_was_there_and_are_painted(whole, model):
    recipe = asked(whole)
    without(model, *SECOND)
    for older in (Folder(whole).digest(), Folder(model).digest()):
        assert painted(whole, replace(recipe, digest=older)).digest == Digests.read(Folder(whole)).of(recipe)


@pytest.mark.parametrize("part", ["prior", "decoder", "text_encoder", "super_res_first"])
def test_a_part_that_is_used_and_is_another_is_refused(whole, model, part):
    recipe = painted(whole, asked(whole))
    change(model, part)
    with pytest.raises(BadFile, match="not the weights that the recipe was painted with"):
        painted(model, recipe)


def test_a_digest_of_less_than_a_recipe_uses_is_not_accepted(whole, model):
    without(model, *SECOND)
    of_less = Folder(model).digest()
    recipe = asked(whole, size=32, upsampler=FAST)
    assert not Digests.read(Folder(whole)).accept(recipe, of_less)
    assert Digests.read(Folder(whole)).accept(asked(whole), of_less)


def test_a_model_that_was_pulled_to_vary_has_the_digest_of_the_whole_one(whole, model, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    without(model, "prior", "prior_scheduler", *SECOND)
    index = model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "UnCLIPImageVariationPipeline"}))
    image, recipes = read_source(str(tmp_path / "red.png")), []
    for folder in (model, whole):
        request = Vary(image=image, model=str(folder), seed=1, size=8)
        recipes.append(LocalEngine().resolve(request))
    few, all_of_it = (Digests.read(Folder(folder)) for folder in (model, whole))
    assert Folder(model).layout == "karlo-variations"
    assert few.of(recipes[0]) == all_of_it.of(recipes[1]) == Folder(model).digest()


def test_a_best_of_counts_the_tower_that_judges(whole, model):
    recipe = asked(whole, best_of=2)
    change(model, "image_encoder")
    assert Digests.read(Folder(whole)).of(recipe) != Digests.read(Folder(model)).of(recipe)
    assert Digests.read(Folder(whole)).of(asked(whole)) == Digests.read(Folder(model)).of(asked(whole))
