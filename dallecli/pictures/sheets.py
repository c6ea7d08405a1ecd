"""Many pictures on one sheet: side by side, or with labels under them and titles for the columns and rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from dallecli.errors import BadSetting
from dallecli.limits import SHEET_PIXELS
from dallecli.safe import safe

LABEL_LINES: Final = 2
"""The most lines of a label; what does not fit ends in an ellipsis."""

_INK, _PAPER = (40, 40, 40), "white"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One place on a sheet."""

    image: Image.Image | None
    """Of any size; None leaves the place empty."""
    label: str = ""
    """The text under it."""


def contact_sheet(
    tiles: Sequence[Tile],
    columns: int,
    side: int,
    *,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
) -> Image.Image:
    """The tiles row by row on white, each picture scaled to fit into a square of `side` pixels.

    Smaller pictures are enlarged by whole multiples only, so that their pixels stay square. Raises BadSetting for a
    sheet of more than `SHEET_PIXELS`.
    """
    rows = -(-len(tiles) // columns)
    font = ImageFont.load_default(max(10, side // 16))
    line = sum(font.getmetrics()) if isinstance(font, ImageFont.FreeTypeFont) else 12
    gap = max(4, side // 32)
    labels = [_fitted(tile.label, font, side, LABEL_LINES) if tile.label else [] for tile in tiles]
    under = max(map(len, labels), default=0) * line
    above = line + gap if column_titles else 0
    beside = max((round(font.getlength(_shown(title))) for title in row_titles), default=-gap) + gap
    beside = min(beside, side)
    width, height = beside + gap + columns * (side + gap), above + gap + rows * (side + under + gap)
    if width * height > SHEET_PIXELS:
        raise BadSetting(f"the sheet would have {width} x {height} pixels", hint="smaller --tile, or fewer --rows")
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for k, title in enumerate(column_titles):
        x = beside + gap + k * (side + gap)
        pen.text((x + side / 2, gap), _fitted(title, font, side, 1)[0], _INK, font, anchor="ma")
    for k, title in enumerate(row_titles):
        y = above + gap + k * (side + under + gap)
        pen.text((gap, y + side / 2), _fitted(title, font, beside - gap, 1)[0], _INK, font, anchor="lm")
    for k, tile in enumerate(tiles):
        x = beside + gap + k % columns * (side + gap)
        y = above + gap + k // columns * (side + under + gap)
        if tile.image is not None:
            image = _scaled(tile.image, side)
            sheet.paste(image, (x + (side - image.width) // 2, y + (side - image.height) // 2))
        for number, words in enumerate(labels[k]):
            pen.text((x + side / 2, y + side + number * line), words, _INK, font, anchor="ma")
    return sheet


def grid(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """Pictures of one size row by row on white, with thin gaps between; nearly square if `columns` is None.

    A single picture is returned as it is. Raises ValueError for none.
    """
    if not images:
        raise ValueError("a grid needs a picture")
    if len(images) == 1:
        return images[0]
    columns = columns if columns is not None else grid_shape(len(images))[0]
    rows = -(-len(images) // columns)
    width, height = images[0].size
    gap = max(2, width // 64)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for k, image in enumerate(images):
        sheet.paste(image, ((k % columns) * (width + gap), (k // columns) * (height + gap)))
    return sheet


def grid_shape(count: int) -> tuple[int, int]:
    """Columns and rows of the sheet for `count` pictures: up to three in a row, then nearly square."""
    columns = count if count <= 3 else next(c for c in range(2, count + 1) if c * c >= count)
    return columns, -(-count // columns)


def _scaled(image: Image.Image, side: int) -> Image.Image:
    longer = max(image.size)
    if longer <= side:
        factor = side // longer
        size = (image.width * factor, image.height * factor)
        return image.resize(size, Image.Resampling.NEAREST) if factor > 1 else image
    size = (max(1, round(image.width * side / longer)), max(1, round(image.height * side / longer)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, lines: int) -> list[str]:
    """The words in so many lines of so many pixels."""
    found, current = [], ""
    words = _shown(text).split()
    for k, word in enumerate(words):
        longer = f"{current} {word}" if current else word
        if current and font.getlength(longer) > width:
            found.append(current)
            current = word
            if len(found) == lines:
                return [*found[:-1], _cut(f"{found[-1]} {' '.join(words[k:])}", font, width)]
        else:
            current = longer
    return [_cut(text, font, width) for text in [*found, current]]


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def _shown(text: str) -> str:
    return safe(text, 300)
