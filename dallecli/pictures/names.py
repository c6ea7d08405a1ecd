"""The names of new files, made from a title and a seed."""

import re
import unicodedata
from typing import Final

from dallecli.safe import is_hidden

_SLUG_BYTES: Final = 120
_ASCII_WORD: Final = re.compile("[a-z0-9]+")  # nearly all titles: a batch names millions


def file_name(title: str, seed: int, suffix: str, ending: str = "") -> str:
    """A file name of at most 255 bytes: letters and digits of any script from the title, the seed, ending and suffix.

    Two titles may get the same name; `publish_new` keeps their files apart.
    """
    return f"{slug(title)}-{seed}{ending}{suffix}"


def slug(title: str) -> str:
    """The letters and digits of a title, with hyphens between, at most 120 bytes; "picture" if there are none."""
    whole = "-".join(_ASCII_WORD.findall(title.lower()) if title.isascii() else _words(title))
    cut = whole.encode()[:_SLUG_BYTES].decode(errors="ignore")
    if len(cut) < len(whole) and "-" in cut:
        cut = cut[: cut.rindex("-")]
    return cut if cut else "picture"


def _words(title: str) -> list[str]:
    kept = "".join(
        char if unicodedata.category(char)[0] in "LMN" and not is_hidden(char) else "-"
        for char in unicodedata.normalize("NFC", title)
    )
    words = [
        word.lstrip("".join(char for char in word if unicodedata.category(char)[0] == "M"))
        for word in kept.lower().split("-")
    ]
    return [word for word in words if word]
