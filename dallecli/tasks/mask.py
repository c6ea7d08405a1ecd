"""Where a picture is repainted, and where it is made larger: as data, and as people write it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from dallecli.errors import BadMask, BadSetting
from dallecli.source import Source
from dallecli.tasks.task import check_range

EDGE_LIMIT = 16_384
"""The most pixels that can be added at one edge of a picture."""

MaskMode = Literal["white", "alpha"]
MASK_MODES: Final[tuple[str, ...]] = get_args(MaskMode)

Box = tuple[int, int, int, int]
"""A rectangle in pixels: x and y of its upper left corner, from 0, then width and height."""

SIDES: Final = ("left", "top", "right", "bottom")

_BOX = re.compile(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*")
# Numbers with anything that somebody may put between them.
_BOXLIKE = re.compile(r"\s*-?\d+(\.\d+)?(\s*[-+,;:xX ]\s*-?\d+(\.\d+)?)+\s*")
_EDGE = re.compile(r"\s*(?:(left|top|right|bottom)\s*=)?\s*(\d+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Where to repaint: everything in one of the boxes or marked in one of the files; without both, where the picture
    itself is transparent.

    `mode` "white" reads a file's brightness (white is repainted), "alpha" its opacity (transparent is repainted).
    `invert` turns the whole around.

    Raises: BadMask, BadSetting.
    """

    files: tuple[Source, ...] = ()
    boxes: tuple[Box, ...] = ()
    mode: MaskMode = "white"
    invert: bool = False

    def __post_init__(self) -> None:
        for file in self.files:
            if file.kind != "picture":
                raise BadMask("a mask is a picture or a box", where=file.name, hint="a box is x,y,width,height")
        for x, y, width, height in self.boxes:
            if min(x, y) < 0 or min(width, height) < 1:
                box = f"{x},{y},{width},{height}"
                raise BadMask(f"{box} is not a box", hint="x,y,width,height in pixels, from the upper left corner")
        if self.mode not in MASK_MODES:
            raise BadSetting(f"no mask mode is called {self.mode!r}", hint=f"one of {', '.join(MASK_MODES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Pixels that are added around a picture. Raises BadSetting."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for name in SIDES:
            check_range(f"the {name} edge", getattr(self, name), 0, EDGE_LIMIT)

    def __bool__(self) -> bool:
        return any((self.left, self.top, self.right, self.bottom))


def read_boxes(parts: Sequence[Source | str]) -> tuple[tuple[Box, ...], list[Source | str]]:
    """The boxes among what a mask is made of, and the rest: files, or their names. Raises BadMask."""
    boxes: list[Box] = []
    files: list[Source | str] = []
    for part in parts:
        text = part if isinstance(part, str) else ""
        match = _BOX.fullmatch(text)
        if match:
            x, y, width, height = (int(number) for number in match.groups())
            boxes.append((x, y, width, height))
        elif _BOXLIKE.fullmatch(text) and not Path(text).exists():
            raise BadMask(f"{text!r} is not a box", hint="x,y,width,height in pixels, from the upper left corner")
        else:
            files.append(part)
    return tuple(boxes), files


def read_edges(text: str | None) -> Edges:
    """What `--expand` means: "64" for all edges, or "left=64,top=32". Raises BadSetting."""
    if text is None:
        return Edges()
    found: dict[str, int] = {}
    for part in text.split(","):
        match = _EDGE.fullmatch(part)
        names = () if match is None else (match[1],) if match[1] else SIDES
        if match is None or any(name in found for name in names):
            raise BadSetting(f"--expand {text!r} means nothing", hint="--expand 64, or --expand left=64,top=32")
        found |= {name: int(match[2]) for name in names}
    return Edges(**found)
