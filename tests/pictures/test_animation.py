"""Animations show the right picture at every moment: each file is read back, frame by frame."""

import io
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from dallecli.errors import BadRecipe, BadSetting, MissingExtra
from dallecli.fake_engine import FakeEngine
from dallecli.installation import extra_command
from dallecli.pictures import animation
from dallecli.pictures.animation import (
    FORMATS,
    FPS_LIMITS,
    GIF_FPS_LIMIT,
    HOLD_LIMIT,
    Tempo,
    animate,
    check_format,
    timeline,
)
from dallecli.pictures.metadata import read_recipe
from dallecli.publish import publish
from dallecli.tasks.generate import Generate

SECOND = Fraction(1)
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)]
STILL_FORMATS = [format for format in FORMATS if format != "mp4"]


def flat(count: int = 4, size: tuple[int, int] = (32, 24)) -> list[Image.Image]:
    return [Image.new("RGB", size, COLOURS[k]) for k in range(count)]


def noisy(count: int = 4, size: tuple[int, int] = (32, 24)) -> list[Image.Image]:
    chance = np.random.default_rng(3)
    return [Image.fromarray(chance.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for _ in range(count)]


def played(data: bytes) -> list[tuple[int, Image.Image]]:
    """For how many milliseconds each frame of a file is shown, and what is seen then."""
    frames = []
    with Image.open(io.BytesIO(data)) as file:
        assert file.info["loop"] == 0  # for ever
        for k in range(file.n_frames):
            file.seek(k)
            file.load()
            frames.append((round(file.info["duration"]), file.convert("RGB")))
    return frames


def seen_at(frames: list[tuple[int, Image.Image]], millisecond: float) -> Image.Image:
    for duration, image in frames:
        millisecond -= duration
        if millisecond < 0:
            return image
    raise AssertionError("the animation is over")


def decoded(data: bytes) -> list[tuple[float, np.ndarray]]:
    """The second at which each frame of a video begins, and its pixels."""
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(data)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in container.decode(video=0)]


# The timeline


def test_frames_follow_each_other_forwards():
    assert timeline(4, Tempo(fps=10), Fraction(1, 100)) == [(0, 10), (1, 10), (2, 10), (3, 10)]


def test_bouncing_goes_back_without_showing_an_end_twice():
    assert [k for k, _ in timeline(4, Tempo(bounce=True), SECOND)] == [0, 1, 2, 3, 2, 1]
    assert [k for k, _ in timeline(2, Tempo(bounce=True), SECOND)] == [0, 1]
    assert [k for k, _ in timeline(1, Tempo(bounce=True), SECOND)] == [0]


def test_the_ends_are_held():
    assert timeline(3, Tempo(fps=10, hold=1.5), Fraction(1, 100)) == [(0, 160), (1, 10), (2, 160)]
    assert timeline(3, Tempo(fps=10, hold=1.5, bounce=True), Fraction(1, 100)) == [(0, 160), (1, 10), (2, 160), (1, 10)]


def test_what_cannot_be_counted_is_made_up_for_by_later_frames():
    # A twelfth of a second is 8 1/3 hundredths.
    assert [units for _, units in timeline(6, Tempo(fps=12), Fraction(1, 100))] == [8, 9, 8, 8, 9, 8]


TEMPI = st.builds(
    Tempo, fps=st.floats(*FPS_LIMITS), bounce=st.booleans(), hold=st.floats(0, HOLD_LIMIT, allow_subnormal=False)
)


@given(frames=st.integers(1, 60), tempo=TEMPI, unit=st.sampled_from([Fraction(1, 100), Fraction(1, 1000)]))
def test_no_moment_is_off_by_more_than_half_a_unit(frames, tempo, unit):
    clock = exact = Fraction(0)
    for k, units in timeline(frames, tempo, unit):
        assert units >= 1
        clock += units * unit
        exact += 1 / tempo.rate + (Fraction(tempo.hold).limit_denominator(1000) if k in (0, frames - 1) else 0)
        assert abs(clock - exact) <= unit / 2


# Files that Pillow reads


TEMPO = {"plain": Tempo(fps=12), "bounce": Tempo(fps=12, bounce=True), "hold": Tempo(fps=7.5, hold=0.4, bounce=True)}


@pytest.mark.parametrize("tempo", TEMPO)
@pytest.mark.parametrize("format", STILL_FORMATS)
def test_every_picture_is_shown_at_its_time(format, tempo):
    images = flat()
    frames = played(animate(images, format, TEMPO[tempo]))
    clock = 0
    for k, units in timeline(len(images), TEMPO[tempo], Fraction(1, 1000)):
        for part in (0.1, 0.5, 0.9):
            assert seen_at(frames, clock + part * units).tobytes() == images[k].tobytes()
        clock += units
    assert abs(sum(duration for duration, _ in frames) - clock) <= (5 if format == "gif" else 0)


@pytest.mark.parametrize("format", STILL_FORMATS)
def test_a_picture_that_stays_stays_for_as_long_as_all_its_frames(format):
    images = [flat(1)[0], flat(1)[0], flat(2)[1]]
    frames = played(animate(images, format, Tempo(fps=10)))
    assert sum(duration for duration, _ in frames) == 300
    assert seen_at(frames, 199).tobytes() == images[0].tobytes()
    assert seen_at(frames, 201).tobytes() == images[2].tobytes()


@pytest.mark.parametrize("format", STILL_FORMATS)
def test_a_picture_can_stay_for_minutes(format):
    images = [*(flat(1) * 40), flat(2)[1]]
    frames = played(animate(images, format, Tempo(fps=0.5)))
    assert sum(duration for duration, _ in frames) == 82_000
    assert seen_at(frames, 79_999).tobytes() == images[0].tobytes()
    assert seen_at(frames, 80_001).tobytes() == images[-1].tobytes()


@pytest.mark.parametrize("format", STILL_FORMATS)
def test_pictures_that_never_change_are_one_picture(format):
    with Image.open(io.BytesIO(animate(flat(1) * 3, format, Tempo()))) as file:
        assert getattr(file, "n_frames", 1) == 1
        assert file.convert("RGB").tobytes() == flat(1)[0].tobytes()


@pytest.mark.parametrize("format", ["webp", "apng"])
def test_pixels_are_kept(format):
    images = noisy()
    assert [image.tobytes() for _, image in played(animate(images, format, Tempo()))] == [
        image.tobytes() for image in images
    ]


def test_a_gif_keeps_up_to_256_colours():
    image = Image.fromarray(np.stack([np.arange(256).reshape(16, 16)] * 3, axis=-1).astype(np.uint8))
    first, second = (seen for _, seen in played(animate([image, image.rotate(90)], "gif", Tempo())))
    assert first.tobytes() == image.tobytes()
    assert second.tobytes() == image.rotate(90).tobytes()


def test_a_gif_of_many_colours_is_right_from_a_step_away():
    y, x = np.mgrid[0:128, 0:128] * 2
    image = Image.fromarray(np.stack([x, y, 255 - (x + y) // 2], axis=-1).astype(np.uint8))
    for _, seen in played(animate([image, image.rotate(180)], "gif", Tempo()))[:1]:
        away = [np.asarray(some.filter(ImageFilter.GaussianBlur(2))).astype(int) for some in (seen, image)]
        # Without dithering the worst is 15 levels, and bands are seen; measured: 5.
        assert np.abs(away[0] - away[1]).max() <= 8


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_pictures_are_the_same_bytes(format):
    if format == "mp4":
        pytest.importorskip("av")
    assert animate(noisy(), format, Tempo(hold=0.5)) == animate(noisy(), format, Tempo(hold=0.5))


@pytest.mark.parametrize("format", STILL_FORMATS)
def test_one_picture_is_an_animation_that_stands_still(format):
    data = animate(flat(1), format, Tempo(bounce=True))
    with Image.open(io.BytesIO(data)) as file:
        assert file.convert("RGB").tobytes() == flat(1)[0].tobytes()


def test_the_recipe_travels_where_it_can_be_read(tmp_path):
    recipe = FakeEngine().resolve(Generate(prompt="Bär 🦊", model="starter", seed=7))
    for format in ("webp", "apng"):
        path = publish(tmp_path / format, animate(flat(), format, Tempo(), recipe), force=False)
        assert read_recipe(path) == recipe
        assert len(played(path.read_bytes())) == 4
    with pytest.raises(BadRecipe, match="carries no recipe"):
        read_recipe(animate(flat(), "apng", Tempo()))


# Video


@pytest.fixture(params=["libx264", "mpeg4"])
def codec(request, monkeypatch):
    """With each codec that FFmpeg may have, as if it had no better one."""
    av = pytest.importorskip("av")
    if request.param not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {request.param}")
    monkeypatch.setattr(animation, "_VIDEO_CODECS", {request.param: animation._VIDEO_CODECS[request.param]})
    return request.param


@pytest.mark.parametrize("size", [(32, 24), (33, 25), (33, 24), (1, 1)], ids=str)
def test_a_video_shows_every_picture_at_its_time_at_every_size(codec, size):
    tempo = Tempo(fps=12.5, bounce=True, hold=0.4)
    images = flat(size=size)
    frames = decoded(animate(images, "mp4", tempo))
    wanted = [k for k, count in timeline(4, tempo, 1 / tempo.rate) for _ in range(count)]
    assert wanted == [0] * 6 + [1, 2] + [3] * 6 + [2, 1]
    assert len(frames) == len(wanted)
    for number, (k, (start, pixels)) in enumerate(zip(wanted, frames, strict=True)):
        assert start == pytest.approx(number / 12.5, abs=1e-3)
        assert pixels.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
        assert np.abs(pixels - COLOURS[k]).max() <= 4


def test_a_video_is_what_players_expect(codec):
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(animate(flat(), "mp4", Tempo(fps=24)))) as container:
        (stream,) = container.streams
        assert container.format.name.startswith("mov,mp4")
        assert stream.codec_context.name == {"libx264": "h264", "mpeg4": "mpeg4"}[codec]
        assert (stream.pix_fmt, stream.average_rate) == ("yuv420p", 24)
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)
        assert float(stream.duration * stream.time_base) == pytest.approx(4 / 24, abs=1e-3)


def test_a_video_is_close_to_its_pictures():
    pytest.importorskip("av")
    y, x = np.mgrid[0:128, 0:128] * 2
    image = Image.fromarray(np.stack([x, y, 255 - (x + y) // 2], axis=-1).astype(np.uint8))
    for _, pixels in decoded(animate([image] * 3, "mp4", Tempo())):
        assert np.abs(pixels - np.asarray(image)).mean() <= 2


def test_without_pyav_the_error_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # how Python says that there is no such module
    for attempt in (lambda: check_format("mp4", Tempo()), lambda: animate(flat(), "mp4", Tempo())):
        with pytest.raises(MissingExtra, match="PyAV is not installed") as caught:
            attempt()
        assert caught.value.exit_code == 2
        assert caught.value.hint == extra_command("video")
    for format in STILL_FORMATS:
        check_format(format, Tempo())


def test_the_extra_of_that_name_exists():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(entry.startswith("av") for entry in project["optional-dependencies"]["video"])


def test_pyav_is_imported_for_videos_only():
    code = (
        "import sys; from PIL import Image; from dallecli.pictures.animation import *; check_format('mp4', Tempo()); "
        "animate([Image.new('RGB', (4, 4))], 'gif', Tempo()); assert not {'av', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


# What is refused


@pytest.mark.parametrize("fps", [0, -1, 0.05, 60.1, float("nan"), float("inf")])
def test_impossible_tempi_are_refused(fps):
    with pytest.raises(BadSetting, match="frames a second"):
        Tempo(fps=fps)


@pytest.mark.parametrize("hold", [-0.1, 30.1, float("nan"), float("inf")])
def test_impossible_holds_are_refused(hold):
    with pytest.raises(BadSetting, match="cannot be held"):
        Tempo(hold=hold)


def test_what_a_format_cannot_do_is_refused():
    with pytest.raises(BadSetting, match="no animation is called 'avi'"):
        check_format("avi", Tempo())
    with pytest.raises(BadSetting, match="a GIF cannot show 60 frames a second"):
        animate(flat(), "gif", Tempo(fps=60))
    check_format("gif", Tempo(fps=GIF_FPS_LIMIT))


def test_pictures_of_several_sizes_or_none_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="one size"):
        animate([*flat(1), *flat(1, (16, 16))], "gif", Tempo())
    with pytest.raises(ValueError, match="one size"):
        animate([], "gif", Tempo())
