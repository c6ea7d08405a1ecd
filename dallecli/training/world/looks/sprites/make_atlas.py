"""Draw the atlases of this folder anew: a picture a set, and ``atlas.json``, which says where in it each drawing is.

    npm pack @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/twemoji@1.2.5 \
        @iconify-json/emojione@1.2.3 @lobehub/fluent-emoji-3d@1.1.0 @fontsource/noto-emoji@5.3.2
    python -m dallecli.training.world.looks.sprites.make_atlas FOLDER

FOLDER holds the unpacked packages, each in a folder of its package's name without the scope ("noto",
"fluent-emoji-3d"). Needs resvg-py 0.5.0, fonttools and brotli, which nothing else in the project does; needed only when
the vocabulary gains a thing.

Beside each drawing stand the place where a crown's foot sits and the place of a rider's feet. Both are found in
the outline and are right for most; the vocabulary corrects the rest.
"""

import argparse
import io
import json
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dallecli.training.world.looks.vocabulary import LOOKS, Fraction2, Thing, things
from dallecli.training.world.sprites import reink

SIDE = 192
"""The longest side of a drawing in the atlas: what a thing of usual size has in a picture of 256 px."""
SOURCE = 512
"""The side that vector drawings are rendered at before they are cropped and reduced."""
WIDTH = 2048
"""The width of an atlas in pixels; its height is what is needed."""
PACKAGES = {"N": "noto", "T": "twemoji", "E": "emojione", "V": "noto-v1"}
SYMMETRIC = 30.0
"""A drawing that differs from its mirror image by less than so many levels is seen from the front."""

Drawer = Callable[[str], Image.Image]


def drawers(folder: Path) -> dict[str, Drawer]:
    """Return what draws a code point sequence, by look. All raise KeyError where a set lacks it."""
    names = json.loads((folder / "noto" / "package" / "chars.json").read_text(encoding="utf-8"))
    vector = {look: partial(_icon, folder / package / "package", names) for look, package in PACKAGES.items()}
    return {
        **vector,
        "F": partial(_fluent, folder / "fluent-emoji-3d" / "package" / "assets"),
        "L": _line(folder / "noto-emoji" / "package" / "files"),
    }


def _spellings(code: str) -> tuple[str, ...]:
    """A sequence as the sets file it: with and without the sign that asks for the emoji rather than the character."""
    return code, f"{code}-fe0f", code.replace("-200d", "-fe0f-200d")


def _fluent(folder: Path, code: str) -> Image.Image:
    for spelling in _spellings(code):
        if (folder / f"{spelling}.webp").exists():
            return Image.open(folder / f"{spelling}.webp").convert("RGBA")
    raise KeyError(code)


@lru_cache(maxsize=8)
def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _icon(folder: Path, names: dict[str, str], code: str) -> Image.Image:
    """A drawing of an icon set. Two sets have no index by code point, but their names are Noto's, all but two."""
    icons = _read(folder / "icons.json")
    own: dict[str, str] = _read(folder / "chars.json") or names
    name = next(own[spelling] for spelling in _spellings(code) if spelling in own)
    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icons["icons"].get(name) or icons["icons"][f"{name}-face"]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    return _rendered(box, icon["body"])


def _line(folder: Path) -> Drawer:
    from fontTools.pens.boundsPen import BoundsPen  # type: ignore[import-not-found]  # no dependency
    from fontTools.pens.svgPathPen import SVGPathPen  # type: ignore[import-not-found]  # no dependency
    from fontTools.ttLib import TTFont  # type: ignore[import-not-found]  # no dependency

    fonts = [TTFont(file) for file in sorted(folder.glob("noto-emoji-*-500-normal.woff2"))]

    def draw(code: str) -> Image.Image:
        for font in fonts:
            name = font.getBestCmap().get(int(code, 16))
            if name is not None:
                glyphs = font.getGlyphSet()
                path, bounds = SVGPathPen(glyphs), BoundsPen(glyphs)
                glyphs[name].draw(path)
                glyphs[name].draw(bounds)
                left, bottom, right, top = bounds.bounds
                body = f'<path transform="scale(1,-1)" d="{path.getCommands()}"/>'
                return _rendered(f"{left} {-top} {right - left} {top - bottom}", body)
        raise KeyError(code)

    return draw


def _rendered(box: str, body: str) -> Image.Image:
    import resvg_py  # type: ignore[import-not-found]  # no dependency

    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {spaces} viewBox="{box}">{body}</svg>'
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SOURCE)))).convert("RGBA")


def drawing(thing: Thing, look: str, draw: Drawer) -> Image.Image:
    """The thing as a set draws it: cropped to what is opaque, turned, re-inked, its longest side SIDE."""
    glyph = _cropped(draw(thing.codes.get(look, thing.code)))
    left, top, right, bottom = thing.keep.get(look, (0.0, 0.0, 1.0, 1.0))
    width, height = glyph.size
    glyph = glyph.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
    if look in thing.turn:
        glyph = glyph.convert("RGBa").rotate(thing.turn[look], Image.Resampling.BICUBIC, expand=True).convert("RGBA")
    glyph = _cropped(glyph)
    if look in thing.tint:
        glyph = reink(glyph, thing.tint[look])
    scale = SIDE / max(glyph.size)
    size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
    return glyph.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def _cropped(glyph: Image.Image) -> Image.Image:
    # A breath of shadow is not part of the drawing: it would make it stand above the ground.
    return glyph.crop(glyph.getchannel("A").point(lambda alpha: 255 if alpha > 24 else 0).getbbox())


def asymmetry(glyph: Image.Image) -> float:
    """How much a drawing differs from its mirror image on grey ground: root-mean-square of 255 levels, at 24 px."""
    ground = Image.new("RGBA", glyph.size, (128, 128, 128, 255))
    small = np.asarray(Image.alpha_composite(ground, glyph).convert("RGB").resize((24, 24)), np.float64)
    return float(np.sqrt(np.square(small - small[:, ::-1]).mean()))


def tops(glyph: Image.Image) -> NDArray[np.float64]:
    """The first opaque row of each of 100 columns, as a fraction of the height; 1 where there is none."""
    opaque = np.asarray(glyph.getchannel("A").resize((100, 100))) > 128
    return np.where(opaque.any(axis=0), opaque.argmax(axis=0), 100) / 100


def head_of(glyph: Image.Image) -> Fraction2:
    """Where a crown's foot sits: in the middle of what is seen from the front, else the top of the left half."""
    line = tops(glyph)
    if asymmetry(glyph) < SYMMETRIC:
        return 0.5, round(float(line[44:56].mean()) + 0.05, 3)
    # An ear or a horn is thin: the height is that of a broad place.
    broad = np.convolve(line, np.ones(13) / 13, mode="valid")
    place = int(broad[:50].argmin()) + 6
    return place / 100, round(float(line[place - 6 : place + 7].mean()) + 0.03, 3)


def saddle_of(glyph: Image.Image) -> Fraction2:
    """Where a rider's feet are: a little below the back."""
    return 0.55, round(float(tops(glyph)[48:62].max()) + 0.08, 3)


def packed(drawings: Sequence[Image.Image]) -> tuple[Image.Image, list[list[int]]]:
    """The drawings in rows of one picture, highest first, and the box of each."""
    boxes: list[list[int]] = [[] for _ in drawings]
    x = y = row = 0
    for place in sorted(range(len(drawings)), key=lambda one: -drawings[one].height):
        width, height = drawings[place].size
        if x + width > WIDTH:
            x, y, row = 0, y + row, 0
        boxes[place] = [x, y, x + width, y + height]
        x, row = x + width, max(row, height)
    atlas = Image.new("RGBA", (WIDTH, y + row))
    for one, box in zip(drawings, boxes, strict=True):
        atlas.paste(one, (box[0], box[1]))
    return atlas, boxes


def main() -> None:
    """Write the atlases and their index beside this file."""
    parser = argparse.ArgumentParser(description="Draw the atlases of the looks from the sets' packages.")
    parser.add_argument("folder", type=Path, help="where the packages were unpacked")
    draw = drawers(parser.parse_args().folder)
    here = Path(__file__).parent
    index: dict[str, list[dict[str, Any]]] = {}
    for look, name in LOOKS.items():
        chosen = [thing for thing in things() if look in thing.drawn]
        drawings = [drawing(thing, look, draw[look]) for thing in chosen]
        atlas, boxes = packed(drawings)
        if look == "L":
            # Lines are black: only how much of them covers a pixel says anything.
            atlas.getchannel("A").save(here / f"{name}.png", optimize=True)
        else:
            atlas.save(here / f"{name}.webp", quality=90, method=6)
        index[look] = [
            {
                "name": thing.name,
                "box": box,
                "side": look not in thing.unmirrored and asymmetry(glyph) >= SYMMETRIC,
                "head": thing.heads.get(look, head_of(glyph)) if thing.head else None,
                "saddle": (thing.saddle or saddle_of(glyph)) if thing.verbs or thing.seat else None,
            }
            for thing, box, glyph in zip(chosen, boxes, drawings, strict=True)
        ]
    rows = ",\n".join(
        f"{json.dumps(look)}: [\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]"
        for look, entries in index.items()
    )
    (here / "atlas.json").write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
