"""Make the pictures of the guides about verbs again: `python docs/guides/draw_verbs.py [GUIDE…]`.

Above each picture in a guide stands, in a comment, the shell script that makes it: the very commands, with their seeds.
The scripts run in docs/images/verbs, guide by guide, in the order of `GUIDES`; later ones use what earlier ones made.
They may also say `row FILE PICTURE…` for pictures beside each other, at the height of the guides, and `room FILE` for a
living room as the starter saw them in training, without anything in it.
"""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from dallecli.pictures.sheets import grid
from dallecli.training.world.backdrops import backdrop

GUIDES = ("vary", "interpolate", "inpaint", "edit", "rank")
HERE = Path(__file__).parent
PICTURES = HERE.parent / "images" / "verbs"
HEIGHT = 176
"""Of a picture in a row, in pixels."""


def scripts(guide: str) -> list[str]:
    """The scripts in a guide's comments."""
    text = (HERE / f"{guide}.md").read_text(encoding="utf-8")
    return [match.strip() for match in re.findall(r"^<!-- sh\n(.*?)^-->", text, flags=re.MULTILINE | re.DOTALL)]


def row(target: str, names: list[str]) -> None:
    """Write pictures beside each other, scaled to `HEIGHT`."""
    images = []
    for name in names:
        with Image.open(name) as image:
            size = (round(image.width * HEIGHT / image.height), HEIGHT)
            images.append(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    if len(images) > 1:
        images = [grid(images, columns=len(images))]
    images[0].save(target, quality=90, optimize=True)


def main() -> None:
    """Run the scripts of the guides that were named, or of all."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["row"]:
        row(arguments[1], arguments[2:])
        return
    if arguments[:1] == ["room"]:
        Image.fromarray(backdrop("living room", 0, 256)).save(arguments[1])
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    prelude = f"""set -eu
dalle() {{ echo "dalle $*" >&2; "{sys.executable}" -m dallecli "$@" --force --quiet > /dev/null; }}
row() {{ "{sys.executable}" "{Path(__file__).resolve()}" row "$@"; }}
room() {{ "{sys.executable}" "{Path(__file__).resolve()}" room "$@"; }}
"""
    for guide in arguments if arguments else GUIDES:
        for script in scripts(guide):
            subprocess.run(["bash", "-c", prelude + script], cwd=PICTURES, check=True)


if __name__ == "__main__":
    main()
