"""The recipe inside a picture file: a PNG's iTXt chunk named "dalle"; the EXIF user comment in JPEG and WebP."""

from pathlib import Path
from typing import Final

from PIL import ExifTags, Image, PngImagePlugin

from dallecli.errors import BadPicture, BadRecipe, PromptError, reason
from dallecli.limits import RECIPE_BYTES
from dallecli.pictures.formats import DECODER_ERRORS, opened, picture_bytes
from dallecli.pictures.plain import Damaged, DamagedText, format_of, text_in_png
from dallecli.recipe import Recipe

_KEY: Final = "dalle"
_COMMENT_CODE: Final = b"ASCII\0\0\0"


def check_recipe_fits(recipe: Recipe) -> None:
    """Refuse a recipe that no file could hold, before painting. Raises PromptError: only prompts can be so long."""
    if _is_short(recipe):
        return
    length = len(recipe.to_json())
    if length > RECIPE_BYTES:
        raise PromptError(
            f"with this prompt the recipe has {length} bytes, a picture holds {RECIPE_BYTES}",
            hint="shorten the prompt, or leave the recipe out with --no-metadata",
        )


def _is_short(recipe: Recipe) -> bool:
    """Whether a recipe fits for certain, as nearly all of a million do; to write it down takes longer than this.

    What people write is at most twelve bytes a character in JSON; half of the room is for everything else.
    """
    if recipe.sources or recipe.rewritten is not None:
        return False
    settings = recipe.settings
    texts = (recipe.prompt, recipe.model, settings.negative, settings.judge or "", *settings.sentences, *recipe.dropped)
    return 2 * 12 * sum(map(len, texts)) < RECIPE_BYTES


def read_recipe(source: Path | bytes, where: str | None = None) -> Recipe:
    """The recipe in a picture file, or in its bytes; errors call it `where`. Its pixels are not looked at.

    Raises BadPicture if it is not a picture that can be read, BadRecipe if it holds no recipe, or a damaged one.
    """
    path = where if where is not None else str(source) if isinstance(source, Path) else "standard input"
    data = picture_bytes(source) if isinstance(source, Path) else source
    text = _recorded(data, path)
    if text is None:
        hint = "it was not made by dalle, or with --no-metadata, or it was decoded from codes"
        raise BadRecipe("this picture carries no recipe", where=path, hint=hint)
    if len(text) > RECIPE_BYTES:
        raise BadRecipe(f"the recipe has {len(text)} characters, the limit is {RECIPE_BYTES}", where=path)
    try:
        return Recipe.from_json(text)
    except BadRecipe as error:
        raise BadRecipe(error.what, where=path, hint=error.hint) from error


def _recorded(data: bytes, where: str) -> str | None:
    """The text of the recipe in a picture; None if it has none. Raises BadPicture, BadRecipe."""
    if format_of(data) == "PNG":
        try:
            return text_in_png(data, _KEY.encode())
        except DamagedText as error:
            raise BadRecipe(f"the recipe in this picture is damaged: {error}", where=where) from error
        except Damaged as error:
            raise BadPicture(f"the PNG is damaged: {error}", where=where) from error
    with opened(data, where) as picture:
        try:
            return _comment(picture.file.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment))
        except (OSError, *DECODER_ERRORS) as error:
            what = f"the EXIF data, which may hold a recipe, are damaged: {reason(error)}"
            raise BadRecipe(what, where=where) from error


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
