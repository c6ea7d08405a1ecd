"""A picture in the terminal: in the terminal's own graphics if it has any, else in half blocks."""

import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

    from dallecli.cli.display import Display
    from dallecli.engine import Progress

COLUMNS: Final = 64
"""The widest that a picture is drawn, in characters."""


GLIMPSES: Final = 4
"""An unfinished picture is drawn when another one of so many equal parts of it is there ..."""
GLIMPSE_SECONDS: Final = 5.0
"""... and so many seconds after the one before: a small model is done first."""


class Glimpses:
    """Draws unfinished pictures into the terminal now and then, where they can be looked at; smaller than the result.

    every: see `GLIMPSE_SECONDS`.
    """

    def __init__(self, display: "Display", every: float = GLIMPSE_SECONDS) -> None:
        self._display = display
        self._every = every
        self._latest = time.monotonic()

    def progress(self, progress: "Progress") -> None:
        """One step was done."""
        self._display.progress(progress)
        done, before = (GLIMPSES * step // progress.steps for step in (progress.step, progress.step - 1))
        part = done > before and progress.step < progress.steps
        if progress.look is None or not (part and self._display.animated):
            return
        if time.monotonic() - self._latest >= self._every:
            images = progress.look()
            if images:  # of another machine they may be finished meanwhile
                self._display.preview(side_by_side(images), COLUMNS // 2)
                self._display.draw()
            self._latest = time.monotonic()


def side_by_side(images: "Sequence[Image]") -> "Image":
    """Pictures of one size in a row."""
    from PIL import Image

    width, height = images[0].size
    row = Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        row.paste(image, (number * width, 0))
    return row


def draw(image: "Image", console: "Console", columns: int = COLUMNS) -> None:
    """Draw a picture, as wide as fits, and at most `columns` characters."""
    columns = min(columns, console.width)
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
