"""A picture in the terminal: in the terminal's own graphics if it has any, else in half blocks."""

import logging
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

COLUMNS: Final = 64
"""The widest that a picture is drawn, in characters."""


def draw(image: "Image", console: "Console") -> None:
    """Draw a picture, as wide as fits."""
    columns = min(COLUMNS, console.width)
    if not _draw_graphics(image, columns, console):
        _draw_half_blocks(image, columns, console)


def _draw_graphics(image: "Image", columns: int, console: "Console") -> bool:
    """Draw with Kitty graphics or Sixel through textual-image, if it is installed and the terminal knows either."""
    # It asks the terminal on standard output and standard input; where one of them is a pipe there is nobody to ask.
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return False
    from importlib import import_module

    # A terminal that does not answer is no news: the picture is drawn all the same.
    logging.getLogger("textual_image").setLevel(logging.CRITICAL)
    try:
        renderable = import_module("textual_image.renderable")
    except ImportError:
        return False
    if renderable.Image not in (renderable.TGPImage, renderable.SixelImage):
        return False
    console.print(renderable.Image(image, width=columns, height="auto"))
    return True


def _draw_half_blocks(image: "Image", columns: int, console: "Console") -> None:
    """Two pixels a character: the upper half block in one colour on a background in the other."""
    from PIL.Image import Resampling
    from rich.color import Color
    from rich.segment import Segment, Segments
    from rich.style import Style

    rows = max(1, round(columns * image.height / image.width / 2))
    small = image.convert("RGB").resize((columns, 2 * rows), Resampling.BOX)
    segments = []
    for y in range(0, 2 * rows, 2):
        for x in range(columns):
            upper, lower = (Color.from_rgb(*small.getpixel((x, row))) for row in (y, y + 1))  # type: ignore[misc]
            segments.append(Segment("▀", Style(color=upper, bgcolor=lower)))
        segments.append(Segment.line())
    console.print(Segments(segments), end="")
