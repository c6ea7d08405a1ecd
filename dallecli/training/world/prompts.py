"""The prompts that a model is asked to paint, of seeds that no pool reaches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from dallecli.training.world.captions import article
from dallecli.training.world.scenes import HELD_OUT_SEEDS
from dallecli.training.world.world import Drawable, Prompt

PROMPT_SEED: Final = HELD_OUT_SEEDS + 2**20
"""Seeds from here on draw the prompts and scenes of the evaluation; no pool reaches them."""

Clear = Callable[[int], Sequence[str]]
"""Thing -> the names of the colours on which it does not drown."""


def single_prompts(names: Sequence[str], count: int, seed: int) -> tuple[Prompt, ...]:
    """Single-thing prompts, every thing equally often: "a dog"."""
    rng = np.random.default_rng(seed)
    return tuple(Prompt(caption=article(names[thing]), things=(thing,)) for thing in in_rounds(len(names), count, rng))


def coloured_prompts(
    names: Sequence[str], clear: Clear, grounds: Sequence[str], count: int, seed: int
) -> tuple[Prompt, ...]:
    """Single things on a named colour in which they don't drown: "a dog on a red background"."""
    rng = np.random.default_rng(seed)
    prompts = []
    for thing in in_rounds(len(names), count, rng):
        colours = clear(thing)
        colour = colours[int(rng.integers(len(colours)))]
        prompts.append(on_ground(names, thing, colour, grounds))
    return tuple(prompts)


def on_ground(names: Sequence[str], thing: int, colour: str, grounds: Sequence[str]) -> Prompt:
    """One thing on a named colour."""
    caption = f"{article(names[thing])} on {article(colour)} background"
    return Prompt(caption=caption, things=(thing,), background=grounds.index(colour))


def style_prompts(
    names: Sequence[str], phrases: Mapping[str, Sequence[str]], drawn: Callable[[int, str], bool], count: int, seed: int
) -> tuple[Prompt, ...]:
    """Single things in every style by turns: "a pencil sketch of a dog". A thing that a style cannot draw is left out.

    In a phrase, ``{0}`` is the thing with its article and ``{1}`` its bare name.
    """
    rng = np.random.default_rng(seed)
    styles, prompts = list(phrases), []
    for number, thing in enumerate(in_rounds(len(names), count, rng)):
        style = number % len(styles)
        choices = phrases[styles[style]]
        caption = choices[int(rng.integers(len(choices)))].format(article(names[thing]), names[thing])
        if drawn(thing, styles[style]):
            prompts.append(Prompt(caption=caption, things=(thing,), style=style + 1))
    return tuple(prompts)


def scene_prompts(found: Iterable[Drawable]) -> tuple[Prompt, ...]:
    """The captions of some scenes, with all that is known about them."""
    return tuple(
        Prompt(
            caption=scene.caption,
            things=tuple(dict.fromkeys(scene.label.things)),
            number=len(scene.label.things),
            background=scene.label.background,
            style=scene.label.style,
            order=scene.label.order,
        )
        for scene in found
    )


def in_rounds(things: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` class indices in shuffled rounds of all `things`."""
    rounds = [rng.permutation(things) for _ in range(-(-count // things))]
    return [int(thing) for thing in np.concatenate(rounds)[:count]]
