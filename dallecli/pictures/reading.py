"""Pictures from outside: the bytes of a PNG, JPEG or WebP file become upright 8-bit sRGB pixels, or an error.

Everything that decides the colours is honoured: bit depth, palettes, transparency, CMYK, an embedded ICC profile; so is
the EXIF orientation. The gamma and chromaticity chunks of old PNGs are not: their colours are read as sRGB.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageColor, ImageFile

from dallecli.errors import BadSetting
from dallecli.pictures.formats import DECODER_ERRORS, opened
from dallecli.source import Source

BACKGROUND: Final = "white"

# Tag 274 says where the first row and column are; these bring them to the top and the left (EXIF 2.32, 4.6.4).
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_GREY_AND_ALPHA: Final = 4  # a colour type of PNG

STRIP: Final = 2**20
"""Pixels of a picture with 16 bits a sample that are rounded at once."""

_MODES_OF_SPACES: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A picture as it was read."""

    image: Image.Image
    """Mode "RGB", upright sRGB, over the background where it is transparent."""
    alpha: Image.Image | None
    """Mode "L", 0 is transparent; None for a file without transparency."""
    turned: bool
    """Whether the file's width is the image's height."""
    warnings: tuple[str, ...]
    """For the user: what was left out."""


def read_picture(source: Source, *, background: str = BACKGROUND) -> Reading:
    """Decode a picture; of an animation the first frame.

    `background` is the colour behind transparent pixels, by name or as #rrggbb.

    Raises:
        BadPicture, OutOfMemory: as `opened`.
        BadSetting: the background is not a colour.
    """
    if source.data is None:
        raise ValueError("a source without its bytes cannot be read")
    behind = _colour(background)
    where = source.where
    with opened(source.data, where) as picture:
        pixels, alpha = _decode(picture.file, picture.plain.data)
        frames = max(picture.plain.frames, getattr(picture.file, "n_frames", 1))
        profile = picture.plain.profile if picture.plain.format == "PNG" else picture.file.info.get("icc_profile")
        turn = _UPRIGHT.get(_orientation(picture.file))
        warnings = [f"{where}: {doubt}" for doubt in picture.plain.doubts]
    if frames > 1:
        warnings.append(f"{where} is an animation: only the first of its {frames} frames is read")
    if profile:
        pixels, reason = _to_srgb(pixels, profile)
        if reason is not None:
            warnings.append(f"{where}: {reason}")
    image = pixels if pixels.mode == "RGB" else pixels.convert("RGB")
    if alpha is not None:
        ground = Image.new("RGB", image.size, behind)
        ground.paste(image, mask=alpha)
        image = ground
    if turn is not None:
        image = image.transpose(turn)
        alpha = alpha.transpose(turn) if alpha is not None else None
    return Reading(image=image, alpha=alpha, turned=image.size != pixels.size, warnings=tuple(warnings))


def _colour(name: str) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise BadSetting(f"{name!r} is not a colour", hint="use a name such as white, or #rrggbb") from error


def _decode(file: ImageFile.ImageFile, data: bytes) -> tuple[Image.Image, Image.Image | None]:
    """The pixels, as "L", "RGB" or "CMYK", and the alpha channel, as "L"."""
    if file.format == "PNG" and data[12:16] != b"IHDR":
        raise ValueError("its header does not come first")
    depth = data[24] if file.format == "PNG" else 8
    transparent = file.info.get("transparency")
    if depth == 16:
        return _decode_16_bit(file, data, transparent)
    file.load()
    if file.mode == "P":
        coloured = file.convert("RGB" if transparent is None else "RGBA")
        return coloured.convert("RGB"), coloured.getchannel("A") if transparent is not None else None
    if file.mode in ("RGBA", "LA"):
        return file.convert(file.mode[:-1]), file.getchannel("A")
    if file.mode in ("1", "L"):
        alpha = None
        if transparent is not None:
            # The chunk counts in the file's levels: 0 to 3 where pixels have two bits.
            highest = 2**depth - 1
            level = (transparent & highest) * 255 // highest
            alpha = file.convert("L").point([0 if value == level else 255 for value in range(256)])
        return file.convert("L"), alpha
    if file.mode == "CMYK":
        return file.copy(), None
    rgb = file.convert("RGB")
    return rgb, _all_but(np.asarray(rgb), transparent) if transparent is not None else None


def _decode_16_bit(file: ImageFile.ImageFile, data: bytes, transparent: Any) -> tuple[Image.Image, Image.Image | None]:
    """As `_decode`, with every sample scaled from 65535 to 255 and rounded.

    Pillow keeps the upper bytes of 16-bit colours, which is off by up to one level, so it is made to unpack the others.
    """
    if file.mode != "I;16" and data[25] == _GREY_AND_ALPHA:
        _unpack_as(file, "RGBA")  # two samples of 16 bits are as long as four of 8
        return _rounded(file, lambda rows: np.ascontiguousarray(rows).view(">u2"), 2, None)
    if file.mode == "I;16":
        return _rounded(file, lambda rows: rows.astype(np.uint16)[..., None], 1, transparent)
    with Image.open(io.BytesIO(data), formats=["PNG"]) as twin:
        _unpack_as(twin, f"{twin.mode};16L")  # as if the lower byte came first
        file.load()
        twin.load()
        return _rounded(
            file, lambda rows, lower: rows.astype(np.uint16) << 8 | lower, len(file.getbands()), transparent, twin
        )


def _rounded(
    file: ImageFile.ImageFile,
    samples_of: Callable[..., NDArray[np.uint16]],
    channels: int,
    transparent: Any,
    *more: ImageFile.ImageFile,
) -> tuple[Image.Image, Image.Image | None]:
    """The picture and its alpha channel of 16-bit samples, strip by strip: all of them would be many times the file.

    samples_of: makes samples `[h w channels]` of the rows of `file` and of `more`.
    """
    colours = Image.new("L" if channels <= 2 else "RGB", file.size)
    alpha = Image.new("L", file.size) if channels in (2, 4) or transparent is not None else None
    height = max(1, STRIP // file.width)
    for top in range(0, file.height, height):
        box = (0, top, file.width, min(top + height, file.height))
        samples = samples_of(*(np.asarray(image.crop(box)) for image in (file, *more)))
        whole, rest = np.divmod(samples.astype(np.uint16), np.uint16(257))
        levels = (whole + (rest > 128)).astype(np.uint8)
        if channels in (2, 4):
            colours.paste(_from_levels(levels[..., :-1]), box)
        else:
            colours.paste(_from_levels(levels), box)
        if alpha is not None:
            alpha.paste(_from_levels(levels[..., -1:]) if channels in (2, 4) else _all_but(samples, transparent), box)
    return colours, alpha


def _unpack_as(file: ImageFile.ImageFile, layout: str) -> None:
    """Let Pillow unpack the samples of an opened PNG as if they were laid out in another way."""
    file.tile = [tile._replace(args=layout) for tile in file.tile]


def _from_levels(levels: NDArray[np.uint8]) -> Image.Image:
    """A picture of mode "L" or "RGB" from levels `[h w 1]` or `[h w 3]`."""
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _all_but(samples: NDArray[Any], transparent: int | tuple[int, ...]) -> Image.Image:
    """The alpha channel of a PNG in which one colour is transparent; samples are `[h w c]`, in the file's own depth."""
    return Image.fromarray(np.where((samples == transparent).all(axis=2), 0, 255).astype(np.uint8))


def _orientation(file: ImageFile.ImageFile) -> int:
    try:
        value = file.getexif().get(ExifTags.Base.Orientation)
    except (OSError, *DECODER_ERRORS):
        return 0  # damaged EXIF data, which every viewer ignores
    return value if isinstance(value, int) else 0


def _to_srgb(pixels: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    """The pixels converted from an ICC profile to sRGB; if that is impossible, as they are, with the reason.

    A profile that changes no colour by more than one level is sRGB under some name: the pixels are then left alone.
    """
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = given.profile.xcolor_space.strip()
        if space == "RGB" and pixels.mode == "L":
            pixels = pixels.convert("RGB")
        if _MODES_OF_SPACES.get(space) != pixels.mode:
            return pixels, f"its colour profile is for {space} pixels and was ignored"
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), pixels.mode, "RGB")
        probe = _probe(pixels.mode)
        seen = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int)
        if pixels.mode != "CMYK" and np.abs(seen - np.asarray(probe.convert("RGB"))).max() <= 1:
            return pixels, None
        converted = ImageCms.applyTransform(pixels, transform)
    except (ImageCms.PyCMSError, OSError, *DECODER_ERRORS) as error:
        return pixels, f"its colour profile cannot be used, its colours are read as sRGB: {error}"
    assert converted is not None  # only a transform in place returns nothing
    return converted, None


def _probe(mode: str) -> Image.Image:
    """Every grey, and for colours a cube of 17 levels."""
    greys = np.arange(256, dtype=np.uint8)
    if mode != "RGB":
        return Image.fromarray(greys[None]).convert(mode)
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    return Image.fromarray(np.concatenate([cube, np.stack([greys] * 3, axis=-1)])[None])
