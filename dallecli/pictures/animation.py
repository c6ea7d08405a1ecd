"""Animations: pictures become the bytes of a GIF, an animated WebP or PNG, or an MP4.

All formats share one timeline, rounded to the unit of each: hundredths of a second in GIF, thousandths in WebP and
APNG, whole frames in MP4. Rounding errors never add up. All but MP4 repeat for ever.
"""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

from PIL import Image

from dallecli.errors import BadSetting, MissingExtra
from dallecli.installation import extra_command
from dallecli.pictures.metadata import exif_of, png_text
from dallecli.recipe import Recipe

FORMATS: Final = ("gif", "webp", "apng", "mp4")

FPS_LIMITS: Final = (0.1, 60.0)
GIF_FPS_LIMIT: Final = 50.0
"""Viewers take shorter delays in a GIF for a mistake, and show it slowly."""

HOLD_LIMIT: Final = 30.0
"""The longest hold at the ends, in seconds."""

# The first that FFmpeg was built with is used; patents keep H.264 out of some builds.
_VIDEO_CODECS: Mapping[str, Mapping[str, str]] = {
    "libx264": {"crf": "16", "preset": "slow"},
    "mpeg4": {"qmin": "2", "qmax": "2"},
}
_BT709: Final = 1  # ITU-T H.273, tables 2 and 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """How pictures follow each other. Raises BadSetting."""

    fps: float = 8.0
    """Pictures a second."""
    bounce: bool = False
    """Whether they are also shown backwards."""
    hold: float = 0.0
    """Seconds that the first and the last picture are shown longer."""

    def __post_init__(self) -> None:
        low, high = FPS_LIMITS
        if not low <= self.fps <= high:
            raise BadSetting(f"{self.fps:g} frames a second are not possible", hint=f"from {low:g} to {high:g}")
        if not 0 <= self.hold <= HOLD_LIMIT:
            raise BadSetting(f"the ends cannot be held for {self.hold:g} seconds", hint=f"from 0 to {HOLD_LIMIT:g}")

    @property
    def rate(self) -> Fraction:
        """Pictures a second, as a fraction that every format can count with."""
        return Fraction(self.fps).limit_denominator(1000)


def check_format(format: str, tempo: Tempo) -> None:
    """Refuse an animation that cannot be made, before painting.

    Raises:
        BadSetting: no such format, or too fast for it.
        MissingExtra: MP4 without PyAV.
    """
    if format not in FORMATS:
        raise BadSetting(f"no animation is called {format!r}", hint=f"one of {', '.join(FORMATS)}")
    if format == "gif" and tempo.fps > GIF_FPS_LIMIT:
        raise BadSetting(
            f"a GIF cannot show {tempo.fps:g} frames a second", hint=f"up to {GIF_FPS_LIMIT:g}, or use --animate webp"
        )
    if format == "mp4" and importlib.util.find_spec("av") is None:
        raise _without_pyav("PyAV is not installed")


def timeline(frames: int, tempo: Tempo, unit: Fraction) -> list[tuple[int, int]]:
    """Which picture, from 0, is shown for how many units, in order; a unit is a number of seconds."""
    order = [*range(frames), *(range(frames - 2, 0, -1) if tempo.bounce else ())]
    hold = Fraction(tempo.hold).limit_denominator(1000)
    shown, clock, ticks = [], Fraction(0), 0
    for frame in order:
        clock += 1 / tempo.rate + (hold if frame in (0, frames - 1) else 0)
        shown.append((frame, round(clock / unit) - ticks))
        ticks = round(clock / unit)
    return shown


def animate(images: Sequence[Image.Image], format: str, tempo: Tempo, recipe: Recipe | None = None) -> bytes:
    """The bytes of an animation of RGB pictures of one size.

    WebP and APNG keep every pixel, GIF 256 colours a picture. MP4 is lossy and has even sides only: the last row or
    column is repeated where a side is odd. WebP and APNG carry the recipe, where `read_recipe` finds it.

    Raises: as `check_format`; ValueError for no pictures, or of several sizes.
    """
    check_format(format, tempo)
    if len({image.size for image in images}) != 1:
        raise ValueError("an animation needs pictures of one size")
    if format == "mp4":
        return _mp4(
            [images[k] for k, count in timeline(len(images), tempo, 1 / tempo.rate) for _ in range(count)], tempo
        )
    shown = timeline(len(images), tempo, Fraction(1, 100 if format == "gif" else 1000))
    milliseconds = [units * 10 if format == "gif" else units for _, units in shown]
    if format == "gif":
        images = [_with_palette(image) for image in images]
    first, *rest = [images[k] for k, _ in shown]
    target = io.BytesIO()
    moving = {"save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0}
    if format == "gif":
        first.save(target, "GIF", **moving)
    elif format == "webp":
        first.save(target, "WEBP", lossless=True, quality=60, exif=exif_of(recipe), **moving)
    else:
        first.save(target, "PNG", pnginfo=png_text(recipe), **moving)
    return target.getvalue()


def _with_palette(image: Image.Image) -> Image.Image:
    """The picture in 256 colours: exactly if it has no more, else the nearest, dithered."""
    exact = image.getcolors(256) is not None
    reduced = image.quantize(256, Image.Quantize.MEDIANCUT, kmeans=0 if exact else 3)
    return reduced if exact else image.quantize(palette=reduced, dither=Image.Dither.FLOYDSTEINBERG)


def _mp4(images: Sequence[Image.Image], tempo: Tempo) -> bytes:
    """H.264 where FFmpeg has it, 4:2:0, BT.709: what every player plays."""
    try:
        import av
    except ImportError as error:
        raise _without_pyav(f"PyAV cannot be imported: {error}") from error
    import numpy as np
    from av.video.reformatter import ColorRange, Colorspace

    target = io.BytesIO()
    codec = next(name for name in _VIDEO_CODECS if name in av.codecs_available)
    width, height = images[0].size
    with av.open(target, "w", format="mp4") as container:
        stream = cast("av.VideoStream", container.add_stream(codec, tempo.rate, dict(_VIDEO_CODECS[codec])))
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries = context.color_trc = _BT709
        context.thread_count = 1  # x264 writes the number into the file
        for image in images:
            pixels = np.pad(np.asarray(image), ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return target.getvalue()


def _without_pyav(what: str) -> MissingExtra:
    return MissingExtra(f"an MP4 cannot be made: {what}", hint=extra_command("video"))
