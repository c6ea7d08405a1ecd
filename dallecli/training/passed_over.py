"""Files that look like training data, and are of kinds that are not read: they are named, not passed over."""

from pathlib import PurePath
from typing import Final

_PICTURES: Final = frozenset(
    (
        *(".apng", ".avif", ".avifs", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".eps", ".exr", ".gif", ".heic", ".heif"),
        *(".ico", ".j2k", ".jfi", ".jif", ".jp2", ".jpf", ".jpx", ".jxl", ".nef", ".orf", ".pbm", ".pcx", ".pgm"),
        *(".pnm", ".ppm", ".psd", ".raf", ".arw", ".raw", ".rw2", ".svg", ".svgz", ".tga", ".tif", ".tiff", ".xcf"),
    )
)
_PACKED: Final = {
    **dict.fromkeys((".gz", ".tgz"), "gunzip"),
    **dict.fromkeys((".bz2", ".tbz", ".tbz2"), "bunzip2"),
    **dict.fromkeys((".xz", ".txz"), "unxz"),
    **dict.fromkeys((".zst", ".tzst"), "unzstd"),
    **dict.fromkeys((".zip",), "unzip"),
    **dict.fromkeys((".7z",), "7z x"),
    **dict.fromkeys((".rar",), "unrar x"),
}
_TABLES: Final = frozenset((".parquet", ".arrow", ".tsv", ".ndjson", ".xlsx", ".ods"))


def passed_over(name: str) -> tuple[str, str] | None:
    """The kind of fault that a file of this name is, and why; None for what nobody would train on."""
    path = PurePath(name.lower())
    if path.suffix in _PICTURES:
        return "pictures of formats that are not read", "it is neither a PNG, nor a JPEG, nor a WebP: convert it"
    if path.suffix in _PACKED:
        return "packed files", f"it is compressed: {_PACKED[path.suffix]} it first"
    if path.suffix in _TABLES or path.name == "metadata.json":
        return "tables that are not read", "captions are read from metadata.jsonl or metadata.csv"
    return None
