"""The world of looks as a whole."""

from dataclasses import replace
from typing import Final

import numpy as np

from dallecli.training.world import prompts
from dallecli.training.world.backdrops import COLOURS
from dallecli.training.world.captions import article
from dallecli.training.world.first import VARIED
from dallecli.training.world.looks.captions import STYLE_PHRASES, STYLES, caption_words, word_kinds
from dallecli.training.world.looks.grounds import NAMES
from dallecli.training.world.looks.scenes import APART, LOOK_NAMES, SINGLES, Mix, Scene, another, looks_for
from dallecli.training.world.looks.sprites import Drawn, mean_colour
from dallecli.training.world.looks.vocabulary import LOOKS, thing_index, things
from dallecli.training.world.pool import scenes
from dallecli.training.world.prompts import PROMPT_SEED
from dallecli.training.world.world import Kind, Prompt, World

_THINGS: Final = tuple(thing.name for thing in things())
_PAIRS: Final = replace(Mix(), single=0, count=0, plain=0.3, place=0, style=0, split="held_out")
_SEEN_PAIRS: Final = replace(_PAIRS, split="train")
_ANYTHING: Final = replace(Mix(), split="any")


def clear(thing: int) -> list[str]:
    """The names of the colours on which every drawing of a thing can be seen, or of those on which most can."""
    tones = [np.asarray(mean_colour(Drawn(thing, look)), dtype=np.float64) for look in things()[thing].looks]
    seen = {name: sum(np.linalg.norm(tone - colour) >= APART for tone in tones) for name, colour in COLOURS.items()}
    return [name for name, count in seen.items() if count == max(seen.values())]


def drawn_in(thing: int, style: str) -> bool:
    """Whether a style has a drawing of a thing."""
    return any(look in looks_for(style) for look in things()[thing].drawn)


def varied() -> tuple[Prompt, ...]:
    """The first world's prompts of which every seed should paint another picture."""
    chosen = [thing_index()[name] for name in VARIED]
    alone = [Prompt(caption=article(_THINGS[thing]), things=(thing,)) for thing in chosen]
    coloured = [
        prompts.on_ground(_THINGS, thing, _varied_ground(thing, place), NAMES) for place, thing in enumerate(chosen)
    ]
    return (*alone, *coloured)


def _varied_ground(thing: int, place: int) -> str:
    colours = clear(thing)
    return colours[place % min(3, len(colours))]


def redraw(rng: np.random.Generator, prompt: Prompt) -> Scene:
    """Another scene of a prompt of one thing: what the caption leaves open is drawn anew."""
    return another(rng, prompt.caption, prompt.things[0], NAMES[prompt.background])


def _kinds() -> tuple[Kind, ...]:
    styled = replace(SINGLES, style=1)
    counted = replace(Mix(), single=0, riding=0, on=0, adorned=0, beside=0, left_of=0, style=0)
    return (
        Kind(
            name="single",
            prompts=lambda n: prompts.single_prompts(_THINGS, n, PROMPT_SEED),
            drawn=replace(SINGLES, style=0),
        ),
        Kind(
            name="background",
            prompts=lambda n: prompts.coloured_prompts(_THINGS, clear, NAMES, n, PROMPT_SEED + 1),
            drawn=replace(SINGLES, plain=1, place=0, style=0),
        ),
        Kind(
            name="pair",
            prompts=lambda n: prompts.scene_prompts(scenes(PROMPT_SEED + 2**16, n, _PAIRS)),
            drawn=_PAIRS,
        ),
        Kind(
            name="seen_pair",
            prompts=lambda n: prompts.scene_prompts(scenes(PROMPT_SEED + 2**16, n, _SEEN_PAIRS)),
            drawn=_SEEN_PAIRS,
        ),
        Kind(
            name="style",
            prompts=lambda n: prompts.style_prompts(_THINGS, STYLE_PHRASES, drawn_in, n, PROMPT_SEED + 2),
            drawn=styled,
        ),
        Kind(
            name="count",
            prompts=lambda n: prompts.scene_prompts(scenes(PROMPT_SEED + 2**16 + 2**15, n, counted)),
            drawn=counted,
        ),
        Kind(
            name="anything",
            prompts=lambda n: prompts.scene_prompts(scenes(PROMPT_SEED + 2**17, n, _ANYTHING)),
            drawn=_ANYTHING,
        ),
    )


LOOKS_WORLD: Final = World(
    name="looks",
    things=_THINGS,
    grounds=NAMES,
    styles=STYLES,
    looks=tuple(LOOKS[look] for look in LOOK_NAMES),
    words=caption_words,
    word_kinds=word_kinds,
    train=Mix(),
    held_out=_ANYTHING,
    large=Mix(),
    hinted=(),
    kinds=_kinds(),
    varied=varied,
    redraw=redraw,
)
