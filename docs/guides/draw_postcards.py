"""Draw the captioned pictures of the guide: `python draw_postcards.py FOLDER` writes 200 of them, always the same.

One thing (a house, a boat, a tree, a balloon, a lighthouse) in one of five colours, on the left or on the right, by
day, at sunset or at night. Sizes and places vary a little; the caption says nothing of that.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

COUNT = 200
SIDE, FINER = 288, 3  # pixels of a picture, and how many times larger it is drawn before it is scaled down
COLOURS = {
    "red": (214, 48, 49),
    "yellow": (253, 203, 60),
    "blue": (44, 98, 214),
    "white": (246, 246, 246),
    "purple": (140, 72, 190),
}
SKIES = {  # above, below, ground, sea
    "by day": ((120, 190, 250), (206, 232, 252), (104, 178, 84), (52, 128, 190)),
    "at sunset": ((248, 136, 92), (253, 212, 146), (112, 120, 62), (120, 96, 150)),
    "at night": ((14, 18, 58), (44, 52, 110), (28, 62, 52), (20, 36, 82)),
}

Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]


def house(draw: Draw, x: float, y: float, s: float, colour: Colour) -> None:
    draw.rectangle((x - s, y - 1.3 * s, x + s, y), fill=colour)
    draw.polygon(((x - 1.25 * s, y - 1.3 * s), (x, y - 2.3 * s), (x + 1.25 * s, y - 1.3 * s)), fill=(92, 62, 48))
    draw.rectangle((x - 0.25 * s, y - 0.8 * s, x + 0.25 * s, y), fill=(60, 40, 32))


def boat(draw: Draw, x: float, y: float, s: float, colour: Colour) -> None:
    draw.polygon(
        ((x - 1.3 * s, y - 0.7 * s), (x + 1.3 * s, y - 0.7 * s), (x + 0.9 * s, y), (x - 0.9 * s, y)), fill=(92, 62, 48)
    )
    draw.polygon(((x, y - 2.6 * s), (x, y - 0.9 * s), (x + 1.2 * s, y - 0.9 * s)), fill=colour)
    draw.polygon(((x - 0.12 * s, y - 2.2 * s), (x - 0.12 * s, y - 0.9 * s), (x - 0.9 * s, y - 0.9 * s)), fill=colour)


def tree(draw: Draw, x: float, y: float, s: float, colour: Colour) -> None:
    draw.rectangle((x - 0.2 * s, y - 1.3 * s, x + 0.2 * s, y), fill=(92, 62, 48))
    draw.ellipse((x - 1.1 * s, y - 3 * s, x + 1.1 * s, y - 0.8 * s), fill=colour)


def balloon(draw: Draw, x: float, y: float, s: float, colour: Colour) -> None:
    y -= 2.2 * s
    draw.ellipse((x - 1.1 * s, y - 2.2 * s, x + 1.1 * s, y), fill=colour)
    draw.polygon(
        (
            (x - 0.7 * s, y - 0.4 * s),
            (x + 0.7 * s, y - 0.4 * s),
            (x + 0.25 * s, y + 0.4 * s),
            (x - 0.25 * s, y + 0.4 * s),
        ),
        fill=colour,
    )
    draw.rectangle((x - 0.3 * s, y + 0.5 * s, x + 0.3 * s, y + s), fill=(92, 62, 48))


def lighthouse(draw: Draw, x: float, y: float, s: float, colour: Colour) -> None:
    draw.polygon(
        ((x - 0.7 * s, y), (x - 0.4 * s, y - 2.8 * s), (x + 0.4 * s, y - 2.8 * s), (x + 0.7 * s, y)), fill=colour
    )
    draw.rectangle((x - 0.45 * s, y - 3.3 * s, x + 0.45 * s, y - 2.8 * s), fill=(255, 240, 150))
    draw.polygon(((x - 0.6 * s, y - 3.3 * s), (x, y - 3.9 * s), (x + 0.6 * s, y - 3.3 * s)), fill=(60, 40, 32))


THINGS: dict[str, Callable[[Draw, float, float, float, Colour], None]] = {
    "house": house,
    "boat": boat,
    "tree": tree,
    "balloon": balloon,
    "lighthouse": lighthouse,
}


def postcard(rng: random.Random) -> tuple[Image.Image, str]:
    """A picture and its caption."""
    thing, colour, sky = rng.choice(list(THINGS)), rng.choice(list(COLOURS)), rng.choice(list(SKIES))
    side = rng.choice(("left", "right"))
    above, below, ground, sea = SKIES[sky]
    size = SIDE * FINER
    image = Image.new("RGB", (size, size))
    draw = ImageDraw.Draw(image)
    horizon = size * rng.uniform(0.66, 0.74)
    for y in range(int(horizon)):
        share = y / horizon
        draw.line((0, y, size, y), fill=tuple(round(a + share * (b - a)) for a, b in zip(above, below, strict=True)))
    draw.rectangle((0, horizon, size, size), fill=sea if thing == "boat" else ground)
    x = size * (rng.uniform(0.27, 0.35) if side == "left" else rng.uniform(0.65, 0.73))
    THINGS[thing](draw, x, horizon + size * rng.uniform(0.08, 0.14), size * rng.uniform(0.14, 0.17), COLOURS[colour])
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), f"a {colour} {thing} on the {side} {sky}"


def main() -> None:
    """Write NAME.jpg and NAME.txt for each picture."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    for number in range(COUNT):
        image, caption = postcard(rng)
        image.save(folder / f"{number:03}.jpg", quality=92)
        (folder / f"{number:03}.txt").write_text(f"{caption}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
