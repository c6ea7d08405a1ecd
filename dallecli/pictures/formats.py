"""The formats of picture files, and how a file of one is opened."""

import contextlib
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image, ImageFile, UnidentifiedImageError

from dallecli.errors import BadPicture, reason
from dallecli.source import FILE_BYTES

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


@contextlib.contextmanager
def opened(source: Path | BinaryIO, where: str) -> Iterator[ImageFile.ImageFile]:
    """A PNG, JPEG or WebP file of which only the header is read; errors call it `where`.

    Inside the `with` block, where Pillow decodes the pixels, its errors become BadPicture, too.
    """
    try:
        if isinstance(source, Path):
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):
                raise BadPicture("this is not a file", where=where)
            if status.st_size > FILE_BYTES:
                raise BadPicture(f"the file has {status.st_size} bytes, the limit is {FILE_BYTES}", where=where)
        with warnings.catch_warnings():
            # Pillow also reports damaged metadata to standard error; what matters comes out as an exception.
            warnings.simplefilter("ignore")
            with Image.open(source, formats=[format.upper() for format in FORMATS]) as image:
                yield image
    except Image.DecompressionBombError as error:
        raise BadPicture("the picture has far too many pixels", where=where) from error
    except UnidentifiedImageError as error:
        raise BadPicture("this is not a PNG, JPEG or WebP picture", where=where) from error
    except (OSError, *DECODER_ERRORS) as error:
        raise BadPicture(f"the picture cannot be read: {reason(error)}", where=where) from error
