"""Pictures of every kind are read as the pixels that their makers meant, and nothing else gets through.

Files are built byte by byte where Pillow would not write them, and expected colours come from the formats' own
formulas, not from the code that is tested.
"""

import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from dallecli.errors import BadPicture, BadSetting
from dallecli.limits import PIXEL_LIMIT, SIDE_LIMIT
from dallecli.pictures.reading import Reading, read_picture
from dallecli.source import Source

# What files are made of


def read(data: bytes, **options: str) -> Reading:
    return read_picture(Source(kind="picture", name="photo", data=data), **options)


def pixels(data: bytes, **options: str) -> list[tuple[int, ...]]:
    image = read(data, **options).image
    assert image.mode == "RGB"
    return [tuple(map(int, pixel)) for pixel in np.asarray(image).reshape(-1, 3)]


def opacity(data: bytes) -> list[int] | None:
    alpha = read(data).alpha
    return None if alpha is None else list(alpha.tobytes())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


def png(
    size: tuple[int, int], depth: int, kind: int, rows: Sequence[bytes], *more: bytes, interlaced: int = 0
) -> bytes:
    """A PNG of unfiltered rows, with further chunks before the pixels."""
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, interlaced)
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + body + chunk(b"IEND", b"")


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def of(colour: str | tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), colour)


def near(found: tuple[int, ...], wanted: tuple[int, ...], levels: int) -> bool:
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= levels


def close(data: bytes, wanted: tuple[int, ...], levels: int) -> None:
    found = set(pixels(data))
    assert all(near(pixel, wanted, levels) for pixel in found), found


# Depths and palettes


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (png((8, 1), 1, GREY, [b"\xa0"]), [255, 0, 255, 0, 0, 0, 0, 0]),
        (png((4, 1), 2, GREY, [b"\x1b"]), [0, 85, 170, 255]),
        (png((2, 1), 4, GREY, [b"\x1b"]), [17, 187]),
        (png((3, 1), 8, GREY, [b"\0\x80\xff"]), [0, 128, 255]),
        # 16 bits are divided by 257 and rounded: 128 is below half a level, 129 above it.
        (png((6, 1), 16, GREY, [words(0, 128, 129, 255, 32768, 65535)]), [0, 0, 1, 1, 128, 255]),
        (png((2, 1), 16, GREY, [words(65406, 65407)]), [254, 255]),
    ],
    ids=["1", "2", "4", "8", "16", "16-top"],
)
def test_grey_of_every_depth(data, wanted):
    assert pixels(data) == [(level, level, level) for level in wanted]
    assert opacity(data) is None


def test_every_16_bit_level_is_rounded_to_the_nearest():
    levels = np.arange(65536)
    data = png((256, 256), 16, GREY, [words(*row) for row in levels.reshape(256, 256)])
    assert [pixel[0] for pixel in pixels(data)] == [round(level / 257) for level in levels]


def test_colours_of_16_bits_are_rounded_and_not_cut_off():
    rows = [words(129, 255, 256, 65407, 65535, 32896)]
    assert pixels(png((2, 1), 16, COLOUR, rows)) == [(1, 1, 1), (255, 255, 128)]


def test_random_colours_of_16_bits():
    samples = np.random.default_rng(0).integers(0, 65536, (16, 16, 3))
    data = png((16, 16), 16, COLOUR, [words(*row.reshape(-1)) for row in samples])
    assert np.array_equal(np.asarray(read(data).image), np.round(samples / 257))


def test_interlaced_colours_of_16_bits():
    first, second, third, fourth = (words(257 * k, 257 * k + 129, 0) for k in (10, 20, 30, 40))
    data = png((2, 2), 16, COLOUR, [first, second, third + fourth], interlaced=1)
    assert pixels(data) == [(k, k + 1, 0) for k in (10, 20, 30, 40)]


def test_a_palette():
    data = png((4, 1), 2, PALETTE, [b"\x1b"], chunk(b"PLTE", bytes([9, 8, 7, 1, 2, 3, 0, 0, 255, 40, 50, 60])))
    assert pixels(data) == [(9, 8, 7), (1, 2, 3), (0, 0, 255), (40, 50, 60)]
    assert opacity(data) is None


# Transparency


def test_alpha_is_shown_over_white_and_kept():
    data = png((4, 1), 8, COLOUR_ALPHA, [bytes([200, 100, 0, 255, 200, 100, 0, 0, 200, 100, 0, 51, 1, 2, 3, 254])])
    # 51 of 255 is a fifth.
    assert pixels(data) == [(200, 100, 0), (255, 255, 255), (244, 224, 204), (2, 3, 4)]
    assert opacity(data) == [255, 0, 51, 254]


@pytest.mark.parametrize(
    ("background", "wanted"),
    [("black", (0, 0, 0)), ("#336699", (0x33, 0x66, 0x99)), ("hsl(0, 100%, 50%)", (255, 0, 0))],
)
def test_the_background_can_be_chosen(background, wanted):
    assert pixels(png((1, 1), 8, COLOUR_ALPHA, [bytes([1, 2, 3, 0])]), background=background) == [wanted]


def test_a_background_that_is_no_colour_is_refused():
    with pytest.raises(BadSetting, match="'mauvish' is not a colour"):
        read(saved(of("red"), "PNG"), background="mauvish")


def test_grey_with_alpha():
    data = png((2, 1), 8, GREY_ALPHA, [bytes([100, 255, 0, 51])])
    assert pixels(data) == [(100, 100, 100), (204, 204, 204)]
    assert opacity(data) == [255, 51]


def test_grey_with_alpha_of_16_bits():
    data = png((2, 1), 16, GREY_ALPHA, [words(129, 65535, 65535, 128)])
    assert pixels(data) == [(1, 1, 1), (255, 255, 255)]
    assert opacity(data) == [255, 0]


def test_colours_with_alpha_of_16_bits():
    data = png((2, 1), 16, COLOUR_ALPHA, [words(255, 256, 65535, 65535, 0, 0, 0, 32896)])
    assert pixels(data) == [(1, 1, 255), (127, 127, 127)]
    assert opacity(data) == [255, 128]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (png((8, 1), 1, GREY, [b"\xa0"], chunk(b"tRNS", words(1))), [0, 255, 0, 255, 255, 255, 255, 255]),
        (png((8, 1), 1, GREY, [b"\xa0"], chunk(b"tRNS", words(0))), [255, 0, 255, 0, 0, 0, 0, 0]),
        (png((4, 1), 2, GREY, [b"\x1b"], chunk(b"tRNS", words(2))), [255, 255, 0, 255]),
        (png((2, 1), 4, GREY, [b"\x1b"], chunk(b"tRNS", words(11))), [255, 0]),
        (png((2, 1), 8, GREY, [b"\7\x08"], chunk(b"tRNS", words(7))), [0, 255]),
        (png((2, 1), 16, GREY, [words(700, 701)], chunk(b"tRNS", words(701))), [255, 0]),
        (png((2, 1), 8, COLOUR, [bytes([1, 2, 3, 1, 2, 4])], chunk(b"tRNS", words(1, 2, 3))), [0, 255]),
        (png((2, 1), 16, COLOUR, [words(1, 2, 3, 1, 2, 4)], chunk(b"tRNS", words(1, 2, 3))), [0, 255]),
        (png((3, 1), 8, PALETTE, [b"\0\1\2"], chunk(b"PLTE", bytes(9)), chunk(b"tRNS", b"\0\x80")), [0, 128, 255]),
        (png((2, 1), 8, PALETTE, [b"\0\1"], chunk(b"PLTE", bytes(6)), chunk(b"tRNS", b"\xff\0")), [255, 0]),
    ],
    ids=["1", "1-black", "2", "4", "8", "16", "colour", "colour-16", "palette", "palette-binary"],
)
def test_a_transparent_colour(data, wanted):
    assert opacity(data) == wanted
    shown = [pixel == (255, 255, 255) for pixel in pixels(data)]
    assert all(white for white, alpha in zip(shown, wanted, strict=True) if alpha == 0)


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_with_alpha(lossless):
    image = Image.new("RGBA", (16, 16), (200, 100, 0, 51))
    data = saved(image, "WEBP", lossless=lossless, quality=100, exact=True)
    close(data, (244, 224, 204), 0 if lossless else 2)
    assert set(opacity(data)) == {51}


# Colour profiles, by hand: ICC.1:2001-04 for version 2


def _tag(kind: bytes, body: bytes) -> bytes:
    data = kind + bytes(4) + body
    return data + bytes(-len(data) % 4)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def icc(space: bytes, tags: dict[bytes, bytes], connection: bytes = b"XYZ ") -> bytes:
    tags = {
        b"desc": _tag(b"desc", struct.pack(">I", 2) + b"x\0" + bytes(78)),
        b"cprt": _tag(b"text", b"none\0"),
        b"wtpt": _tag(b"XYZ ", _fixed(*D50)),
        **tags,
    }
    offset, table, bodies = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(bodies), len(data))
        bodies += data
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">I4sI4s4s4s", 128 + len(table + bodies), b"test", 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*D50)
    return header.ljust(128, b"\0") + table + bodies


D50 = (0.9642, 1.0, 0.8249)
# Linear light to XYZ, adapted to D50: columns are red, green and blue.
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])


def curve(gamma: float) -> bytes:
    return _tag(b"curv", struct.pack(">IH", 1, round(gamma * 256)))


def colours(primaries: np.ndarray, gamma: float) -> bytes:
    """The profile of a display."""
    tags = {bytes([name]) + b"XYZ": _tag(b"XYZ ", _fixed(*primaries[:, k])) for k, name in enumerate(b"rgb")}
    return icc(b"RGB ", {**tags, **{bytes([name]) + b"TRC": curve(gamma) for name in b"rgb"}})


def shown(linear: Sequence[float] | np.ndarray) -> tuple[int, ...]:
    """Linear sRGB light as levels: IEC 61966-2-1."""
    light = np.clip(np.asarray(linear, dtype=float), 0, 1)
    levels = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return tuple(int(level) for level in np.round(255 * levels))


def carried(pixel: tuple[int, ...], profile: bytes, format: str = "PNG") -> bytes:
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[len(pixel)]
    colour = pixel if len(pixel) > 1 else pixel[0]
    return saved(of(colour, mode), format, icc_profile=profile, **({"quality": 100} if format != "PNG" else {}))


def test_exchanged_primaries_exchange_red_and_green():
    profile = colours(SRGB[:, [1, 0, 2]], 2.2)
    close(carried((255, 0, 0), profile), (0, 255, 0), 1)
    close(carried((0, 255, 0), profile), (255, 0, 0), 1)
    close(carried((0, 0, 255), profile), (0, 0, 255), 1)


@pytest.mark.parametrize("level", [0, 1, 20, 128, 200, 255])
def test_linear_light_is_brightened(level):
    close(carried((level, level, level), colours(SRGB, 1.0)), shown([level / 255] * 3), 1)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("pixel", [(200, 100, 50), (90, 160, 90), (128, 128, 128), (255, 0, 0)], ids=str)
def test_the_colours_of_a_wide_display(pixel, format):
    light = (np.array(pixel) / 255) ** 2.2
    wanted = shown(np.linalg.inv(SRGB) @ P3 @ light)
    lossy = {"PNG": 1, "JPEG": 4, "WEBP": 6}[format]
    close(carried(pixel, colours(P3, 2.2), format), wanted, lossy)


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_profile_for_grey(format):
    close(carried((100,), icc(b"GRAY", {b"kTRC": curve(1.0)}), format), shown([100 / 255] * 3), 1)


def test_grey_with_a_profile_for_colours():
    close(carried((100,), colours(SRGB, 1.0)), shown([100 / 255] * 3), 1)


def test_transparent_pixels_are_converted_before_they_are_shown_over_the_background():
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    image.paste((255, 0, 0, 0), (0, 0, 8, 16))
    data = saved(image, "PNG", icc_profile=colours(SRGB[:, [1, 0, 2]], 2.2))
    assert read(data, background="red").image.getpixel((0, 0)) == (255, 0, 0)
    assert near(read(data).image.getpixel((15, 0)), (0, 255, 0), 1)
    assert set(opacity(data)) == {0, 255}


def test_a_palette_with_a_profile():
    image = of("red").convert("P", palette=Image.Palette.ADAPTIVE)
    close(saved(image, "PNG", icc_profile=colours(SRGB[:, [1, 0, 2]], 2.2)), (0, 255, 0), 1)


def test_sixteen_bits_with_a_profile():
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(colours(SRGB, 1.0)))
    close(png((1, 1), 16, COLOUR, [words(128 * 257, 0, 65535)], profile), shown([128 / 255, 0, 1]), 1)


def test_ink_with_a_profile():
    # One Lab colour for every combination of no and full ink, by its number C M Y K in binary: cyan is brown here.
    lab = {0b0000: (100, 0, 0), 0b1000: (40, 30, 40)}
    grid = b"".join(
        bytes([round(L * 2.55), a + 128, b + 128]) for L, a, b in (lab.get(k, (0, 0, 0)) for k in range(16))
    )
    same = bytes(range(256))
    table = _tag(b"mft1", bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + same * 4 + grid + same * 3)
    profile = icc(b"CMYK", {b"A2B0": table}, connection=b"Lab ")
    close(carried((0, 0, 0, 0), profile, "JPEG"), (255, 255, 255), 2)
    close(carried((0, 0, 0, 255), profile, "JPEG"), (0, 0, 0), 2)
    height = np.array([(40 + 16) / 116 + 30 / 500, (40 + 16) / 116, (40 + 16) / 116 - 40 / 200])
    brown = shown(np.linalg.inv(SRGB) @ (np.array(D50) * height**3))
    assert brown[0] > brown[1] > brown[2]
    close(carried((255, 0, 0, 0), profile, "JPEG"), brown, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_pixels_with_an_srgb_profile_stay_as_they_are(format):
    noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(noise, format, icc_profile=profile, **({"lossless": True} if format == "WEBP" else {}))
    reading = read(data)
    assert reading.image.tobytes() == noise.tobytes()
    assert reading.warnings == ()


@pytest.mark.parametrize(
    ("profile", "warning"),
    [
        (b"not a profile", "photo: its colour profile cannot be used, its colours are read as sRGB"),
        (colours(SRGB, 2.2)[:200], "photo: its colour profile cannot be used"),
        (icc(b"CMYK", {}), "photo: its colour profile is for CMYK pixels and was ignored"),
        (icc(b"GRAY", {b"kTRC": curve(1.0)}), "photo: its colour profile is for GRAY pixels and was ignored"),
        (icc(b"RGB ", {}), "photo: its colour profile cannot be used"),
    ],
    ids=["garbage", "short", "ink", "grey", "empty"],
)
def test_a_profile_that_does_not_fit_is_left_out_with_a_warning(profile, warning):
    reading = read(saved(of((10, 20, 30)), "PNG", icc_profile=profile))
    assert set(np.asarray(reading.image).reshape(-1, 3)[:, 0]) == {10}
    assert len(reading.warnings) == 1
    assert reading.warnings[0].startswith(warning)


# Ink


INKS = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (51, 102, 0, 51)]


def painted(ink: tuple[int, ...]) -> tuple[int, ...]:
    *colours, black = ink
    return tuple(round((255 - colour) * (255 - black) / 255) for colour in colours)


@pytest.mark.parametrize("ink", INKS, ids=str)
def test_inverted_ink_as_photoshop_writes_it(ink):
    data = saved(of(ink, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    close(data, painted(ink), 1)


@pytest.mark.parametrize("ink", INKS, ids=str)
def test_ink_as_luma_and_chroma(ink):
    """YCCK: the inverted inks, turned into light by R = 255 - C, as an RGB picture in JFIF's YCbCr; black inverted."""
    red, green, blue, black = *ink[:3], 255 - ink[3]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    stored = (luma, 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402, black)
    data = saved(of(tuple(255 - round(min(level, 255)) for level in stored), "CMYK"), "JPEG", quality=100)
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0
    close(data[: marker + 11] + b"\2" + data[marker + 12 :], painted(ink), 3)


# Orientation, animations


def corners(image: Image.Image) -> list[str]:
    """The colours of the upper left, upper right, lower right and lower left corner."""
    names = {(255, 0, 0): "red", (0, 255, 0): "green", (0, 0, 255): "blue", (255, 255, 255): "white"}
    right, bottom = image.width - 1, image.height - 1
    found = [image.getpixel(place) for place in ((0, 0), (right, 0), (right, bottom), (0, bottom))]
    return [names[tuple(255 if level > 128 else 0 for level in pixel)] for pixel in found]


def marked() -> Image.Image:
    """A picture 48 x 32 with a coloured quarter in each corner, clockwise from the upper left."""
    image = Image.new("RGB", (48, 32), "white")
    image.paste("red", (0, 0, 24, 16))
    image.paste("green", (24, 0, 48, 16))
    image.paste((0, 255, 0), (24, 0, 48, 16))
    image.paste("blue", (24, 16, 48, 32))
    return image


# Where the file's first row and first column belong: EXIF 2.32, table 6.
ORIENTATIONS = {
    1: ["red", "green", "blue", "white"],
    2: ["green", "red", "white", "blue"],
    3: ["blue", "white", "red", "green"],
    4: ["white", "blue", "green", "red"],
    5: ["red", "white", "blue", "green"],
    6: ["white", "red", "green", "blue"],
    7: ["blue", "green", "red", "white"],
    8: ["green", "blue", "white", "red"],
}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_turned_photo_is_set_upright(orientation, format):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    reading = read(saved(marked(), format, exif=exif))
    assert corners(reading.image) == ORIENTATIONS[orientation]
    assert reading.turned == (orientation >= 5)
    assert reading.image.size == ((32, 48) if orientation >= 5 else (48, 32))


def test_alpha_turns_with_its_picture():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    reading = read(saved(image, "PNG", exif=exif))
    assert reading.alpha.size == reading.image.size == (1, 2)
    assert list(reading.alpha.tobytes()) == [0, 255]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    assert corners(read(saved(marked(), "JPEG", exif=exif)).image) == ORIENTATIONS[1]


@pytest.mark.parametrize("damaged", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 40])
def test_damaged_exif_data_turn_nothing(damaged):
    assert corners(read(saved(marked(), "JPEG", exif=damaged)).image) == ORIENTATIONS[1]


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_read_with_a_warning(format):
    data = saved(of("red"), format, save_all=True, append_images=[of("blue"), of("lime")], lossless=True)
    assert set(pixels(data)) == {(255, 0, 0)}
    assert read(data).warnings == ("photo is an animation: only the first of its 3 frames is read",)


def test_a_phones_photo_with_its_preview_inside_is_no_animation():
    data = saved(of("red"), "MPO", save_all=True, append_images=[of("blue")])
    close(data, (254, 0, 0), 1)
    assert read(data).warnings == ()


# Damaged files


def _noise(mode: str = "RGB") -> Image.Image:
    return Image.frombytes(mode, (40, 30), random.Random(1).randbytes(40 * 30 * len(mode)))


WHOLE: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(_noise(), "PNG"),
    "png-16": lambda: png((8, 8), 16, COLOUR, [random.Random(k).randbytes(48) for k in range(8)]),
    "png-palette": lambda: saved(_noise().quantize(200), "PNG"),
    "jpeg": lambda: saved(_noise(), "JPEG"),
    "jpeg-progressive": lambda: saved(_noise(), "JPEG", progressive=True),
    "jpeg-cmyk": lambda: saved(_noise("CMYK"), "JPEG"),
    "webp": lambda: saved(_noise(), "WEBP"),
    "webp-lossless": lambda: saved(_noise("RGBA"), "WEBP", lossless=True),
    "webp-animated": lambda: saved(_noise(), "WEBP", save_all=True, append_images=[of("red").resize((40, 30))]),
    "apng": lambda: saved(_noise(), "PNG", save_all=True, append_images=[of("red").resize((40, 30))]),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_cut_short_is_refused_or_complete(kind):
    """A few formats end in bytes without pixels; as soon as one pixel is missing, there is an error."""
    data = WHOLE[kind]()
    whole = read(data)
    refused = 0
    for length in {round(len(data) * k / 60) for k in range(60)} | set(range(len(data) - 30, len(data))):
        try:
            reading = read(data[:length])
        except BadPicture as error:
            assert error.where == "photo"
            assert len(error.lines()) <= 3
            assert length < 12 or "damaged: " in error.what
            refused += 1
        else:
            assert reading.image.tobytes() == whole.image.tobytes(), length
    assert refused >= 50


@pytest.mark.parametrize("kind", WHOLE)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind):
    chance = random.Random(2)
    whole = WHOLE[kind]()
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            # Headers are where the interesting bytes are.
            data[chance.randrange(min(len(data), chance.choice((60, 300, len(data)))))] = chance.randrange(256)
        try:
            reading = read(bytes(data))
        except BadPicture:
            continue
        assert reading.image.mode == "RGB"


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((100_000, 100_000), "100000 x 100000 pixels, more than can be read"),
        ((9000, 9000), "9000 x 9000 pixels, more than can be read"),
        ((SIDE_LIMIT + 1, 1), f"{SIDE_LIMIT + 1} x 1 pixels"),
        ((1, SIDE_LIMIT + 1), f"1 x {SIDE_LIMIT + 1} pixels"),
    ],
    ids=str,
)
def test_too_many_pixels_are_refused_before_one_is_decoded(size, reason):
    assert PIXEL_LIMIT < 9000 * 9000
    with pytest.raises(BadPicture, match=reason):
        read(png(size, 8, COLOUR, []))


def test_the_longest_side_is_read():
    assert read(png((SIDE_LIMIT, 1), 8, GREY, [bytes(SIDE_LIMIT)])).image.size == (SIDE_LIMIT, 1)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (0, 0)], ids=str)
def test_a_picture_without_pixels_is_refused(size):
    with pytest.raises(BadPicture):
        read(png(size, 8, COLOUR, [b""]))


def _xmp(length: int) -> bytes:
    """A segment of XMP that says it has so many bytes."""
    return b"\xff\xe1" + struct.pack(">H", length) + b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta"


def _in_png(*chunks: bytes, after: bytes = b"") -> Callable[[], bytes]:
    """A grey PNG of one pixel with further chunks before its pixels, and after them."""
    whole = png((1, 1), 8, GREY, [b"\x80"], *chunks)
    return lambda: whole[:-12] + after + whole[-12:]


def _in_jpeg(segment: bytes) -> Callable[[], bytes]:
    whole = saved(of((128, 128, 128)), "JPEG")
    return lambda: whole[:2] + segment + whole[2:]


def _wrong(kind: bytes, data: bytes) -> bytes:
    """A chunk whose checksum is wrong."""
    return chunk(kind, data)[:-4] + b"\0\0\0\0"


_BOMB = zlib.compress(bytes(64 * 2**20))

METADATA: dict[str, Callable[[], bytes]] = {
    "a text that unpacks to 64 MiB": _in_png(chunk(b"zTXt", b"x\0\0" + _BOMB)),
    "an international one": _in_png(chunk(b"iTXt", b"x\0\1\0\0\0" + _BOMB)),
    "a profile that unpacks to 64 MiB": _in_png(chunk(b"iCCP", b"x\0\0" + _BOMB)),
    "a hundred texts of a megabyte": _in_png(*[chunk(b"tEXt", b"x\0" + b"y" * 2**20)] * 100),
    "EXIF data of 8 MiB": _in_png(chunk(b"eXIf", b"MM\0*" + bytes(8 * 2**20))),
    "a text with a wrong checksum": _in_png(_wrong(b"tEXt", b"Title\0a fox")),
    "a time with a wrong checksum": _in_png(_wrong(b"tIME", bytes(7))),
    "a profile with a wrong checksum": _in_png(_wrong(b"iCCP", b"x\0\0" + zlib.compress(b"x"))),
    "a text with an unknown compression": _in_png(chunk(b"zTXt", b"x\0\7abc")),
    "a text of compressed noise": _in_png(chunk(b"iTXt", b"x\0\1\0\0\0abc")),
    "a text without anything in it": _in_png(chunk(b"iTXt", b"")),
    "a profile of an unknown compression": _in_png(chunk(b"iCCP", b"x\0\7abc")),
    "a profile of nothing": _in_png(chunk(b"iCCP", b"")),
    "a profile behind the pixels": _in_png(after=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"x"))),
    "a gamma of one byte": _in_png(
        chunk(b"gAMA", b"x"), chunk(b"cHRM", b"x"), chunk(b"sRGB", b""), chunk(b"pHYs", b"")
    ),
    "an animation that is none": _in_png(chunk(b"acTL", b"x"), chunk(b"fcTL", b"x"), chunk(b"fdAT", b"")),
    "broken EXIF data": _in_png(chunk(b"eXIf", b"\xff" * 40)),
    "a text that is cut short": lambda: _in_png()()[:-12] + chunk(b"tEXt", b"x" * 99)[:50],
    "bytes behind the end": lambda: _in_png()() + b"x" * 99,
    "no end": lambda: _in_png()()[:-12],
    "XMP": _in_jpeg(_xmp(42)),
    "a note of nothing": _in_jpeg(b"\xff\xed\0\x02"),
    "a broken index of previews": _in_jpeg(b"\xff\xe2\0\x0aMPF\0\xff\xff\xff\xff"),
    "a broken note of Photoshop": _in_jpeg(
        b"\xff\xed\0\x1ePhotoshop 3.0\x008BIM\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
    ),
    "a broken JFIF header": _in_jpeg(b"\xff\xe0\0\x07JFIF\0"),
    "an orientation that is none": lambda: saved(
        of((128, 128, 128)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04junk\0\0\0\0"
    ),
    "XMP of a WebP that is cut short": lambda: _webp_cut_in_its_xmp(),
}


def _webp_cut_in_its_xmp() -> bytes:
    return saved(of((128, 128, 128)), "WEBP", lossless=True, xmp=b"<x:xmpmeta" * 99)[:-400]


@pytest.mark.parametrize("what", METADATA)
@pytest.mark.long
def test_what_nobody_needs_to_see_the_picture_never_refuses_it(what):
    data = METADATA[what]()
    tracemalloc.start()
    try:
        found = set(pixels(data))
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found == {(128, 128, 128)}
    assert peak < 4 * len(data) + 40 * 2**20
    assert all("profile" in warning for warning in read(data).warnings)


def test_a_profile_that_is_damaged_or_too_large_is_said_to_be_left_out():
    assert read(METADATA["a profile that unpacks to 64 MiB"]()).warnings == (
        "photo: its colour profile is damaged or too large, its colours are read as sRGB",
    )


def test_a_large_profile_is_used():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    padded = struct.pack(">I", len(profile) + 2**21) + profile[4:] + bytes(2**21)
    data = png((1, 1), 8, COLOUR, [bytes((200, 100, 50))], chunk(b"iCCP", b"x\0\0" + zlib.compress(padded)))
    assert (pixels(data), read(data).warnings) == ([(200, 100, 50)], ())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:60] + b"\xff" + data[61:], "the PNG is damaged: the checksum of its IDAT is wrong"),
        (lambda data: data[:20] + b"\xff" + data[21:], "the PNG is damaged: the checksum of its IHDR is wrong"),
        (lambda data: data[: len(data) // 2], "the PNG is damaged: the file is cut short"),
        (lambda data: data[:37] + b"!" + data[38:], "the PNG is damaged: something else stands where a chunk"),
    ],
    ids=["pixels", "header", "cut", "framing"],
)
def test_damage_of_the_pixels_is_named_as_damage(damage, said):
    with pytest.raises(BadPicture) as caught:
        read(damage(WHOLE["png"]()))
    assert caught.value.what.startswith(said)


def test_a_jpeg_of_a_thousand_scans_is_refused_before_it_is_decoded():
    data = saved(of("red").resize((2000, 2000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    data = data[:last] + data[last:-2] * 1000 + data[-2:]
    with pytest.raises(BadPicture, match="it has more than 100 scans"):
        read(data)


FOREIGN = {
    "png-upside-down": lambda: (
        png((1, 1), 8, GREY, [b"\0"])[:8] + chunk(b"tEXt", b"a\0b") + png((1, 1), 8, GREY, [b"\0"])[8:]
    ),
    "gif": lambda: saved(of("red"), "GIF"),
    "tiff": lambda: saved(of("red"), "TIFF"),
    "bmp": lambda: saved(of("red"), "BMP"),
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "text": lambda: b"not a picture",
    "nothing": lambda: b"",
    "signature": lambda: b"\x89PNG\r\n\x1a\n",
    "riff": lambda: b"RIFF\x04\0\0\0WEBP",
    "soi": lambda: b"\xff\xd8\xff",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_formats_are_not_opened(kind):
    with pytest.raises(BadPicture):
        read(FOREIGN[kind]())


def test_a_picture_in_a_recipe_has_to_be_found_before_it_is_read():
    with pytest.raises(ValueError, match="without its bytes"):
        read_picture(Source(kind="picture", name="photo", sha256="0" * 64))


def test_an_ordinary_picture_is_read_without_a_word():
    reading = read(saved(marked(), "PNG"))
    assert (reading.image.tobytes(), reading.alpha, reading.turned, reading.warnings) == (
        marked().tobytes(),
        None,
        False,
        (),
    )
