"""Every drawing is there, opaque enough to be seen, and its artist's licence is named."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from dallecli.training.world.looks import sprites
from dallecli.training.world.looks.sprites import HUES, Drawn, mean_colour, outline, shape, sprite
from dallecli.training.world.looks.vocabulary import LOOKS, thing_index, things

FOLDER = files("dallecli.training.world.looks.sprites")


ATLASES = [f"{name}.{'png' if look == 'L' else 'webp'}" for look, name in LOOKS.items()]


def every() -> list[Drawn]:
    return [Drawn(index, look) for index, thing in enumerate(things()) for look in thing.drawn]


def test_the_atlases_hold_every_drawing_and_are_small() -> None:
    assert set(sprites._index()) == set(every())
    assert sum(len(FOLDER.joinpath(atlas).read_bytes()) for atlas in ATLASES) < 4_000_000


def test_every_thing_is_drawn_by_three_artists_or_more() -> None:
    assert all(len(thing.looks) >= 3 for thing in things())


def test_every_drawing_fills_its_box() -> None:
    for drawn in every():
        found = sprite(drawn, 64, 64)
        alpha = 255 - found.clear[..., 0]
        assert (alpha > 128).mean() > (0.05 if drawn.look == "L" else 0.2), drawn
        assert alpha[:4].any() and alpha[-4:].any() and alpha[:, :4].any() and alpha[:, -4:].any(), drawn
        assert (found.colour <= alpha[..., None]).all(), drawn


def test_a_whole_turn_of_the_hue_leaves_colours_as_they_are_and_grey_is_never_turned() -> None:
    assert np.allclose(np.linalg.matrix_power(sprites.turns()[1].astype(np.float64), HUES), np.eye(3), atol=1e-5)
    assert np.allclose(sprites.turns() @ np.full(3, 100.0), 100, atol=1e-3)


def test_a_turned_car_is_another_colour_of_the_same_shape() -> None:
    car = Drawn(thing_index()["car"], "N")
    plain, turned = sprite(car, 32, 20), sprite(car, 32, 20, hue=3)
    assert (plain.clear == turned.clear).all()
    assert np.abs(np.subtract(mean_colour(car), mean_colour(car, hue=3))).max() > 60


def test_a_mirrored_sprite_is_mirrored() -> None:
    dog = Drawn(thing_index()["dog"], "T")
    assert (sprite(dog, 20, 24, mirrored=True).colour == sprite(dog, 20, 24).colour[:, ::-1]).all()


def test_a_sticker_s_paper_reaches_all_round_its_thing() -> None:
    dog = Drawn(thing_index()["dog"], "N")
    paper, drawn = outline(dog, 40, 44, 2)[..., 0], sprite(dog, 40, 44)
    assert (paper[2:-2, 2:-2][drawn.clear[..., 0] < 64] > 200).all()
    assert paper.any(axis=0).all() and (paper[0] > 0).any()


def test_hearts_are_seen_from_the_front_and_dogs_from_the_side() -> None:
    assert not shape(Drawn(thing_index()["heart"], "N")).side
    assert shape(Drawn(thing_index()["dog"], "T")).side


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("MIT.txt", "Copyright (c) Microsoft Corporation"),
        ("OFL.txt", "SIL OPEN FONT"),
        ("CC-BY-4.0.txt", "Attribution 4.0 International"),
    ],
)
def test_the_licences_of_the_art_are_kept_beside_it(file: str, words: str) -> None:
    assert words in FOLDER.joinpath(file).read_text(encoding="utf-8")


def test_the_notice_credits_every_artist() -> None:
    notice = (Path(__file__).parents[4] / "NOTICE").read_text(encoding="utf-8")
    assert all(atlas in notice for atlas in ATLASES)
    for artist in ("Google", "Microsoft", "Twitter", "EmojiTwo"):
        assert artist in notice
    assert json.loads(FOLDER.joinpath("atlas.json").read_text(encoding="utf-8")).keys() == LOOKS.keys()
