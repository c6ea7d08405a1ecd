"""What a model says that it knows: the words of its captions, and how strange a picture may be to it."""

import json

import pytest

from dallecli.errors import BadFile
from dallecli.training.world.pool import scenes
from dallecli.training.world.worlds import WORLDS
from dallecli.weights.known import Words, read_strangeness, read_words
from dallecli.weights.registry import find, locate

STARTER = locate(find("starter")).path


def starter() -> Words:
    words = read_words(STARTER)
    assert words is not None
    return words


@pytest.mark.parametrize("world", WORLDS.values(), ids=lambda world: world.name)
def test_every_word_of_a_worlds_captions_is_known(world):
    kinds = json.loads(json.dumps(world.word_kinds()))
    words = Words({kind: {name: tuple(others) for name, others in kinds[kind].items()} for kind in kinds})
    captions = [scene.caption for grammar in (world.train, world.held_out) for scene in scenes(0, 2000, grammar)]
    assert words.unknown(captions) == ()


def test_the_starters_list_is_that_of_the_world_it_was_trained_in():
    assert json.loads((STARTER / "words.json").read_text()) == WORLDS["first"].word_kinds()


@pytest.mark.parametrize(
    ("sentence", "unknown"),
    [
        ("my grandmother baking bread", ("grandmother", "baking", "bread")),
        ("Two CATS, and a teddy bear in the snow!", ()),
        ("a bear with a soccer ball", ("bear",)),
        ("the dog's umbrella", ()),
        ("a dog behind a dog behind a wizard", ("behind", "wizard")),
        ("four dogs", ("four",)),
        ("ein Füchslein", ("ein", "füchslein")),
        ("", ()),
    ],
)
def test_a_word_is_unknown_that_no_caption_has_and_that_shows_something(sentence, unknown):
    assert starter().unknown([sentence]) == unknown


def test_a_folder_without_the_files_says_nothing(tmp_path):
    assert read_words(tmp_path) is None
    assert read_strangeness(tmp_path) is None


@pytest.mark.parametrize("content", ['{"things": ["dog"]}', '{"things": {"dog": "dogs"}}', '{"things": {"dog": [1]}}'])
def test_a_list_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "words.json").write_text(content)
    with pytest.raises(BadFile, match="a kind of words"):
        read_words(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"strangeness": 0}', '{"strangeness": true}', '{"strangeness": "1"}'])
def test_a_strangeness_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "familiar.json").write_text(content)
    with pytest.raises(BadFile, match="strangeness cannot be"):
        read_strangeness(tmp_path)
