"""The size that a client wants, in exact pixels: a model paints a square of its own, which is cut and resampled."""

import re
from dataclasses import dataclass
from typing import Final

from PIL import Image

from dallecli.limits import API_SIDE
from dallecli.server.api_fields import SIZE
from dallecli.server.refusal import invalid

_SIZE: Final = re.compile(SIZE)


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def side(self) -> int:
        """The side of the square that it is cut from without being made larger."""
        return max(self.width, self.height)


def read_size(value: object) -> Size | None:
    """What `size` means: "512x512", 512 for a square, and None for "auto" or nothing. Raises Refusal."""
    if value is None or value in ("", "auto"):
        return None
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise invalid("size", f"{value!r} is not a size", "width x height in pixels, as 512x512, or auto", code=_CODE)
    size = Size(int(match[1]), int(match[2] if match[2] is not None else match[1]))
    if not (1 <= size.width <= API_SIDE and 1 <= size.height <= API_SIDE):
        raise invalid("size", f"{size} is not a size that is painted", f"1 to {API_SIDE} pixels a side", code=_CODE)
    return size


_CODE: Final = "invalid_size"


def fitted(image: Image.Image, size: Size | None) -> Image.Image:
    """The picture in exactly this size: its middle, in the proportions of the size, resampled where it has to be."""
    if size is None or image.size == (size.width, size.height):
        return image
    scale = min(image.width / size.width, image.height / size.height)
    width, height = min(image.width, round(size.width * scale)), min(image.height, round(size.height * scale))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    box = (left, top, left + max(1, width), top + max(1, height))
    if (width, height) == (size.width, size.height):
        return image.crop(box)
    return image.resize((size.width, size.height), Image.Resampling.LANCZOS, box)
