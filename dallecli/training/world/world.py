"""What a world is: a grammar of captioned scenes that can be drawn, with the words and classes that it knows.

A world is chosen by a preset (``worlds.py``), so that a starter is trained and judged in the world it was made for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Axis = Literal["x", "y"]
Order = tuple[int, int, Axis]
"""(first, second, axis): the first thing stands left of the second ("x") or above it ("y")."""

MOST_THINGS: Final = 3
"""No scene of any world shows more."""

UNKNOWN: Final = -1
"""The class of what cannot be told of a picture, and what no judge is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a judge should find in a picture, as class indices.

    things: one a piece, so that three dogs are there three times; background: 0 if the caption names none; style: the
    one that can be seen, 0 for none; look: whose drawing it is; mirrored: 1 if it is seen in the mirror, else 0. The
    last two are UNKNOWN where they cannot be seen. order: how two things stand.
    """

    things: tuple[int, ...]
    background: int = 0
    style: int = 0
    look: int = UNKNOWN
    mirrored: int = UNKNOWN
    order: Order | None = None


class Drawable(Protocol):
    """A scene of any world."""

    @property
    def caption(self) -> str:
        """What is said about it."""

    @property
    def label(self) -> Label:
        """What can be seen in it."""

    def draw(self, size: int) -> NDArray[np.uint8]:
        """Draw it as uint8 RGB [size, size, 3]. Raises ValueError on a size that its world does not draw."""


S_co = TypeVar("S_co", bound=Drawable, covariant=True)


class Grammar(Protocol[S_co]):
    """What scenes are made by: shares of what may be in them."""

    def sample(self, rng: np.random.Generator) -> S_co:
        """Make up a scene; the generator decides everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A caption to paint, and what a judge should find in the picture, as class indices.

    things: each kind of thing once; number: of all things, so that three dogs are three.
    """

    caption: str
    things: tuple[int, ...]
    number: int = 1
    background: int = 0
    style: int = 0
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One question to a model: `prompts` of a count, and `drawn` scenes that show what a right answer is."""

    name: str
    prompts: Callable[[int], tuple[Prompt, ...]]
    drawn: Grammar[Drawable]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class World:
    """A world.

    things, grounds, styles and looks: names of the judge's classes, in label order; `grounds` begins with the unnamed
    one, `styles` with none, and `looks` is empty where each thing has one drawing. words: every word of its captions;
    word_kinds: what they say, by kind.
    train, held_out, large: the scenes of the main pool, of the one that validates, and of the last upsampler's. hinted:
    styles that a large picture shows and a small one only hints at. kinds: what a model of it is asked; varied: prompts
    of which every seed should paint another picture; redraw: another scene of such a prompt.
    """

    name: str
    things: tuple[str, ...]
    grounds: tuple[str, ...]
    styles: tuple[str, ...]
    looks: tuple[str, ...]
    words: Callable[[], tuple[str, ...]]
    word_kinds: Callable[[], dict[str, dict[str, list[str]]]]
    train: Grammar[Drawable]
    held_out: Grammar[Drawable]
    large: Grammar[Drawable]
    hinted: tuple[str, ...]
    kinds: tuple[Kind, ...]
    varied: Callable[[], tuple[Prompt, ...]]
    redraw: Callable[[np.random.Generator, Prompt], Drawable]
