"""Draw ``atlas.png`` and ``atlas.json`` anew from the Noto Color Emoji font.

    python -m dallecli.training.world.sprites.make_atlas NotoColorEmoji.ttf

Needed only when the vocabulary gains a thing; nothing else in the project reads the font. Sequences joined by U+200D
(the astronaut) need a Pillow built with raqm.
"""

import argparse
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from dallecli.training.world.sprites import reink
from dallecli.training.world.vocabulary import Thing, things

STRIKE = 109  # the font's only bitmap size; glyphs come out up to 136 x 128 px
COLUMNS = 8
CELL = 128


def draw(thing: Thing, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The thing's glyph in colour, cropped to what is opaque."""
    text = "".join(chr(int(code.removeprefix("U+"), 16)) for code in thing.codepoints)
    if len(thing.codepoints) == 1:
        text += "\ufe0f"  # ask for the emoji, not the text, shape of the sun, the heart, the umbrella...
    canvas = Image.new("RGBA", (2 * CELL, 2 * CELL))
    ImageDraw.Draw(canvas).text((CELL // 4, CELL // 4), text, font=font, embedded_color=True)
    glyph = canvas.crop(canvas.getbbox())
    left, top, right, bottom = thing.keep
    edges = (left * glyph.width, top * glyph.height, right * glyph.width, bottom * glyph.height)
    glyph = glyph.crop(edges)
    if thing.turn:
        glyph = glyph.convert("RGBa").rotate(thing.turn, Image.Resampling.BICUBIC, expand=True).convert("RGBA")
    glyph = glyph.crop(glyph.getbbox())
    glyph = glyph if thing.tint is None else reink(glyph, thing.tint)
    glyph.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return glyph


def main() -> None:
    """Write the atlas and its index beside this file."""
    parser = argparse.ArgumentParser(description="Draw the sprite atlas from a colour emoji font.")
    parser.add_argument("font", type=Path, help="NotoColorEmoji.ttf")
    font_path = parser.parse_args().font
    if not features.check("raqm"):
        parser.error("this Pillow lacks raqm; joined emoji would fall apart")
    font = ImageFont.truetype(font_path, STRIKE, layout_engine=ImageFont.Layout.RAQM)
    rows = -(-len(things()) // COLUMNS)
    atlas = Image.new("RGBA", (COLUMNS * CELL, rows * CELL))
    index = []
    for place, thing in enumerate(things()):
        glyph = draw(thing, font)
        x, y = place % COLUMNS * CELL, place // COLUMNS * CELL
        atlas.paste(glyph, (x, y))
        index.append({"name": thing.name, "aliases": thing.aliases, "box": [x, y, x + glyph.width, y + glyph.height]})
    folder = Path(__file__).parent
    atlas.save(folder / "atlas.png", optimize=True)
    lines = ",\n".join(json.dumps(entry) for entry in index)
    (folder / "atlas.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
