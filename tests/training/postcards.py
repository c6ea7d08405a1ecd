"""Small captioned pictures for tests: a square of some colour on a ground of another."""

from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "white")


def write_postcards(folder: Path, side: int = 64) -> None:
    """Write twelve pictures with their captions."""
    folder.mkdir(parents=True)
    pairs = [(front, back) for front in COLOURS for back in COLOURS if front != back]
    for number, (front, back) in enumerate(pairs):
        image = Image.new("RGB", (side, side), back)
        image.paste(front, (side // 4, side // 4, side // 2, side // 2))
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a {front} square on {back}")
