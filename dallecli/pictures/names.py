"""What files are called: after the title and the seed of what is in them."""

import unicodedata
from typing import Final

_SLUG_BYTES: Final = 120


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
