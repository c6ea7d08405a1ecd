"""Ready-drawn pictures of the things in the vocabulary: one atlas, cut, re-inked and resized on demand.

The drawings come from Noto Emoji (SIL Open Font License 1.1, see ``OFL.txt``); ``make_atlas.py`` drew them.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprite:
    """A drawing at its final size, ready to composite: ``out = colour + ground * clear / 255``.

    colour: uint16 [h, w, 3], premultiplied by alpha; clear: uint16 [h, w, 1], 255 minus alpha.
    """

    colour: NDArray[np.uint16]
    clear: NDArray[np.uint16]


def reink(drawing: Image.Image, ink: Colour) -> Image.Image:
    """The RGBA drawing in shades of one ink: its darks stay dark, its lights light, its average becomes the ink."""
    pixels = np.asarray(drawing, dtype=np.float32) / 255
    alpha = pixels[..., 3]
    luma = pixels[..., :3] @ LUMA
    mean = float((luma * alpha).sum() / alpha.sum())
    # Bending the mean to a half makes a blue snowman as blue as a blue panda.
    shade = np.power(luma, np.log(0.5) / np.log(min(max(mean, 0.05), 0.95)))[..., None]
    colour = np.asarray(ink, dtype=np.float32) / 255
    dark, light = 0.12 * colour, 1 - 0.3 * (1 - colour)
    inked = np.where(shade < 0.5, dark + (colour - dark) * 2 * shade, colour + (light - colour) * (2 * shade - 1))
    rgba = np.concatenate([inked, alpha[..., None]], axis=-1)
    return Image.fromarray((rgba * 255).round().astype(np.uint8))


@lru_cache(maxsize=1)
def _atlas() -> tuple[Image.Image, ...]:
    folder = files("dallecli.training.world.sprites")
    with folder.joinpath("atlas.png").open("rb") as stream:
        atlas = Image.open(stream).convert("RGBA")
    boxes = [entry["box"] for entry in json.loads(folder.joinpath("atlas.json").read_text(encoding="utf-8"))]
    return tuple(atlas.crop(tuple(box)) for box in boxes)


@lru_cache(maxsize=1024)
def _drawing(index: int, ink: Colour | None) -> Image.Image:
    drawing = _atlas()[index]
    return drawing if ink is None else reink(drawing, ink)


def aspect(index: int) -> float:
    """Width over height of thing ``index``'s drawing."""
    width, height = _atlas()[index].size
    return width / height


@lru_cache(maxsize=1024)
def mean_colour(index: int, ink: Colour | None = None) -> Colour:
    """The drawing's average colour where it is opaque: what a handful of pixels would show."""
    pixels = np.asarray(_drawing(index, ink), dtype=np.float32)
    red, green, blue = np.average(pixels[..., :3], axis=(0, 1), weights=pixels[..., 3])
    return round(float(red)), round(float(green)), round(float(blue))


@lru_cache(maxsize=2048)
def sprite(index: int, width: int, height: int, ink: Colour | None = None) -> Sprite:
    """Thing ``index`` stretched to ``width`` x ``height`` pixels, in its own colours or in one ink."""
    # Premultiplied before resizing, or the colours of transparent pixels would bleed into the rim.
    small = _drawing(index, ink).convert("RGBa").resize((width, height), Image.Resampling.LANCZOS)
    # Pillow has no array interface for "RGBa"; its bytes are the same four bands.
    pixels = np.frombuffer(small.tobytes(), dtype=np.uint8).reshape(height, width, 4).astype(np.uint16)
    alpha = pixels[..., 3:]
    return Sprite(colour=np.minimum(pixels[..., :3], alpha), clear=255 - alpha)
