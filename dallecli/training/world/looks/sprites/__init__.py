"""Ready-drawn pictures of the things: an atlas a set, cut, turned round, re-inked, and resized on demand.

Where the drawings come from and under which licences: ``NOTICE`` and the texts in this folder; ``make_atlas.py`` drew
them.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dallecli.training.world.looks.vocabulary import LOOKS, Fraction2, thing_index
from dallecli.training.world.sprites import Colour, reink

HUES = 8
"""Into how many steps a turn of the hue is cut; step 0 is none."""


class Drawn(NamedTuple):
    """Which drawing: the thing's class index and the set's letter."""

    thing: int
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprite:
    """A drawing at its final size, ready to composite: ``out = colour + ground * clear / 255``.

    colour: uint8 [h, w, 3], premultiplied by alpha; clear: uint8 [h, w, 1], 255 minus alpha.
    """

    colour: NDArray[np.uint8]
    clear: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a layout must know of a drawing.

    aspect: width over height; side: whether it is seen from the side, so that its mirror image is another picture;
    head: where a crown's foot sits, None if it has no head; saddle: where a rider's feet are, None if it carries
    nobody. Both are fractions from the top left.
    """

    aspect: float
    side: bool
    head: Fraction2 | None
    saddle: Fraction2 | None


@lru_cache(maxsize=1)
def _index() -> dict[Drawn, dict[str, Any]]:
    text = files(__name__).joinpath("atlas.json").read_text(encoding="utf-8")
    names = thing_index()
    return {Drawn(names[entry["name"]], look): entry for look, entries in json.loads(text).items() for entry in entries}


@lru_cache(maxsize=len(LOOKS))
def _atlas(look: str) -> Image.Image:
    suffix = "png" if look == "L" else "webp"
    with files(__name__).joinpath(f"{LOOKS[look]}.{suffix}").open("rb") as stream:
        atlas = Image.open(stream)
        if look != "L":
            return atlas.convert("RGBA")
        # Lines are kept as what they cover of each pixel: black they are all.
        black = Image.new("L", atlas.size)
        return Image.merge("RGBA", (black, black, black, atlas.convert("L")))


@lru_cache(maxsize=1024)
def shape(drawn: Drawn) -> Shape:
    """What a layout must know of a drawing. Raises KeyError if the set does not draw the thing."""
    entry = _index()[drawn]
    left, top, right, bottom = entry["box"]
    head, saddle = (None if entry[key] is None else tuple(entry[key]) for key in ("head", "saddle"))
    return Shape(aspect=(right - left) / (bottom - top), side=entry["side"], head=head, saddle=saddle)


@lru_cache(maxsize=1024)
def _drawing(drawn: Drawn, ink: Colour | None) -> Image.Image:
    drawing = _atlas(drawn.look).crop(tuple(_index()[drawn]["box"]))
    return drawing if ink is None else reink(drawing, ink)


@lru_cache(maxsize=1)
def turns() -> NDArray[np.float32]:
    """How each step of hue mixes red, green and blue: [HUES, 3, 3], rotations about the grey axis.

    Linear, so that premultiplied colours may be turned.
    """
    angle = 2 * np.pi * np.arange(HUES)[:, None, None] / HUES
    third, root = 1 / 3, np.sqrt(1 / 3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    mixed = np.cos(angle) * np.eye(3) + (1 - np.cos(angle)) * third + np.sin(angle) * root * cross
    turned: NDArray[np.float32] = mixed.astype(np.float32)
    return turned


@lru_cache(maxsize=4096)
def mean_colour(drawn: Drawn, ink: Colour | None = None, hue: int = 0) -> Colour:
    """The drawing's average colour where it is opaque: what a handful of pixels would show."""
    pixels = np.asarray(_drawing(drawn, ink).reduce(4), dtype=np.float32)
    mean = np.average(pixels[..., :3], axis=(0, 1), weights=pixels[..., 3] + 1e-6)
    red, green, blue = (turns()[hue] @ mean).clip(0, 255)
    return round(float(red)), round(float(green)), round(float(blue))


@lru_cache(maxsize=16384)
def _resized(drawn: Drawn, width: int, height: int, ink: Colour | None) -> Sprite:
    # Premultiplied before resizing, or the colours of transparent pixels would bleed into the rim.
    small = _drawing(drawn, ink).convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    # Pillow has no array interface for "RGBa"; its bytes are the same four bands.
    pixels = np.frombuffer(small.tobytes(), dtype=np.uint8).reshape(height, width, 4)
    alpha = pixels[..., 3:]
    return Sprite(colour=np.minimum(pixels[..., :3], alpha), clear=255 - alpha)


def sprite(
    drawn: Drawn, width: int, height: int, *, ink: Colour | None = None, hue: int = 0, mirrored: bool = False
) -> Sprite:
    """A drawing stretched to ``width`` x ``height`` pixels: in its own colours, in one ink, or ``hue`` steps on."""
    found = _resized(drawn, width, height, ink)
    if hue:
        alpha = 255 - found.clear
        turned = (found.colour.astype(np.float32) @ turns()[hue].T).round()
        found = Sprite(colour=np.minimum(turned.clip(0, 255).astype(np.uint8), alpha), clear=found.clear)
    if mirrored:
        found = Sprite(colour=found.colour[:, ::-1], clear=found.clear[:, ::-1])
    return found


@lru_cache(maxsize=4096)
def outline(drawn: Drawn, width: int, height: int, border: int) -> NDArray[np.uint8]:
    """How much a sticker's paper covers: uint8 [height + 2 border, width + 2 border, 1], ``border`` wider all round."""
    alpha = Image.new("L", (width + 2 * border, height + 2 * border))
    alpha.paste(Image.fromarray(255 - _resized(drawn, width, height, None).clear[..., 0]), (border, border))
    wide = alpha.filter(ImageFilter.GaussianBlur(border / 2)).point(lambda value: min(255, value * 8))
    return np.asarray(wide)[..., None]
