"""The first world as a whole: 48 things, each of one drawing; the starter of 0.1.0 was made for it."""

from dataclasses import replace
from typing import Final

import numpy as np

from dallecli.training.world import prompts
from dallecli.training.world.backdrops import COLOURS, NAMES
from dallecli.training.world.captions import STYLE_PHRASES, STYLES, article, caption_words, word_kinds
from dallecli.training.world.pool import scenes
from dallecli.training.world.prompts import PROMPT_SEED
from dallecli.training.world.scenes import SINGLES, Mix, Scene, another
from dallecli.training.world.sprites import mean_colour
from dallecli.training.world.vocabulary import thing_index, things
from dallecli.training.world.world import Kind, Prompt, World

_THINGS: Final = tuple(thing.name for thing in things())
_PAIRS: Final = replace(Mix(), single=0, count=0, plain=0.3, place=0, style=0, split="held_out")
"""Two things on plain ground, in pairs that no training scene shows."""
_SEEN_PAIRS: Final = replace(_PAIRS, split="train")
"""The same in pairs that training scenes show: a model that paints many more of these has learned pairs by heart."""
_COUNTED: Final = replace(Mix(), single=0, riding=0, on=0, adorned=0, beside=0, left_of=0, style=0)
"""Two or three of one thing."""
_ANYTHING: Final = replace(Mix(), split="any")
VARIED: Final = (
    "dog",
    "cat",
    "panda",
    "car",
    "horse",
    "penguin",
    "house",
    "balloon",
    "fish",
    "apple",
    "castle",
    "robot",
)
"""The things of the prompts whose pictures should differ."""


def clear(thing: int) -> list[str]:
    """The names of the colours on which a thing can be seen."""
    tone = np.asarray(mean_colour(thing), dtype=np.float64)
    return [name for name, colour in COLOURS.items() if np.linalg.norm(tone - colour) >= 75]


def varied() -> tuple[Prompt, ...]:
    """Twelve things alone, and the same twelve on a named colour."""
    chosen = [thing_index()[name] for name in VARIED]
    alone = [Prompt(caption=article(_THINGS[thing]), things=(thing,)) for thing in chosen]
    coloured = [prompts.on_ground(_THINGS, thing, clear(thing)[place % 3], NAMES) for place, thing in enumerate(chosen)]
    return (*alone, *coloured)


def redraw(rng: np.random.Generator, prompt: Prompt) -> Scene:
    """Another scene of a prompt of one thing: what the caption leaves open is drawn anew."""
    return another(rng, prompt.caption, prompt.things[0], NAMES[prompt.background])


def _kinds() -> tuple[Kind, ...]:
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
            prompts=lambda n: prompts.style_prompts(_THINGS, STYLE_PHRASES, lambda *_: True, n, PROMPT_SEED + 2),
            drawn=replace(SINGLES, style=1),
        ),
        Kind(
            name="count",
            prompts=lambda n: prompts.scene_prompts(scenes(PROMPT_SEED + 2**16 + 2**15, n, _COUNTED)),
            drawn=_COUNTED,
        ),
        Kind(
            name="anything",
            prompts=lambda n: prompts.scene_prompts(scenes(PROMPT_SEED + 2**17, n, _ANYTHING)),
            drawn=_ANYTHING,
        ),
    )


FIRST: Final = World(
    name="first",
    things=_THINGS,
    grounds=NAMES,
    styles=STYLES,
    looks=(),
    words=caption_words,
    word_kinds=word_kinds,
    train=Mix(),
    held_out=_ANYTHING,
    large=replace(Mix(), style=0.1),
    hinted=("pencil sketch", "pixel art", "black and white"),
    kinds=_kinds(),
    varied=varied,
    redraw=redraw,
)
