"""Picture files carry the recipes of their pictures."""

import io
import random
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dallecli.errors import BadPicture, BadRecipe, DalleError, PromptError
from dallecli.fake_engine import FakeEngine
from dallecli.limits import RECIPE_BYTES
from dallecli.pictures.formats import FORMATS
from dallecli.pictures.metadata import check_recipe_fits, read_recipe
from dallecli.pictures.picture import Picture, encode
from dallecli.recipe import Recipe
from dallecli.tasks.generate import Generate


def _picture(prompt: str = "a red fox", seed: int = 7) -> Picture:
    engine = FakeEngine()
    recipe = engine.resolve(Generate(prompt=prompt, model="starter", seed=seed, size=64))
    return next(iter(engine.paint(recipe, lambda _: None)))


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_carries_the_recipe(tmp_path, format):
    picture = _picture("Bär \x1b[31m [/oops] \u202e 🦊 \\ \" '")
    path = tmp_path / f"x{FORMATS[format]}"
    path.write_bytes(picture.encode(format))
    scores = {name: pytest.approx(score, abs=1e-6) for name, score in picture.scores.items()}
    assert read_recipe(path) == replace(picture.recipe, scores=scores)
    assert read_recipe(path.read_bytes()) == read_recipe(path)


@pytest.mark.parametrize("format", FORMATS)
def test_without_metadata_nothing_but_pixels_is_written(tmp_path, format):
    path = tmp_path / "x"
    path.write_bytes(_picture().encode(format, metadata=False))
    with Image.open(path) as image:
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background"}
        assert "dalle" not in image.info
    with pytest.raises(BadRecipe, match="carries no recipe"):
        read_recipe(path)


def test_the_longest_recipe_fits_into_every_format(tmp_path):
    recipe = _picture().recipe
    longest = replace(recipe, prompt="x" * (RECIPE_BYTES - len(recipe.to_json()) + len(recipe.prompt)))
    assert len(longest.to_json()) == RECIPE_BYTES
    check_recipe_fits(longest)
    for format in FORMATS:
        path = tmp_path / format
        path.write_bytes(encode(_picture().image, format, longest))
        assert read_recipe(path) == longest
    with pytest.raises(PromptError, match="a picture holds"):
        check_recipe_fits(replace(longest, prompt=longest.prompt + "x"))


def _png_with(text: str, key: str = "dalle") -> bytes:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(key, text)
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, "PNG", pnginfo=info)
    return target.getvalue()


def _bmp() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (4, 4)).save(target, "BMP")
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", BadPicture),
        (b"not a picture", BadPicture),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", BadPicture),
        (_bmp(), BadPicture),
        (_picture().encode("png")[:30], BadPicture),
        (_png_with("{}"), BadRecipe),
        (_png_with("x" * 100_000), BadRecipe),
        (_png_with("{}", key="parameters"), BadRecipe),
    ],
)
def test_what_is_no_picture_or_no_recipe_is_refused_with_its_path(tmp_path, data, error):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(error) as caught:
        read_recipe(path)
    assert caught.value.where == str(path)


def test_folders_missing_files_and_devices_are_no_pictures(tmp_path):
    for path in (tmp_path, tmp_path / "missing.png", Path("/dev/null")):
        with pytest.raises(BadPicture):
            read_recipe(path)


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_pictures_are_refused_or_read_but_never_crash(format):
    whole = _picture().encode(format)
    random_bytes = random.Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(random_bytes.choice((1, 3, 20))):
            damaged[random_bytes.randrange(min(len(damaged), 1500))] = random_bytes.randrange(256)
        try:
            assert isinstance(read_recipe(bytes(damaged[: random_bytes.randrange(len(damaged) + 1)])), Recipe)
        except DalleError as error:
            assert isinstance(error, BadPicture | BadRecipe)


@pytest.mark.parametrize("length", range(2400, 5400, 150))
def test_a_prompt_of_emoji_is_refused_from_the_length_on_at_which_its_recipe_does_not_fit(length):
    asked = replace(_picture().recipe, prompt="\N{GRINNING FACE}" * length)  # twelve bytes each
    if len(asked.to_json()) <= RECIPE_BYTES:
        check_recipe_fits(asked)
    else:
        with pytest.raises(PromptError, match="a picture holds"):
            check_recipe_fits(asked)
