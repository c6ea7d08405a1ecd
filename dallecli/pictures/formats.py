"""The formats of picture files, and how a file of one is opened."""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageFile, UnidentifiedImageError

from dallecli.errors import BadPicture, OutOfMemory, reason
from dallecli.limits import PICTURE_BYTES, PIXEL_LIMIT, SIDE_LIMIT, read_file
from dallecli.pictures.plain import Damaged, Plain, format_of, plain
from dallecli.source import not_a_picture

FORMATS: Final[Mapping[str, str]] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""The formats that are written and read, and the suffix of their files."""

SUFFIXES: Final[Mapping[str, str]] = {
    ".png": "png",
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "jpeg"),
    ".webp": "webp",
}
"""The format that a suffix, in small letters, stands for."""

DECODER_ERRORS: Final = (ValueError, SyntaxError, EOFError, NotImplementedError, TypeError, KeyError, struct.error)
"""What Pillow's decoders raise on damaged files besides OSError, seen on its own test corpus."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A picture file of which only the header is read: for its decoder, and without its metadata."""

    file: ImageFile.ImageFile
    plain: Plain


@contextlib.contextmanager
def opened(data: bytes, where: str) -> Iterator[Opened]:
    """A PNG, JPEG or WebP picture, of which only the header is read; errors call it `where`.

    Its size is checked before a decoder sees it. Inside the `with` block, where Pillow decodes the pixels, its errors
    are translated, too.

    Raises:
        BadPicture: it is another kind of file, damaged, or larger than `SIDE_LIMIT` and `PIXEL_LIMIT`.
        OutOfMemory: there is not enough memory for its pixels.
    """
    format = format_of(data)
    if format is None:
        raise not_a_picture(data, where)
    try:
        bare = plain(data, format)
        if bare.size is not None:
            _check_size(*bare.size, where)
        with warnings.catch_warnings():
            # Pillow also reports damaged metadata to standard error; what matters comes out as an exception.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(bare.data), formats=[format]) as image:
                _check_size(*image.size, where)
                yield Opened(image, bare)
    except Image.DecompressionBombError as error:
        raise BadPicture("the picture has far too many pixels", where=where) from error
    except UnidentifiedImageError as error:
        raise BadPicture(f"the {format} is damaged: its header cannot be read", where=where) from error
    except Damaged as error:
        raise BadPicture(f"the {format} is damaged: {error}", where=where) from error
    except MemoryError as error:
        hint = "make it smaller, or close other programs"
        raise OutOfMemory("there is not enough memory to read this picture", where=where, hint=hint) from error
    except (OSError, *DECODER_ERRORS) as error:
        raise BadPicture(f"the {format} is damaged: {reason(error)}", where=where) from error


def picture_bytes(path: Path) -> bytes:
    """The bytes of a picture file. Raises: BadPicture if it is no file, cannot be read, or is too large."""
    try:
        return read_file(path, PICTURE_BYTES)
    except (OSError, ValueError) as error:
        raise BadPicture(f"the picture cannot be read: {reason(error)}", where=str(path)) from error


def _check_size(width: int, height: int, where: str) -> None:
    if max(width, height) > SIDE_LIMIT or width * height > PIXEL_LIMIT:
        raise BadPicture(
            f"the picture has {width} x {height} pixels, more than can be read",
            where=where,
            hint=f"make it smaller: up to {SIDE_LIMIT} on a side, and {PIXEL_LIMIT // 10**6} million in all",
        )
