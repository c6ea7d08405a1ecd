"""The recipe inside a picture file: a PNG's iTXt chunk named "dalle"; the EXIF user comment in JPEG and WebP."""

from pathlib import Path
from typing import BinaryIO, Final

from PIL import ExifTags, Image, PngImagePlugin

from dallecli.errors import BadRecipe, PromptError
from dallecli.pictures.formats import opened
from dallecli.recipe import Recipe

RECIPE_BYTES: Final = 60 * 1024
"""The longest recipe: a JPEG segment holds 64 KB, and every format keeps the same limit."""

_KEY: Final = "dalle"
_COMMENT_CODE: Final = b"ASCII\0\0\0"


def check_recipe_fits(recipe: Recipe) -> None:
    """Refuse a recipe that no file could hold, before painting. Raises PromptError: only prompts can be so long."""
    length = len(recipe.to_json())
    if length > RECIPE_BYTES:
        raise PromptError(
            f"with this prompt the recipe has {length} bytes, a picture holds {RECIPE_BYTES}",
            hint="shorten the prompt, or leave the recipe out with --no-metadata",
        )


def read_recipe(source: Path | BinaryIO, where: str | None = None) -> Recipe:
    """The recipe in a picture file, or in an open one; errors call it `where`.

    Raises BadPicture if it is not a picture that can be read, BadRecipe if it holds no recipe.
    """
    path = where if where is not None else source if isinstance(source, Path) else "standard input"
    with opened(source, str(path)) as image:
        if image.format == "PNG":
            text = image.info.get(_KEY)
        else:
            comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
            text = _comment(comment)
    if not isinstance(text, str):
        raise BadRecipe(
            "this picture carries no recipe", where=str(path), hint="it was not made by dalle, or with --no-metadata"
        )
    if len(text) > RECIPE_BYTES:
        raise BadRecipe(f"the recipe has {len(text)} characters, the limit is {RECIPE_BYTES}", where=str(path))
    try:
        return Recipe.from_json(text)
    except BadRecipe as error:
        raise BadRecipe(error.what, where=str(path), hint=error.hint) from error


def png_text(recipe: Recipe | None) -> PngImagePlugin.PngInfo | None:
    """The chunk that carries a recipe in a PNG or an APNG."""
    if recipe is None:
        return None
    info = PngImagePlugin.PngInfo()
    info.add_itxt(_KEY, recipe.to_json())
    return info


def exif_of(recipe: Recipe | None) -> bytes:
    """The EXIF data that carry a recipe in a JPEG or a WebP."""
    if recipe is None:
        return b""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = _COMMENT_CODE + recipe.to_json().encode("ascii")
    return exif.tobytes()


def _comment(raw: object) -> str | None:
    if not isinstance(raw, bytes) or not raw.startswith(_COMMENT_CODE):
        return None
    return raw.removeprefix(_COMMENT_CODE).decode("ascii", "replace")
