"""What a request is made from, besides numbers: words, or the bytes of a file that holds a picture or an embedding.

The kind of a file is what its first bytes say, never what its name ends in. The bytes travel inside the request, so
that it can be painted on another machine; a recipe keeps their name and sha256, by which `locate` finds them again.
"""

import base64
import hashlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Final, Literal, Self, cast, get_args

from dallecli.errors import BadInput, BadPicture, BadRecipe, PromptError, reason
from dallecli.fields import Fields
from dallecli.limits import PICTURE_BYTES, open_stream, read_file, read_stream

log = logging.getLogger(__name__)

SourceKind = Literal["text", "picture", "embedding"]

EMBEDDED_BYTES: Final = 8192
"""An embedding whose file is no larger than this is kept inside a recipe; one with its noise is larger."""

STDIN: Final = "-"

PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
EMBEDDING_SUFFIX: Final = ".safetensors"

TEXT_SUFFIXES: Final = (".txt", ".jsonl", ".ndjson", ".csv", ".tsv", ".json")
"""Of files of sentences."""

# Suffixes of files that people try; with one of them an argument is never taken for a sentence.
_FILE_SUFFIXES = (
    *TEXT_SUFFIXES,
    *PICTURE_SUFFIXES,
    EMBEDDING_SUFFIX,
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".heic",
    ".avif",
    ".svg",
    ".pt",
)


@dataclass(frozen=True, slots=True)
class _Stranger:
    """A well-known kind of file that is not read, and the command that makes a PNG of it, if there is one.

    In the command, {file} stands for the file, {first} for its first frame, page or layer, {png} for the new file and
    {stem} for that without its suffix; all are quoted.
    """

    name: str
    command: str | None = None


_MAGICK: Final = "magick {first} {png}"
_HEIF: Final = _Stranger("a HEIC picture", "heif-convert {file} {png}")
_VIDEO: Final = _Stranger("a video", "ffmpeg -i {file} -frames:v 1 {png}")
_JXL: Final = _Stranger("a JPEG XL picture", "djxl {file} {png}")
_JP2: Final = _Stranger("a JPEG 2000 picture", "opj_decompress -i {file} -o {png}")
_SVG: Final = _Stranger("an SVG drawing", "rsvg-convert {file} -o {png}")
_TIFF: Final = _Stranger("a TIFF picture", _MAGICK)
_AVIF: Final = _Stranger("an AVIF picture", _MAGICK)
_PAGE: Final = _Stranger("a web page")

# The first bytes of other well-known files, so that a refusal can say what the file is. Of the brands of ISO files
# (ftyp) there are those of ISO/IEC 23008-12 and of AV1.
_STRANGERS: Final = (
    (0, b"GIF8", _Stranger("a GIF", _MAGICK)),
    (0, b"BM", _Stranger("a BMP picture", _MAGICK)),
    (0, b"II*\0", _TIFF),
    (0, b"MM\0*", _TIFF),
    (0, b"II+\0", _TIFF),
    (0, b"MM\0+", _TIFF),
    (0, b"8BPS", _Stranger("a Photoshop document", _MAGICK)),
    *((4, b"ftyp" + brand, _HEIF) for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")),
    *((4, b"ftyp" + brand, _Stranger("a HEIF picture", _HEIF.command)) for brand in (b"mif1", b"msf1")),
    *((4, b"ftyp" + brand, _AVIF) for brand in (b"avif", b"avis")),
    (4, b"ftypjp2", _JP2),
    (4, b"ftypqt", _VIDEO),
    (4, b"ftyp", _VIDEO),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (0, b"\xff\x0a", _JXL),
    (0, b"\0\0\0\x0cJXL ", _JXL),
    (0, b"\0\0\0\x0cjP  ", _JP2),
    (0, b"\xff\x4f\xff\x51", _JP2),
    (0, b"%PDF", _Stranger("a PDF", "pdftoppm -png -singlefile {file} {stem}")),
    (0, b"%!PS", _Stranger("a PostScript document", _MAGICK)),
    (0, b"\0\0\1\0", _Stranger("an icon", _MAGICK)),
    (0, b"<!DOCTYPE", _PAGE),
    (0, b"<!doctype", _PAGE),
    (0, b"<html", _PAGE),
    (0, b"<?xml", _Stranger("an XML file")),
    (0, b"PK\x03\x04", _Stranger("a ZIP archive, perhaps with pickled code")),
    (0, b"\x80\x02", _Stranger("a pickle")),
    (0, b"version https://git-lfs", _Stranger("a Git LFS pointer, not the file itself")),
)

_SVG_WITHIN: Final = 4096
"""So many bytes of an XML file may stand before `<svg`: comments, and a document type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One input."""

    kind: SourceKind
    name: str
    """The words themselves, or the file's path as it was given; "-" is standard input."""
    sha256: str | None = None
    """Of the file's bytes, in hex; None for words."""
    data: bytes | None = field(default=None, repr=False, compare=False)
    """The file's bytes. None for words, and for a source read from a recipe until `locate` has found it."""

    @property
    def where(self) -> str:
        """What errors call it."""
        return _shown(self.name)

    def recorded(self) -> "Source":
        """The same source as a recipe records it: of a path outside the working folder only the last name is kept.

        Pictures are passed on, and the names of folders can be private.
        """
        path = PurePath(self.name)
        if self.kind == "text" or not (path.is_absolute() or ".." in path.parts):
            return self
        return replace(self, name=path.name)

    def described(self) -> str:
        """How it is shown to a person: the words, or the file and the beginning of its sha256."""
        if self.kind == "text":
            return f'the words "{self.name}"'
        return f"{self.where} (sha256 {self.sha256[:12]}…)" if self.sha256 is not None else self.where

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        facts: dict[str, Any] = {"kind": self.kind, "name": self.name, "sha256": self.sha256}
        # What came through a pipe cannot be found again.
        if self.kind == "embedding" and self.data is not None and len(self.data) <= EMBEDDED_BYTES:
            facts["data"] = base64.b64encode(self.data).decode("ascii")
        return facts

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """What `to_dict` gave. Raises BadRecipe."""
        kind = cast(SourceKind, fields.choice("kind", get_args(SourceKind)))
        source = cls(kind=kind, name=fields.text("name"), sha256=fields.text("sha256", optional=True))
        if (source.sha256 is None) != (kind == "text"):
            raise BadRecipe(f"a {kind} in a recipe has {'no' if source.sha256 is None else 'a'} sha256")
        if kind == "embedding" and "data" in fields:
            source = replace(source, data=_decoded(fields.text("data"), source.sha256))
        fields.finish()
        return source


def _decoded(text: str, sha256: str | None) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BadRecipe("an embedding in the recipe is not base64") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadRecipe("an embedding in the recipe is not what its sha256 says")
    return data


def words(text: str) -> Source:
    """Words as a source."""
    return Source(kind="text", name=text)


def read_source(path: str) -> Source:
    """Read a file, or standard input for "-", and tell a picture from an embedding by its first bytes.

    Pipes and process substitutions are read to their end.

    Raises:
        BadInput: there is no such file, it cannot be read, or is larger than `PICTURE_BYTES`.
        BadPicture: it is neither a PNG, JPEG or WebP picture nor a safetensors file.
    """
    data = _read(path)
    kind = _kind(data)
    if kind is None:
        raise not_a_picture(data, path)
    return Source(kind=kind, name=path, sha256=hashlib.sha256(data).hexdigest(), data=data)


def check_no_file(text: str) -> None:
    """Refuse a file's name where words are expected: it would be painted. Raises PromptError."""
    name = text.strip()
    looks = name.lower().endswith(_FILE_SUFFIXES)
    try:
        there = (looks or "/" in name or "." in name) and _path(name).is_file()
    except (OSError, ValueError, RuntimeError):  # longer than any name, or with what no name can have
        there = False
    if not there and (not looks or " " in name or "\n" in name):
        return
    what = "is a file, and not a sentence" if there else "looks like a file, and there is none of this name"
    if name.lower().endswith(PICTURE_SUFFIXES):
        hint = f"dalle vary {shlex.quote(name)}, or --init {shlex.quote(name)}"
    else:
        hint = f'its lines: dalle generate --prompts {shlex.quote(name)}; its words: "$(cat {shlex.quote(name)})"'
    raise PromptError(f"{name!r} {what}", hint=hint)


def read_source_or_words(argument: str) -> Source:
    """A file where there is one of this name, else words.

    What looks like a file (`./x`, `~/x`, a picture's suffix) is never taken for words, so a mistyped name is an error.

    Raises: as `read_source`.
    """
    if argument == STDIN or _is_file(argument):
        return read_source(argument)
    with suppress(OSError, ValueError):
        if _is_folder(argument):
            log.warning("%r is taken for words, not for the folder of this name", argument)
    return words(argument)


def is_words(argument: str) -> bool:
    """Whether `read_source_or_words` takes an argument for words."""
    return argument != STDIN and not _is_file(argument)


def locate(source: Source, near: Path, places: Iterable[Path] = ()) -> Source:
    """Find the bytes of a recipe's input again, by their sha256.

    These are tried in order: the recorded path, the same name beside the picture `near`, and `places`, which are files,
    or folders of files. Words need no bytes.

    Raises:
        BadInput: the input is in none of them; the error says whether a file of its name has other content.
    """
    if source.kind == "text" or source.data is not None:
        return source
    changed: Path | None = None
    for path in _candidates(source, near, places):
        data = _read_quietly(path)
        if data is None:
            continue
        if hashlib.sha256(data).hexdigest() == source.sha256:
            return replace(source, data=data)
        if changed is None and path.name == PurePath(source.name).name:
            changed = path
    hint = "say where it is: --input FILE, or a folder"
    if changed is not None:
        raise BadInput(f"{source.where} has changed since this was made from it", where=str(changed), hint=hint)
    raise BadInput(f"the {source.kind} that this was made from is not here: {source.where}", where=str(near), hint=hint)


def _read(path: str) -> bytes:
    try:
        if path == STDIN:
            if sys.stdin is None:
                raise BadInput("standard input is closed", hint="name a file, or pipe one in")
            if sys.stdin.isatty():
                raise BadInput("standard input is a terminal", hint="name a file, or pipe one in")
            data = read_stream(sys.stdin.buffer, PICTURE_BYTES)
        else:
            with open_stream(_path(path)) as opened:
                data = read_stream(opened, PICTURE_BYTES)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(error, path) from error
    if not data:
        raise BadInput("the file is empty", where=_shown(path))
    return data


def _path(name: str) -> Path:
    return Path(name).expanduser() if name.startswith("~") else Path(name)


def _unreadable(error: Exception, path: str) -> BadInput:
    # Besides OSError, ValueError is a NUL in the name, RuntimeError an unknown ~user.
    hint = None
    if path.startswith(("http://", "https://")):
        hint = "nothing is downloaded: curl -sL URL | dalle … -"
    elif " " in path and isinstance(error, FileNotFoundError):
        hint = "a file name is expected here; dalle generate paints sentences"
    return BadInput(f"the file cannot be read: {reason(error)}", where=_shown(path), hint=hint)


def _shown(path: str) -> str:
    return "standard input" if path == STDIN else path


def _is_file(argument: str) -> bool:
    """Whether an argument names a file, or looks as if it was meant to."""
    if argument.startswith(("./", "../", "~", "/")) or argument.lower().endswith(_FILE_SUFFIXES):
        return True
    # Words may be longer than any name (ENAMETOOLONG) or hold what no name can.
    try:
        return os.path.lexists(argument) and not _is_folder(argument)
    except (OSError, ValueError):
        return False


def _is_folder(argument: str) -> bool:
    """Whether a plain word is the name of a folder, which is never an input. Raises OSError, ValueError."""
    return os.sep not in argument and Path(argument).is_dir()


def file_kind(data: bytes) -> str | None:
    """What a file is by its first bytes: a picture, an embedding, or another well-known one; None for text."""
    with suppress(UnicodeDecodeError):
        if b"\0" not in data and data.decode("utf-8"):
            return None
    kind = _kind(data)
    if kind is not None:
        return f"{'an' if kind == 'embedding' else 'a'} {kind}"
    return stranger_name(data)


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG or WebP picture."""
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def is_safetensors_head(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins so is a safetensors file."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _kind(data: bytes) -> SourceKind | None:
    if is_picture(data):
        return "picture"
    return "embedding" if is_safetensors_head(data, len(data)) else None


def not_a_picture(data: bytes, path: str) -> BadPicture:
    """The error about the bytes of a file that is no PNG, JPEG or WebP: what it is, and what makes a picture of it."""
    stranger = _stranger(data)
    what = "not a picture" if stranger is None else f"{stranger.name}, not a picture that can be read"
    return BadPicture(f"this is {what}", where=_shown(path), hint=_conversion(stranger, path))


def stranger_name(head: bytes) -> str | None:
    """What a well-known file is that begins so, and is no picture that can be read; None for any other."""
    stranger = _stranger(head)
    return stranger.name if stranger is not None else None


def _stranger(data: bytes) -> _Stranger | None:
    start = data[:_SVG_WITHIN].removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"<(svg|\?xml|!--|!DOCTYPE svg)", start) and re.search(rb"<svg[\s>]", start):
        return _SVG
    return next((kind for offset, magic, kind in _STRANGERS if data[offset : offset + len(magic)] == magic), None)


def _conversion(stranger: _Stranger | None, path: str) -> str:
    """The command that makes a picture of another format one that can be read."""
    if stranger is None or stranger.command is None:
        return "PNG, JPEG and WebP can be read"
    if path == STDIN:
        return f"{stranger.command.partition(' ')[0]} can convert it to PNG, in the pipe before"
    own = f"./{path}" if path.startswith("-") else path
    folder, slash, name = own.rpartition("/")
    stem = folder + slash + PurePath(name).stem
    names = {"file": own, "first": f"{own}[0]", "png": f"{stem}.png", "stem": stem}
    return "convert it: " + stranger.command.format(**{name: shlex.quote(text) for name, text in names.items()})


def _candidates(source: Source, near: Path, places: Iterable[Path]) -> Iterator[Path]:
    if source.name != STDIN:
        # A picture may come from a stranger: of a path that no recipe of ours has, only the last name is looked for.
        recorded = Path(source.recorded().name)
        yield recorded
        yield near.parent / recorded
        yield near.parent / recorded.name
        yield Path(recorded.name)
    for place in places:
        if place.is_dir():
            try:
                yield from sorted(place.iterdir())
            except OSError as error:
                raise BadInput(f"the folder cannot be read: {reason(error)}", where=str(place)) from error
        else:
            yield place


def _read_quietly(path: Path) -> bytes | None:
    """The bytes of a regular file that is small enough; a name in a recipe must not open a device or a pipe."""
    try:
        return read_file(path, PICTURE_BYTES)
    except (OSError, ValueError):
        return None
