"""A preset names its world, and each world answers what training and evaluation ask of it."""

import numpy as np
import pytest

from dallecli.errors import BadSetting
from dallecli.training.preset_file import load_preset
from dallecli.training.world.pool import label, render_pool, scenes
from dallecli.training.world.scenes import HELD_OUT_SEEDS
from dallecli.training.world.world import World
from dallecli.training.world.worlds import WORLDS, find_world


@pytest.mark.parametrize("world", WORLDS.values(), ids=list(WORLDS))
def test_every_kind_asks_for_what_its_world_can_draw(world: World) -> None:
    for kind in world.kinds:
        prompts = kind.prompts(30)
        assert len(prompts) >= 25
        for prompt in prompts:
            assert all(0 <= thing < len(world.things) for thing in prompt.things)
            assert 0 <= prompt.background < len(world.grounds) and 0 <= prompt.style < len(world.styles)
        assert all(scene.draw(64).shape == (64, 64, 3) for scene in scenes(HELD_OUT_SEEDS, 3, kind.drawn))


@pytest.mark.parametrize("world", WORLDS.values(), ids=list(WORLDS))
def test_the_same_seed_is_the_same_pool(world: World) -> None:
    pools = [render_pool(world, None, 6, 3, (32, 64), world.train) for _ in range(2)]
    assert pools[0].captions == pools[1].captions
    assert all((pools[0].pictures[size] == pools[1].pictures[size]).all() for size in (32, 64))
    assert (pools[0].labels.objects == label(world, list(scenes(3, 6, world.train))).objects).all()


def test_twenty_four_captions_should_differ_from_seed_to_seed_in_every_world() -> None:
    for world in WORLDS.values():
        prompts = world.varied()
        assert len({prompt.caption for prompt in prompts}) == 24
        rng = np.random.default_rng(0)
        assert all(world.redraw(rng, prompt).label.things == prompt.things for prompt in prompts)


def test_the_shipped_starter_s_preset_is_of_the_first_world() -> None:
    assert (load_preset("cpu").world, load_preset("looks").world) == ("first", "looks")


def test_an_unknown_world_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadSetting) as refused:
        find_world("flat")
    assert "looks" in str(refused.value.hint)
