"""Pictures: what an engine yields, the bytes they become, and how those reach the disk whole or not at all.

A picture's recipe travels in the file: a PNG iTXt chunk named "dalle"; the EXIF user comment in JPEG and WebP.
"""

import contextlib
import errno
import io
import os
import secrets
import shlex
import shutil
import stat
import struct
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from dallecli.errors import BadOutput, BadPicture, BadRecipe, BadSetting, DiskFull, PromptError
from dallecli.recipe import Recipe
from dallecli.source import FILE_BYTES

FORMATS: Mapping[str, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""The formats that are written and read, and the suffix of their files."""

RECIPE_BYTES = 60 * 1024
"""The longest recipe: a JPEG segment holds 64 KB, and every format keeps the same one."""

_KEY = "dalle"
_COMMENT_CODE = b"ASCII\0\0\0"
_SLUG_BYTES = 120

# What Pillow's decoders raise on damaged files besides OSError, seen on its own test corpus.
DECODER_ERRORS = (ValueError, SyntaxError, EOFError, NotImplementedError, TypeError, KeyError, struct.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One finished picture: RGB pixels, how they were made, the seconds that took, and the scores it was given."""

    image: Image.Image
    recipe: Recipe
    seconds: float
    scores: Mapping[str, float]

    def encode(self, format: str, *, metadata: bool = True) -> bytes:
        """The bytes of a file, with the recipe and the scores inside unless `metadata` is False."""
        scores = {name: round(score, 6) for name, score in self.scores.items()}
        return encode(self.image, format, replace(self.recipe, scores=scores) if metadata else None)


def check_recipe_fits(recipe: Recipe) -> None:
    """Refuse, before any painting, a recipe that no file could hold. Raises PromptError: only prompts are unbounded."""
    length = len(recipe.to_json())
    if length > RECIPE_BYTES:
        raise PromptError(
            f"with this prompt the recipe has {length} bytes, a picture holds {RECIPE_BYTES}",
            hint="shorten the prompt, or leave the recipe out with --no-metadata",
        )


def encode(image: Image.Image, format: str, recipe: Recipe | None) -> bytes:
    """The bytes of a picture file: PNG and WebP lossless, JPEG at quality 95 without chroma subsampling.

    Nothing but the recipe is written beside the pixels: no clock, no path, no machine. Raises BadSetting for a format
    that is not in `FORMATS`, or sides that it cannot hold.
    """
    if format not in FORMATS:
        raise BadSetting(f"no picture format is called {format!r}", hint=f"one of {', '.join(FORMATS)}")
    target = io.BytesIO()
    try:
        if format == "png":
            image.save(target, "PNG", pnginfo=png_text(recipe), compress_level=6)
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


def read_recipe(source: Path | BinaryIO, where: str | None = None) -> Recipe:
    """The recipe inside a picture file, or inside the bytes of one, which errors call `where`.

    Raises BadPicture if it cannot be read as a picture, BadRecipe if no recipe is inside.
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


def grid(images: Sequence[Image.Image], columns: int | None = None) -> Image.Image:
    """The pictures, row by row, on one white sheet with thin gaps; nearly square if `columns` is None.

    One picture is itself. All have the size of the first. Raises ValueError for none at all.
    """
    if not images:
        raise ValueError("a grid needs a picture")
    if len(images) == 1:
        return images[0]
    columns = columns if columns is not None else grid_shape(len(images))[0]
    rows = -(-len(images) // columns)
    width, height = images[0].size
    gap = max(2, width // 64)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for k, image in enumerate(images):
        sheet.paste(image, ((k % columns) * (width + gap), (k // columns) * (height + gap)))
    return sheet


def grid_shape(count: int) -> tuple[int, int]:
    """Columns and rows of the sheet for `count` pictures: up to three in a row, then nearly square."""
    columns = count if count <= 3 else next(c for c in range(2, count + 1) if c * c >= count)
    return columns, -(-count // columns)


def file_name(title: str, seed: int, suffix: str, ending: str = "") -> str:
    """A file name from a title, a seed, an ending and a suffix: letters and digits of any script, at most 255 bytes.

    Two titles may share a name; `publish_new` keeps their pictures apart.
    """
    return f"{slug(title)}-{seed}{ending}{suffix}"


def slug(title: str) -> str:
    """Letters and digits of any script, the rest as hyphens, at most 120 bytes; "picture" if nothing is left."""
    kept = "".join(
        char if unicodedata.category(char)[0] in "LMN" else "-" for char in unicodedata.normalize("NFC", title)
    )
    words = [
        word.lstrip("".join(char for char in word if unicodedata.category(char)[0] == "M"))
        for word in kept.lower().split("-")
    ]
    whole = "-".join(word for word in words if word)
    cut = whole.encode()[:_SLUG_BYTES].decode(errors="ignore")
    if len(cut) < len(whole) and "-" in cut:
        cut = cut[: cut.rindex("-")]
    return cut if cut else "picture"


def check_folder(folder: Path, space: int) -> None:
    """Make sure, before any painting, that a file of `space` bytes can be put into a folder, by starting one.

    Raises: BadOutput if the folder is missing, not a folder, or not writable; DiskFull.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        hint = "name a folder" if folder.exists() else f"create it: mkdir -p {shlex.quote(str(folder))}"
        raise BadOutput(f"the output folder {what}", where=str(folder), hint=hint)
    with _temporary(folder, b""):
        pass
    if shutil.disk_usage(folder).free < space:
        hint = "make room, or choose another folder with --out"
        raise DiskFull(f"less than {space} bytes are free", where=str(folder), hint=hint)


def check_file(path: Path, *, force: bool) -> None:
    """Make sure, before any painting, that nothing stands where a file is to be written.

    Raises BadOutput for a folder, a device, or (without `force`) an existing file.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _output_error(error, path) from error
    if stat.S_ISDIR(mode):
        raise BadOutput("the output is a folder", where=str(path), hint="name a file, or use --out for a folder")
    if not stat.S_ISREG(mode):
        raise BadOutput("the output is not a regular file", where=str(path), hint="use -o - to write to a pipe")
    if not force:
        raise BadOutput(
            "the file exists already", where=str(path), hint="choose another name, or replace it with --force"
        )


def publish(path: Path, data: bytes, *, force: bool) -> Path:
    """Make `data` visible under `path`, whole or not at all, even through a kill or a power failure.

    The bytes are on the disk before the name is. Without `force` an existing file is never replaced, not even one that
    appears in this very moment. Raises BadOutput or DiskFull; what stood there before still stands.
    """
    check_file(path, force=force)
    # A link would be replaced by the rename: what it points to is meant.
    target = path.resolve() if path.is_symlink() else path
    with _temporary(target.parent, data) as temporary:
        try:
            if force:
                temporary.replace(target)
            else:
                _land(temporary, target)
        except FileExistsError as error:
            hint = "choose another name, or replace it with --force"
            raise BadOutput("the file exists already", where=str(path), hint=hint) from error
        except OSError as error:
            raise _output_error(error, path) from error
        _sync_folder(target.parent)
    return path


def publish_new(folder: Path, name: str, data: bytes) -> Path:
    """Like `publish`, under a name that was free: `name`, else with -2, -3, … before the suffix."""
    stem, suffix = Path(name).stem, Path(name).suffix
    with _temporary(folder, data) as temporary:
        number = 1
        while True:
            path = folder / (name if number == 1 else f"{stem}-{number}{suffix}")
            try:
                _land(temporary, path)
            except FileExistsError:
                number += 1
                continue
            except OSError as error:
                raise _output_error(error, path) from error
            _sync_folder(folder)
            return path


@contextlib.contextmanager
def _temporary(folder: Path, data: bytes) -> Iterator[Path]:
    """A hidden file holding `data`, safely on the disk; removed at the end unless it was renamed."""
    path = folder / f".dalle-{secrets.token_hex(8)}.tmp"
    try:
        # 0o666 and not mkstemp's 0o600: the umask decides who may read a picture.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise _output_error(error, folder) from error
    try:
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _output_error(error, folder) from error
        yield path
    finally:
        with contextlib.suppress(OSError):  # what matters has been said, or is there
            path.unlink(missing_ok=True)


def _land(temporary: Path, target: Path) -> None:
    """Give a finished file its name. Raises FileExistsError if the name is taken; never replaces."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        # FAT and some network file systems have no hard links: claim the name first, then fill it.
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    """Write down the new name itself. Where a folder cannot be synced (Windows, some mounts) there is nothing to do."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Inside, what the system says about a file that is written becomes BadOutput or DiskFull."""
    try:
        yield
    except OSError as error:
        raise _output_error(error, path) from error


def _output_error(error: OSError, path: Path) -> BadOutput | DiskFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull("the disk is full", where=str(path), hint="make room; nothing was half-written")
    reason = error.strerror if error.strerror is not None else str(error)
    return BadOutput(f"cannot write here: {reason}", where=str(path), hint="choose another place with -o or --out")


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


@contextlib.contextmanager
def opened(source: Path | BinaryIO, where: str) -> Iterator[ImageFile.ImageFile]:
    """A PNG, JPEG or WebP file, its header read and its pixels not.

    What goes wrong inside of the `with` block, where Pillow decodes the pixels, also becomes a BadPicture with the
    reason; `where` is what it calls the file.
    """
    try:
        if isinstance(source, Path):
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):
                raise BadPicture("this is not a file", where=where)
            if status.st_size > FILE_BYTES:
                raise BadPicture(f"the file has {status.st_size} bytes, the limit is {FILE_BYTES}", where=where)
        with warnings.catch_warnings():
            # Pillow also reports damaged metadata to standard error; what matters comes out as an exception.
            warnings.simplefilter("ignore")
            with Image.open(source, formats=[format.upper() for format in FORMATS]) as image:
                yield image
    except Image.DecompressionBombError as error:
        raise BadPicture("the picture has far too many pixels", where=where) from error
    except UnidentifiedImageError as error:
        raise BadPicture("this is not a PNG, JPEG or WebP picture", where=where) from error
    except (OSError, *DECODER_ERRORS) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror is not None else str(error)
        raise BadPicture(f"the picture cannot be read: {reason}", where=where) from error
