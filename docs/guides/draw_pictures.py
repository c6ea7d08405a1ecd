"""Draw the pictures of the guides again, with the commands that the guides show: python docs/guides/draw_pictures.py"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).resolve().parent.parent / "images"
SIDE = 128
"""The side in pixels of one picture of a strip in the guides."""


def dalle(folder: Path, *arguments: str) -> None:
    """Run a command in a folder; it prints what it wrote."""
    subprocess.run([sys.executable, "-m", "dallecli", *arguments, "--quiet", "--force"], cwd=folder, check=True)


def strip(name: str, *files: Path) -> None:
    """Put pictures side by side into docs/images."""
    sheet = Image.new("RGB", (SIDE * len(files), SIDE), "white")
    for place, file in enumerate(files):
        sheet.paste(Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), (SIDE * place, 0))
    sheet.save(IMAGES / name, optimize=True)


def shrunk(name: str, file: Path, height: int) -> None:
    """Put one picture into docs/images at a height in pixels."""
    image = Image.open(file).convert("RGB")
    image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS).save(
        IMAGES / name, optimize=True
    )


def draw(folder: Path) -> None:
    """Draw everything."""

    def at(name: str) -> Path:
        return folder / name

    dalle(folder, "generate", "a red car at the beach", "--seed", "3", "-o", "car.png")
    dalle(folder, "generate", "a castle in the forest", "--seed", "1", "-o", "castle.png")
    dalle(folder, "generate", "a flower on the left in the living room", "--seed", "2", "-o", "room.png")
    dalle(folder, "generate", "a cat in the living room", "--seed", "2", "-o", "cat.png")

    dalle(folder, "vary", "car.png", "-n", "5", "--seed", "1", "-o", "vary.png")
    shrunk("vary.png", at("vary.png"), 2 * SIDE)
    fidelities = ("0", "0.25", "0.5", "0.75", "0.9", "1")
    for fidelity in fidelities:
        dalle(folder, "vary", "car.png", "--fidelity", fidelity, "--seed", "1", "-o", f"car-{fidelity}.png")
    strip("vary-fidelity.png", at("car.png"), *(at(f"car-{fidelity}.png") for fidelity in fidelities))

    dalle(folder, "interpolate", "car.png", "castle.png", "--seed", "1", "-o", "fixed.png")
    shrunk("interpolate-fixed.png", at("fixed.png"), SIDE)
    dalle(folder, "interpolate", "car.png", "castle.png", "--noise", "inverted", "-o", "inverted.png")
    shrunk("interpolate-inverted.png", at("inverted.png"), SIDE)
    dalle(folder, "interpolate", "an apple", "a pumpkin", "--seed", "1", "-o", "words.png")
    shrunk("interpolate-words.png", at("words.png"), SIDE)

    box, words = "96,64,160,160", "a couch in the living room"
    dalle(folder, "inpaint", "room.png", "--mask", box, "--show-mask", "-o", "mask.png")
    dalle(folder, "inpaint", "room.png", "--mask", box, "--prompt", words, "--seed", "1", "-o", "couch.png")
    strip("inpaint.png", at("room.png"), at("mask.png"), at("couch.png"))

    ask = ("--from", "a cat in the living room", "--to", "a dog in the living room")
    dalle(folder, "edit", "cat.png", *ask, "--strength", "0.6", "--sweep", "7", "-o", "edit.png")
    shrunk("edit.png", at("edit.png"), SIDE)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        draw(Path(place))
