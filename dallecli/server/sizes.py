"""The size that a client wants, in exact pixels: what a model paints for it is cut and resampled where it has to be."""

import re
from contextlib import suppress
from typing import Final

from PIL import Image

from dallecli.limits import API_SIDE
from dallecli.server.api_fields import SIZE
from dallecli.server.refusal import invalid
from dallecli.size import Size
from dallecli.size import read_size as size_of

_SIZE: Final = re.compile(SIZE)


def read_size(value: object) -> Size | None:
    """What `size` means: "512x512", 512 for a square, and None for "auto" or nothing. Raises Refusal."""
    if value is None or value in ("", "auto"):
        return None
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    size = None
    with suppress(ValueError):
        size = size_of(text) if _SIZE.fullmatch(text) else None
    if not isinstance(size, Size):
        raise invalid("size", f"{value!r} is not a size", "width x height in pixels, as 512x512, or auto", code=_CODE)
    if size.longer > API_SIDE:
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
