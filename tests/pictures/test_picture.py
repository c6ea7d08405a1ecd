"""Pictures become the bytes of files."""

import io
import random

import pytest
from PIL import Image

from dallecli.errors import BadSetting
from dallecli.fake_engine import FakeEngine
from dallecli.pictures.picture import Picture, encode
from dallecli.tasks.generate import Generate


def _picture(prompt: str = "a red fox", seed: int = 7) -> Picture:
    engine = FakeEngine()
    recipe = engine.resolve(Generate(prompt=prompt, model="starter", seed=seed, size=64))
    return next(iter(engine.paint(recipe, lambda _: None)))


@pytest.mark.parametrize("format", ["png", "webp"])
def test_lossless_formats_keep_every_pixel(format):
    noise = Image.frombytes("RGB", (64, 64), random.Random(0).randbytes(64 * 64 * 3))
    with Image.open(io.BytesIO(encode(noise, format, None))) as image:
        assert image.convert("RGB").tobytes() == noise.tobytes()


def test_the_same_picture_is_the_same_bytes():
    assert _picture().encode("png") == _picture().encode("png")


def test_an_unknown_format_or_impossible_sides_are_refused():
    with pytest.raises(BadSetting, match="no picture format"):
        encode(_picture().image, "bmp", None)
    with pytest.raises(BadSetting, match="webp cannot hold 20000 x 1"):
        encode(Image.new("RGB", (20000, 1)), "webp", None)
