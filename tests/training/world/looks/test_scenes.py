"""Scenes of the world of looks say what they show, differ where nothing is said, and are the same at every size."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest

from dallecli.training.world.arrangements import Arrangement, is_held_out
from dallecli.training.world.backdrops import COLOURS
from dallecli.training.world.first import FIRST
from dallecli.training.world.looks import captions, scenes
from dallecli.training.world.looks.captions import STYLES
from dallecli.training.world.looks.grounds import GRID, NAMES, WHITE, plain
from dallecli.training.world.looks.scenes import SIZES, USUAL, Mix, Placed, Scene, render
from dallecli.training.world.looks.sprites import Drawn, mean_colour, shape
from dallecli.training.world.looks.vocabulary import thing_index, things
from dallecli.training.world.looks.world import LOOKS_WORLD
from dallecli.training.world.pool import label
from dallecli.training.world.pool import scenes as scenes_of
from dallecli.training.world.scenes import HELD_OUT_SEEDS
from dallecli.training.world.world import UNKNOWN, Prompt

MANY = 3000


@pytest.fixture(scope="module")
def sampled() -> list[Scene]:
    return list(scenes_of(0, MANY, Mix()))


def one(thing: str, look: str = "N", style: str = "plain", mirrored: bool = False) -> Scene:
    placed = Placed(thing=thing_index()[thing], look=look, x=4, y=6, width=20, height=20, mirrored=mirrored)
    return Scene(
        caption=thing,
        arrangement="single",
        placed=(placed,),
        ground=plain(WHITE),
        background="unnamed",
        style=style,
    )


def averaged(pixels: np.ndarray, size: int) -> np.ndarray:
    factor = pixels.shape[0] // size
    return pixels.reshape(size, factor, size, factor, 3).mean(axis=(1, 3), dtype=np.float64)


# --- drawing ---


@pytest.mark.parametrize("style", STYLES)
def test_the_smallest_picture_is_the_box_average_of_the_64_px_picture(style: str) -> None:
    scene = one("dog", "L" if style == "line drawing" else "N", style)
    assert np.abs(render(scene, 32) - averaged(render(scene, 64), 32)).max() <= 0.5


@pytest.mark.parametrize("style", ["plain", "sticker", "silhouette", "black and white"])
def test_large_pictures_show_the_scene_of_the_64_px_picture(style: str) -> None:
    # The sizes are resampled one by one; a thing one base pixel off would differ by far more.
    large, small = averaged(render(one("house", style=style), 256), 64), render(one("house", style=style), 64)
    assert np.abs(large - small).mean() < 3


def test_a_mirrored_thing_is_its_mirror_image_in_its_place() -> None:
    plain_one, mirrored = render(one("dog"), 64), render(one("dog", mirrored=True), 64)
    box = slice(8, 48)
    assert (mirrored[12:52, box] == plain_one[12:52, box][:, ::-1]).all()


def test_what_reaches_over_the_edge_is_cut() -> None:
    scene = one("heart", style="sticker")
    aside = Scene(
        caption="a heart",
        arrangement="single",
        placed=(Placed(thing=scene.placed[0].thing, look="N", x=0, y=0, width=32, height=32),),
        ground=plain((40, 98, 224)),
        background="unnamed",
        style="sticker",
    )
    assert render(aside, 64).shape == (64, 64, 3)


def test_a_silhouette_is_black_and_a_sticker_has_a_white_border() -> None:
    silhouette, drawn = render(one("dog", style="silhouette"), 64), render(one("dog"), 64)
    assert (silhouette[(drawn < 128).all(axis=-1)] < 128).all()
    blue = Scene(
        caption="a dog",
        arrangement="single",
        placed=one("heart").placed,
        ground=plain((40, 98, 224)),
        background="unnamed",
        style="sticker",
    )
    # From the left edge to the heart: the ground, the border, the red.
    row = render(blue, 256)[130]
    colours = [tuple(pixel // 86) for pixel in row[:128]]
    assert colours.index((2, 2, 2)) < colours.index((2, 0, 0))


def test_other_sizes_are_refused() -> None:
    for size in SIZES:
        assert render(one("dog"), size).shape == (size, size, 3)
    with pytest.raises(ValueError, match="size"):
        render(one("dog"), 16)


def test_the_scenes_of_a_seed_never_change() -> None:
    text = "\n".join(f"{scene.caption} {scene.placed} {scene.ground}" for scene in scenes_of(0, 200, Mix()))
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "5a8e274d99d8"


# --- grammar ---


def test_everything_stands_inside_the_picture(sampled: list[Scene]) -> None:
    for scene in sampled:
        for placed in scene.placed:
            assert placed.width >= 1 and placed.height >= 1, scene
            assert 0 <= placed.x <= GRID - placed.width and 0 <= placed.y <= GRID - placed.height, scene


def spoken(placed: Placed) -> tuple[str, ...]:
    thing = things()[placed.thing]
    return (thing.name, *thing.aliases)


def test_captions_name_what_they_show(sampled: list[Scene]) -> None:
    for scene in sampled:
        for name, count in scene.counts.items():
            thing = things()[thing_index()[name]]
            names = {thing.plural} if count > 1 else {thing.name, *thing.aliases}
            assert any(re.search(rf"\b{word}\b", scene.caption) for word in names), scene
        if scene.background in COLOURS:
            assert re.search(rf"\b{scene.background} background", scene.caption), scene
        for placed in scene.placed:
            assert placed.ink is None or placed.ink in scene.caption, scene


def test_captions_are_plain_english_of_known_words(sampled: list[Scene]) -> None:
    known = set(captions.caption_words())
    for scene in sampled:
        assert scene.caption == scene.caption.lower().strip() and "  " not in scene.caption
        assert not re.search(r"\ba (a|e|i|o|u(?!ni))|\ban (?![aeiou])|\ban uni|[{}]", scene.caption), scene.caption
        assert set(re.findall(r"[a-z]+|[0-9]|[^\sa-z0-9]", scene.caption)) <= known, scene.caption


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


def test_a_named_look_is_that_look_and_is_seen_when_it_is_not_named(sampled: list[Scene]) -> None:
    looks = {"3d": "F", "flat": "T", "line drawing": "L"}
    for style, look in looks.items():
        named = [scene for scene in sampled if scene.style == style]
        assert named and all({placed.look for placed in scene.placed} == {look} for scene in named)
    unnamed = {placed.look for scene in sampled if scene.style == "plain" for placed in scene.placed}
    assert unnamed == set("NFTEV")
    assert [one("dog", "F").seen, one("dog", "N").seen] == ["3d", "plain"]
    assert one("dog", "F", "sticker").seen == "sticker"


@pytest.mark.long
def test_letters_are_never_mirrored() -> None:
    drawn = scenes_of(0, 20_000, Mix(style=0))
    trucks = [one for scene in drawn for one in scene.placed if things()[one.thing].name == "truck"]
    delivery = [placed for placed in trucks if placed.look == "E"]
    assert len(delivery) > 5 and not any(placed.mirrored for placed in delivery)
    assert any(placed.mirrored for placed in trucks)


def test_a_rider_stays_with_its_mount_in_the_mirror(sampled: list[Scene]) -> None:
    asked = 0
    for scene in sampled:
        if scene.arrangement == "riding":
            mount, rider = scene.placed
            asked += 1
            assert mount.x - rider.width < rider.x < mount.x + mount.width, scene
            assert mount.y < rider.y + rider.height <= mount.y + mount.height, scene
            if scene.label.order is None:  # aboard, and so not above
                assert shape(mount.drawn).saddle is not None and scenes._figure(mount.drawn).boarded
                assert mount.x <= rider.x + rider.width / 2 <= mount.x + mount.width
            else:
                assert rider.y <= mount.y, scene
    assert asked > 100


@pytest.mark.parametrize("relation", ["riding", "on", "under", "beside", "left of"])
def test_where_a_drawing_stands_does_not_depend_on_what_it_stands_with(relation: Arrangement) -> None:
    boxes: dict[tuple[int, Drawn], set[Placed]] = {}
    for first, _, second in scenes._pairs((relation,), "any", "plain"):
        drawn = (Drawn(first, things()[first].looks[0]), Drawn(second, things()[second].looks[0]))
        for role, placed in enumerate(scenes._both(drawn[0], relation, drawn[1])):
            boxes.setdefault((role, placed.drawn), set()).add(placed)
    # Who flies or sails is smaller than who rides.
    assert {drawn for drawn, found in boxes.items() if len(found) > 1 + (relation == "riding")} == set()
    assert len(boxes) > 40


def test_held_out_pairs_never_meet_in_training_and_always_in_the_held_out_split(sampled: list[Scene]) -> None:
    held_out = list(scenes_of(HELD_OUT_SEEDS, MANY, Mix(split="held_out", single=0, count=0, style=0)))
    for drawn, expected in ((sampled, False), (held_out, True)):
        met = [scene for scene in drawn if len(scene.counts) == 2]
        assert len(met) > MANY / 4
        for scene in met:
            first, second = scene.counts
            if scene.arrangement in ("riding", "on", "under"):
                first, second = second, first
            assert is_held_out(first, scene.arrangement, second) == expected, scene


def test_things_on_named_colours_can_be_seen(sampled: list[Scene]) -> None:
    for scene in sampled:
        if scene.background in COLOURS and scene.style not in ("sticker", "silhouette"):
            ground = np.asarray(COLOURS[scene.background], dtype=np.float64)
            for placed in scene.placed:
                ink = None if placed.ink is None else COLOURS[placed.ink]
                tone = mean_colour(placed.drawn, ink, placed.hue)
                assert np.linalg.norm(ground - tone) >= 75, scene.caption


def test_pictures_of_one_caption_differ_in_look_side_size_place_and_ground() -> None:
    prompt = Prompt(caption="a dog", things=(thing_index()["dog"],))
    rng = np.random.default_rng(0)
    drawn = [LOOKS_WORLD.redraw(rng, prompt) for _ in range(200)]
    placed = [scene.placed[0] for scene in drawn]
    assert Counter(one.look for one in placed).keys() == set("NFTE")
    assert 0.35 < np.mean([one.mirrored for one in placed if shape(one.drawn).side]) < 0.65
    assert {max(one.width, one.height) for one in placed} == set(USUAL)
    assert len({(one.x + one.width / 2) // 1 for one in placed}) >= 8
    assert len({scene.ground for scene in drawn}) > 50


def test_a_caption_redrawn_keeps_what_it_names() -> None:
    for place, prompt in enumerate(LOOKS_WORLD.varied()):
        scene = LOOKS_WORLD.redraw(np.random.default_rng(place), prompt)
        assert scene.label.things == prompt.things and scene.label.background == prompt.background
        assert scene.caption == prompt.caption


# --- labels ---


def test_labels_say_what_the_scenes_hold(sampled: list[Scene]) -> None:
    labels = label(LOOKS_WORLD, sampled)
    for row, scene in enumerate(sampled):
        assert {things()[i].name: n for i, n in enumerate(labels.objects[row]) if n} == scene.counts
        assert NAMES[labels.background[row]] == scene.background
        assert STYLES[labels.style[row]] == scene.seen


def test_look_and_mirror_are_asked_only_where_they_can_be_seen() -> None:
    assert (one("dog").label.look, one("dog").label.mirrored) == (0, 0)
    assert (one("dog", "T", mirrored=True).label.look, one("dog", "T", mirrored=True).label.mirrored) == (2, 1)
    assert one("dog", style="pencil sketch").label.look == UNKNOWN
    assert one("heart").label.mirrored == UNKNOWN


# --- the vocabulary ---


def test_the_first_world_s_things_come_first_in_its_order() -> None:
    names = tuple(thing.name for thing in things())
    assert names[:48] == FIRST.things
    assert len(names) == len(set(names)) == 105


def test_no_name_or_alias_means_two_things() -> None:
    spoken_names = [name for thing in things() for name in (thing.name, *thing.aliases)]
    assert len(spoken_names) == len(set(spoken_names)) == len(thing_index())


def test_the_words_of_well_known_prompts_are_known() -> None:
    prompt = """an astronaut riding a horse, a teddy bear on a skateboard in times square, a red panda on a couch in the
    living room, a butterfly in the city park, a school bus, a basketball in a nebula"""
    assert set(re.findall("[a-z]+", prompt)) <= set(captions.caption_words())


def test_every_mount_has_a_saddle_and_every_rider_a_head_in_each_of_its_drawings() -> None:
    for index, thing in enumerate(things()):
        for look in thing.looks:
            found = shape(Drawn(index, look))
            assert (found.head is not None) == thing.head, (thing.name, look)
            assert (found.saddle is not None) == bool(thing.verbs or thing.seat), (thing.name, look)


def test_a_pair_that_a_style_cannot_draw_is_never_asked_for() -> None:
    astronaut = thing_index()["astronaut"]
    assert all(astronaut not in (first, second) for first, _, second in scenes._pairs(("beside",), "any", "flat"))
    assert any(astronaut in (first, second) for first, _, second in scenes._pairs(("beside",), "any", "3d"))
