"""Pictures that version 0.1.0 painted, every verb and format of them, are still read and made again."""

from pathlib import Path

import pytest

from dallecli.filling import request_of
from dallecli.pictures.metadata import read_recipe
from dallecli.recipe import Recipe
from dallecli.source import locate
from dallecli.studio.engine import LocalEngine

from .conftest import Dalle

FOLDER = Path(__file__).parent / "pictures_of_0.1.0"
INPUTS = {"cat.png", "dog.png", "photo.jpg"}
PICTURES = sorted(path for path in FOLDER.iterdir() if path.name not in INPUTS)


def test_all_verbs_are_here():
    assert {read_recipe(path).task for path in PICTURES} == {"generate", "vary", "interpolate", "inpaint", "edit"}


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_a_recipe_of_an_old_picture_says_the_same_when_it_is_written_again(path):
    recipe = read_recipe(path)
    assert recipe.versions["dallecli"] == "0.1.0"
    assert Recipe.from_json(recipe.to_json()) == recipe
    found = recipe.with_sources(lambda source: locate(source, path))
    assert request_of(found).task == recipe.task


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_the_starter_takes_up_an_old_recipe_as_it_is(path, local):
    recipe = read_recipe(path.read_bytes(), where=path.name)
    recipe = recipe.with_sources(lambda source: locate(source, path))
    assert LocalEngine().revive(recipe).stages == recipe.stages


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.stem)
def test_an_old_picture_is_made_again_with_its_inputs_beside_it(path, dalle: Dalle):
    Path("again").mkdir()
    result = dalle("replay", str(path), "--out", "again")
    assert (result.code, len(result.lines)) == (0, 1), result.err
    again = read_recipe(Path(result.lines[0]))
    assert (again.task, again.seed, again.stages) == tuple(
        getattr(read_recipe(path), name) for name in ("task", "seed", "stages")
    )
