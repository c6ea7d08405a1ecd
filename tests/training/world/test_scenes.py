"""Scenes are the same at every size, say what they show, and never change behind a trained model's back."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from dallecli.training.world import captions, pool, scenes, sprites
from dallecli.training.world.backdrops import COLOURS, NAMES, PASTELS, PLACES, UNNAMED_WHITE, backdrop
from dallecli.training.world.captions import STYLES
from dallecli.training.world.first import FIRST, clear
from dallecli.training.world.prompts import coloured_prompts, scene_prompts, single_prompts, style_prompts
from dallecli.training.world.scenes import GRID, HELD_OUT_SEEDS, SINGLES, Arrangement, Mix, Placed, Scene, render
from dallecli.training.world.vocabulary import thing_index, things

MANY = 3000
ADORNED = Mix(single=0, count=0, riding=0, on=0, beside=0, left_of=0, plain=0, place=0, style=0)


@pytest.fixture(scope="module")
def sampled() -> list[Scene]:
    return list(pool.scenes(0, MANY, Mix()))


def one(thing: str, x: int = 2, y: int = 2, ground: str = UNNAMED_WHITE, style: str = "plain") -> Scene:
    placed = Placed(thing=thing_index()[thing], x=x, y=y, width=8, height=8)
    return Scene(
        caption=thing,
        arrangement="single",
        placed=(placed,),
        ground=ground,
        variant=0,
        background="unnamed",
        style=style,
    )


def averaged(pixels: np.ndarray, size: int) -> np.ndarray:
    factor = pixels.shape[0] // size
    return pixels.reshape(size, factor, size, factor, 3).mean(axis=(1, 3), dtype=np.float64)


# --- the vocabulary and its drawings ---


def test_the_forty_eight_things_keep_their_label_order() -> None:
    names = [thing.name for thing in things()]
    assert len(names) == len(set(names)) == 48
    assert hashlib.sha256(",".join(names).encode()).hexdigest()[:12] == "1934ff66838c"


def test_no_name_or_alias_means_two_things() -> None:
    spoken = [name for thing in things() for name in (thing.name, *thing.aliases)]
    assert len(spoken) == len(set(spoken)) == len(thing_index())


def test_the_atlas_is_in_label_order_and_small() -> None:
    folder = files("dallecli.training.world.sprites")
    index = json.loads(folder.joinpath("atlas.json").read_text(encoding="utf-8"))
    assert [(entry["name"], tuple(entry["aliases"])) for entry in index] == [
        (thing.name, thing.aliases) for thing in things()
    ]
    assert len(folder.joinpath("atlas.png").read_bytes()) < 600_000
    assert "SIL OPEN FONT LICENSE Version 1.1" in folder.joinpath("OFL.txt").read_text(encoding="utf-8")


def test_every_thing_is_drawn_in_colour_and_fills_its_box() -> None:
    for index, thing in enumerate(things()):
        drawn = sprites.sprite(index, 64, 64)
        alpha = 255 - drawn.clear[..., 0]
        assert (alpha > 128).mean() > 0.2, thing.name
        assert alpha[0].any() and alpha[-1].any() and alpha[:, 0].any() and alpha[:, -1].any(), thing.name
        assert (drawn.colour <= alpha[..., None]).all(), thing.name


@pytest.mark.parametrize("thing", ["airplane", "sun", "heart", "umbrella", "couch", "red panda"])
def test_things_with_a_text_glyph_are_not_black_and_white(thing: str) -> None:
    red, green, blue = sprites.mean_colour(thing_index()[thing])
    assert max(red, green, blue) - min(red, green, blue) > 20


def hue_distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """The angle between two colours seen from grey, in degrees."""
    found, wanted = found - found.mean(), wanted - wanted.mean()
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@pytest.mark.parametrize("ink", sorted(set(captions.INKS) - {"black"}))
def test_ink_gives_every_thing_the_same_hue(ink: str) -> None:
    wanted = np.asarray(COLOURS[ink], dtype=np.float64)
    for index, thing in enumerate(things()):
        found = np.asarray(sprites.mean_colour(index, COLOURS[ink]), dtype=np.float64)
        assert hue_distance(found, wanted) < 10, thing.name
        assert found.max() - found.min() > 30, thing.name  # the panda is half black


def test_black_ink_gives_dark_things() -> None:
    for index, thing in enumerate(things()):
        assert max(sprites.mean_colour(index, COLOURS["black"])) < 140, thing.name


# --- drawing ---


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("style", captions.STYLES)
def test_small_pictures_are_box_averages_of_the_64_px_picture(size: int, style: str) -> None:
    scene = one("dog", ground="beach", style=style)
    # Half a level: the average is rounded to whole numbers.
    assert np.abs(render(scene, size) - averaged(render(scene, 64), size)).max() <= 0.5


@pytest.mark.parametrize("style", captions.STYLES)
@pytest.mark.parametrize("size", [128, 256])
def test_large_pictures_show_the_scene_of_the_64_px_picture(size: int, style: str) -> None:
    scene = one("robot", ground="snow", style=style)
    difference = np.abs(averaged(render(scene, size), 16) - averaged(render(scene, 64), 16))
    # The sizes are resampled one by one and a sketch blurs each at its own resolution; layout errors are far larger.
    assert difference.mean() < 3


def test_a_thing_looks_the_same_wherever_it_stands() -> None:
    for size in scenes.SIZES:
        unit = size // GRID
        here, there = render(one("cat", 0, 3), size), render(one("cat", 7, 6), size)
        patch = here[3 * unit : 11 * unit, : 8 * unit]
        assert (patch == there[6 * unit : 14 * unit, 7 * unit : 15 * unit]).all()
        assert patch.min() < 200, "the patch must show the cat"


def test_rendering_leaves_the_shared_backdrop_alone() -> None:
    before = backdrop("beach", 0, 64).copy()
    render(one("dog", ground="beach"), 64)
    assert (backdrop("beach", 0, 64) == before).all()


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="size must be one of"):
        render(one("dog"), 48)


def test_plain_grounds_are_one_exact_colour() -> None:
    for name, colour in (COLOURS | PASTELS).items():
        assert (render(one("dog", ground=name), 64)[0, 0] == colour).all()


def test_places_differ_from_each_other_even_at_16_px() -> None:
    shown = [backdrop(place, variant, 16).astype(np.float64) for place in PLACES for variant in (0, 1)]
    for left in range(len(shown)):
        for right in range(left):
            distance = np.abs(shown[left] - shown[right]).mean()
            assert distance > (20 if left // 2 != right // 2 else 1)


def test_pixel_art_is_sixteen_blocks_wide_in_six_levels() -> None:
    art = render(one("dog", ground="forest", style="pixel art"), 256)
    blocks = art.reshape(16, 16, 16, 16, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert set(np.unique(art)) <= {0, 51, 102, 153, 204, 255}


def test_pixel_art_is_outlined_in_what_can_be_seen() -> None:
    for ground, colour in ((UNNAMED_WHITE, 0), ("black", 255)):
        art = render(one("heart", ground=ground, style="pixel art"), 16)
        row = (art == colour).all(axis=-1)[6]
        inside = row.nonzero()[0]
        assert len(inside) == 2, "one block of the line on each side"
        assert 5 <= inside[1] - inside[0] <= 9, "the heart is eight blocks wide at most"
        plain = render(one("heart", ground=ground), 16)
        assert not (plain == colour).all(axis=-1)[6, inside].any()


def test_pixel_art_that_fills_the_picture_has_no_line_where_the_thing_is() -> None:
    heart = one("heart", style="pixel art").placed[0]
    filled = replace(one("heart", style="pixel art"), placed=(replace(heart, x=0, y=0, width=16, height=16),))
    assert (render(filled, 16)[8, 4:12] > 0).any(axis=-1).all()


def test_a_black_and_white_photo_has_no_colour() -> None:
    photo = render(one("heart", ground="beach", style="black and white"), 64)
    assert (photo == photo[..., :1]).all() and photo.std() > 5


@pytest.mark.parametrize("place", PLACES)
def test_a_sketch_is_lines_on_pale_paper_even_at_night(place: str) -> None:
    sketch = render(one("dog", ground=place, style="pencil sketch"), 16)
    assert np.median(sketch) > 190
    assert sketch.min() < 140


# --- grammar ---


def test_everything_stands_inside_the_picture(sampled: list[Scene]) -> None:
    for scene in sampled:
        for placed in scene.placed:
            assert placed.width >= 1 and placed.height >= 1, scene
            assert 0 <= placed.x <= GRID - placed.width and 0 <= placed.y <= GRID - placed.height, scene


def test_every_pair_of_every_relation_fits_the_picture() -> None:
    relations = ("riding", "on", "wearing", "under", "beside", "left of")
    for first, relation, second in sorted(set(scenes._pairs(relations, "any"))):
        for placed in scenes._both(first, relation, second):
            assert 0 <= placed.x <= GRID - placed.width and 0 <= placed.y <= GRID - placed.height, (first, second)


def test_captions_name_what_they_show(sampled: list[Scene]) -> None:
    for scene in sampled:
        for name, count in scene.counts.items():
            thing = things()[thing_index()[name]]
            spoken = {thing.plural} if count > 1 else {thing.name, *thing.aliases}
            assert any(re.search(rf"\b{word}\b", scene.caption) for word in spoken), scene
        if scene.background in COLOURS:
            assert re.search(rf"\b{scene.background} background", scene.caption), scene


def test_captions_are_plain_lower_case_english(sampled: list[Scene]) -> None:
    for scene in sampled:
        assert scene.caption == scene.caption.lower().strip() and "  " not in scene.caption
        assert not re.search(r"\ba (a|e|i|o|u(?!ni))|\ban (?![aeiou])|\ban uni|[{}]", scene.caption), scene.caption


@pytest.mark.parametrize("relation", ["riding", "on", "wearing", "under", "beside", "left of"])
def test_where_a_thing_stands_does_not_depend_on_what_it_stands_with(relation: Arrangement) -> None:
    boxes: dict[str, set[Placed]] = {}
    for first, _, second in scenes._pairs((relation,), "any"):
        for role, placed in enumerate(scenes._both(first, relation, second)):
            boxes.setdefault(f"{role} {placed.thing}", set()).add(placed)
    crown = f"1 {thing_index()['crown']}"
    # What no training scene shows together, has been seen in just these places with others. But a crown sits where a
    # head is, and who flies or sails is smaller than who rides.
    allowed = {name: 20 if relation == "wearing" and name == crown else 1 + (relation == "riding") for name in boxes}
    assert {name for name, found in boxes.items() if len(found) > allowed[name]} == set()
    assert len(boxes) > 20


def test_what_rides_touches_its_mount() -> None:
    for rider, relation, mount in sorted(set(scenes._pairs(("riding", "on", "wearing"), "any"))):
        below, top = scenes._both(rider, relation, mount)
        assert top.y + top.height >= below.y, (rider, relation, mount)
        assert below.x < top.x + top.width and top.x < below.x + below.width, (rider, relation, mount)


def test_left_of_means_left(sampled: list[Scene]) -> None:
    asked = 0
    for scene in sampled:
        if scene.arrangement == "left of":
            asked += 1
            said, side, other = re.split(r" (?:to the )?(left|right) of ", scene.caption)
            left, right = (said, other) if side == "left" else (other, said)
            assert scene.placed[0].x < scene.placed[1].x
            assert any(re.search(rf"\b{name}\b", left) for name in spoken(scene.placed[0])), scene
            assert any(re.search(rf"\b{name}\b", right) for name in spoken(scene.placed[1])), scene
    assert asked > 50


def spoken(placed: Placed) -> tuple[str, ...]:
    thing = things()[placed.thing]
    return (thing.name, *thing.aliases)


def test_shares_are_the_mix() -> None:
    drawn = list(pool.scenes(10_000, MANY, Mix()))
    kinds = Counter(scene.arrangement for scene in drawn)
    # Four standard errors at n = 3000 are at most 0.037.
    assert kinds["single"] / MANY == pytest.approx(Mix().single, abs=0.037)
    assert kinds["riding"] / MANY == pytest.approx(Mix().riding, abs=0.026)
    assert sum(scene.background in PLACES for scene in drawn) / MANY == pytest.approx(0.16, abs=0.027)
    assert sum(scene.style != "plain" for scene in drawn) / MANY == pytest.approx(0.15, abs=0.027)
    assert {scene.background for scene in drawn} == set(NAMES)
    assert {name for scene in drawn for name in scene.counts} == {thing.name for thing in things()}


def test_the_singles_mix_has_one_thing_in_every_picture() -> None:
    assert all(len(scene.placed) == 1 for scene in pool.scenes(0, 300, SINGLES))


def _relations(scene: Scene) -> tuple[str, str] | None:
    names = list(scene.counts)
    if len(names) < 2:
        return None
    return (names[1], names[0]) if scene.arrangement in ("riding", "on", "under") else (names[0], names[1])


def test_held_out_pairs_never_meet_in_training_and_always_in_the_held_out_split(sampled: list[Scene]) -> None:
    held_out = list(pool.scenes(HELD_OUT_SEEDS, MANY, Mix(split="held_out")))
    for drawn, expected in ((sampled, False), (held_out, True)):
        met = [(scene, pair) for scene in drawn if (pair := _relations(scene))]
        assert len(met) > MANY / 4
        assert all(scenes.is_held_out(a, scene.arrangement, b) == expected for scene, (a, b) in met)


def test_beside_is_held_out_in_both_orders() -> None:
    names = [thing.name for thing in things()]
    assert any(scenes.is_held_out(a, "beside", b) for a in names for b in names)
    assert all(scenes.is_held_out(a, "beside", b) == scenes.is_held_out(b, "beside", a) for a in names for b in names)


def test_things_on_named_colours_can_be_seen(sampled: list[Scene]) -> None:
    for scene in sampled:
        if scene.background in COLOURS:
            ground = np.asarray(COLOURS[scene.background], dtype=np.float64)
            for placed in scene.placed:
                ink = None if placed.ink is None else COLOURS[placed.ink]
                assert np.linalg.norm(ground - sprites.mean_colour(placed.thing, ink)) >= 75, scene.caption


# --- pools ---


def test_a_pool_is_its_shards() -> None:
    whole = pool.render_pool(FIRST, None, 12, 7, (16,), Mix())
    parts = [pool.render_pool(FIRST, None, 6, seed, (16,), Mix()) for seed in (7, 13)]
    assert (whole.pictures[16] == np.concatenate([part.pictures[16] for part in parts])).all()
    assert whole.captions == parts[0].captions + parts[1].captions


def test_a_stored_pool_comes_back(tmp_path: Path) -> None:
    written = pool.render_pool(FIRST, tmp_path / "pool", 5, 0, (16, 64), SINGLES)
    read = pool.open_pool(tmp_path / "pool")
    assert read.captions == written.captions
    assert set(read.pictures) == {16, 64}
    assert (read.pictures[64] == written.pictures[64]).all()
    assert (read.labels.objects == written.labels.objects).all()
    assert (read.labels.style == written.labels.style).all()


def test_one_shelters_under_more_than_an_umbrella_but_holds_nothing_else() -> None:
    sheltering = [scene for scene in pool.scenes(0, 4 * MANY, ADORNED) if scene.arrangement == "under"]
    words = [re.findall(r" (under|with) an? ", scene.caption) for scene in sheltering]
    said = {(things()[scene.placed[0].thing].name, *word) for scene, word in zip(sheltering, words, strict=True)}
    assert said == {("umbrella", "under"), ("umbrella", "with"), ("tree", "under"), ("mushroom", "under")}
    # Whoever is kept from one shelter has been seen, in the same place, under another.
    train, everyone = ({guest for guest, _, _ in scenes._pairs(("under",), split)} for split in ("train", "any"))
    assert train == everyone


def test_labels_say_what_the_scenes_hold(sampled: list[Scene]) -> None:
    labels = pool.label(FIRST, sampled)
    for row, scene in enumerate(sampled):
        assert {things()[i].name: n for i, n in enumerate(labels.objects[row]) if n} == scene.counts
        assert NAMES[labels.background[row]] == scene.background
        assert captions.STYLES[labels.style[row]] == scene.style


def test_a_pool_across_the_held_out_border_is_refused() -> None:
    with pytest.raises(ValueError, match="held-out"):
        list(pool.scenes(HELD_OUT_SEEDS - 1, 2, Mix()))
    assert len(list(pool.scenes(HELD_OUT_SEEDS - 2, 2, Mix()))) == 2


def test_the_pictures_that_models_were_trained_on_have_not_changed() -> None:
    drawn = list(pool.scenes(0, 200, Mix()))
    text = "\n".join(f"{scene.caption} {scene.placed}" for scene in drawn)
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "ab08ade5bd8e"


def test_prompts_of_single_things_ask_for_every_thing_equally_often() -> None:
    prompts = coloured_prompts(FIRST.things, clear, FIRST.grounds, 96, 0)
    assert set(Counter(prompt.things for prompt in prompts).values()) == {2}
    for prompt in prompts:
        (thing,) = prompt.things
        assert things()[thing].name in prompt.caption
        assert f"{NAMES[prompt.background]} background" in prompt.caption
    assert coloured_prompts(FIRST.things, clear, FIRST.grounds, 96, 0) == prompts
    assert all(prompt.background == 0 for prompt in single_prompts(FIRST.things, 5, 0))


def test_prompts_of_styles_go_round_the_styles() -> None:
    prompts = style_prompts(FIRST.things, captions.STYLE_PHRASES, lambda *_: True, 9, 0)
    assert [prompt.style for prompt in prompts] == [1, 2, 3] * 3
    for prompt in prompts:
        assert any(word in prompt.caption for word in STYLES[prompt.style].split())


def test_the_prompt_of_a_scene_orders_its_things_as_they_are_drawn() -> None:
    drawn = list(pool.scenes(HELD_OUT_SEEDS, 300, Mix(single=0, count=0, split="any")))
    orders = {"x": 0, "y": 0}
    for scene, prompt in zip(drawn, scene_prompts(drawn), strict=True):
        assert sorted(prompt.things) == sorted(placed.thing for placed in scene.placed)
        if prompt.order is None and scene.arrangement == "riding":  # aboard, and so not above
            mount, rider = scene.placed
            assert things()[mount.thing].name in ("sailboat", "airplane")
            assert mount.y <= rider.y and rider.y + rider.height <= mount.y + mount.height, scene
            continue
        if prompt.order is None:
            assert scene.arrangement == "beside"
            continue
        first, second, axis = prompt.order
        where = {placed.thing: placed for placed in scene.placed}
        if axis == "x":
            assert where[first].x + where[first].width <= where[second].x
        else:
            assert where[first].y <= where[second].y
        orders[axis] += 1
    assert min(orders.values()) > 20
