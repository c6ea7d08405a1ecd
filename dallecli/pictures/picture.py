"""Pictures: what an engine yields, and the bytes they become."""

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from dallecli.errors import BadOutput, BadSetting
from dallecli.pictures.formats import FORMATS, SUFFIXES
from dallecli.pictures.metadata import exif_of, png_text
from dallecli.publish import publish
from dallecli.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One finished picture: RGB pixels, the recipe, how many seconds it took, and its scores."""

    image: Image.Image
    recipe: Recipe
    seconds: float
    scores: Mapping[str, float]

    def encode(self, format: str, *, metadata: bool = True) -> bytes:
        """The bytes of a file, with the recipe and the scores inside unless `metadata` is False."""
        scores = {name: round(score, 6) for name, score in self.scores.items()}
        return encode(self.image, format, replace(self.recipe, scores=scores) if metadata else None)

    def save(self, path: str | Path, *, metadata: bool = True, force: bool = False) -> Path:
        """Write it to a file, whole or not at all, in the format that the suffix says; return the path.

        Raises: BadOutput where there is such a file and `force` is not set, where none can be written, or for another
        suffix; BadSetting for a format that cannot hold it; DiskFull.
        """
        path = Path(path)
        format = SUFFIXES.get(path.suffix.lower())
        if format is None:
            raise BadOutput(f"what format is {path.name!r}?", hint="end the name in .png, .jpg or .webp")
        return publish(path, self.encode(format, metadata=metadata), force=force)


def encode(image: Image.Image, format: str, recipe: Recipe | None) -> bytes:
    """The bytes of a picture file: PNG and WebP lossless, JPEG at quality 95 without chroma subsampling.

    Painted pixels hardly repeat, except side by side: a PNG in which only such repetitions are looked for is about as
    small, and takes far less time. Beside the pixels only the recipe is written: no time, no path, no machine.

    Raises BadSetting for a format that is not in `FORMATS`, or sides that it cannot hold.
    """
    if format not in FORMATS:
        raise BadSetting(f"no picture format is called {format!r}", hint=f"one of {', '.join(FORMATS)}")
    target = io.BytesIO()
    try:
        if format == "png":
            image.save(target, "PNG", pnginfo=png_text(recipe), compress_level=6, compress_type=zlib.Z_RLE)
        elif format == "jpeg":
            image.save(target, "JPEG", quality=95, subsampling=0, exif=exif_of(recipe))
        else:
            image.save(target, "WEBP", lossless=True, quality=60, exif=exif_of(recipe))
    except (OSError, ValueError) as error:
        # Only the sides can be at fault: JPEG ends at 65500 pixels, WebP at 16383.
        sides = f"{image.width} x {image.height}"
        raise BadSetting(
            f"{format} cannot hold {sides} pixels: {error}", hint="use --format png, or --layout files"
        ) from error
    return target.getvalue()
