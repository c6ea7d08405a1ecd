"""Masks as pixels: mode "L", 255 where a picture is repainted and 0 where it is kept. See `tasks.mask.Mask`."""

from typing import Final

from PIL import Image, ImageChops

from dallecli.errors import BadMask
from dallecli.pictures.reading import Reading, read_picture
from dallecli.source import Source
from dallecli.tasks.mask import Mask

SMALL_SHARE: Final = 0.005
LARGE_SHARE: Final = 0.95
"""Where fewer or more pixels are repainted than these shares, the mask is probably not what was meant."""

GREY_SHARE: Final = 0.1
"""With a larger share of grey pixels, the mask was probably meant to be soft, which masks are not."""

_TINT = (255, 0, 160)


def draw(mask: Mask, picture: Reading) -> tuple[Image.Image, tuple[str, ...]]:
    """The mask of a picture, of the same size, and warnings about what looks like a mistake.

    A pixel counts as white or opaque from half on: masks have no grey; the soft seam is made later.

    Raises:
        BadPicture: a file cannot be read.
        BadMask: a file has another size than the picture, the transparency that was to be used is missing, a box
            reaches outside the picture, or nothing is left to repaint or to keep.
    """
    warnings: list[str] = []
    drawn = Image.new("L", picture.image.size, 0)
    for source in mask.files:
        reading = read_picture(source, background="black")
        warnings += reading.warnings
        _check_size(source, reading, picture)
        if mask.mode == "alpha":
            if reading.alpha is None:
                hint = "use --mask-mode white"
                raise BadMask("this mask has no transparency", where=source.name, hint=hint)
            marked = _transparent(reading.alpha)
        else:
            levels = reading.image.convert("L")
            marked = levels.point([0] * 128 + [255] * 128)
            warnings += _doubts_about_grey(source, levels)
        drawn = ImageChops.lighter(drawn, marked)
    for x, y, width, height in mask.boxes:
        if x + width > drawn.width or y + height > drawn.height:
            raise BadMask(
                f"the box {x},{y},{width},{height} leaves the picture",
                hint=f"x,y,width,height: the picture has {drawn.width} x {drawn.height} pixels",
            )
        drawn.paste(255, (x, y, x + width, y + height))
    if not mask.files and not mask.boxes:
        if picture.alpha is None:
            raise BadMask("this picture has no transparency that could be a mask", hint="--mask FILE or x,y,w,h")
        drawn = _transparent(picture.alpha)
    if mask.invert:
        drawn = ImageChops.invert(drawn)
    warnings += _doubts_about_share(drawn)
    return drawn, tuple(warnings)


def share(drawn: Image.Image) -> float:
    """The share of pixels, from 0 to 1, that a drawn mask repaints."""
    return drawn.histogram()[255] / (drawn.width * drawn.height)


def overlay(image: Image.Image, drawn: Image.Image) -> Image.Image:
    """The picture with the part that will be repainted tinted, for checking a mask by eye."""
    return Image.composite(Image.blend(image, Image.new("RGB", image.size, _TINT), 0.6), image, drawn)


def _check_size(source: Source, reading: Reading, picture: Reading) -> None:
    size, wanted = reading.image.size, picture.image.size
    if size == wanted:
        return
    hint = "a mask has exactly the size of its picture"
    if picture.turned and size == wanted[::-1]:
        hint = "the picture is turned by its EXIF data: draw the mask on the upright picture"
    raise BadMask(
        f"the mask has {size[0]} x {size[1]} pixels, the picture {wanted[0]} x {wanted[1]}",
        where=source.name,
        hint=hint,
    )


def _transparent(alpha: Image.Image) -> Image.Image:
    return alpha.point([255] * 128 + [0] * 128)


def _doubts_about_grey(source: Source, levels: Image.Image) -> list[str]:
    grey = sum(levels.histogram()[64:192]) / (levels.width * levels.height)
    if grey <= GREY_SHARE:
        return []
    return [f"{grey:.0%} of the mask {source.name} is grey: what is at least half white is repainted, the rest kept"]


def _doubts_about_share(drawn: Image.Image) -> list[str]:
    repainted = share(drawn)
    if repainted == 0:
        hint = "white is repainted, or what is transparent with --mask-mode alpha; --invert-mask inverts a mask"
        raise BadMask("the mask marks nothing for repainting", hint=hint)
    if repainted == 1:
        hint = "--invert-mask inverts a mask; to repaint the whole picture, use dalle vary"
        raise BadMask("the mask leaves nothing of the picture", hint=hint)
    if not SMALL_SHARE <= repainted <= LARGE_SHARE:
        return [f"the mask repaints {repainted:.2%} of the picture; --show-mask shows where, --invert-mask inverts it"]
    return []
