"""Cleans a prompt as CLIP's training did, and finds where a character of the clean text was typed.

The towers of all published families were trained by openai/CLIP's code or by OpenCLIP's. Both repair text that was
decoded wrongly and straighten quotes with `ftfy`, resolve HTML's entities twice, because captions from the web are
often escaped twice, and then write everything small. A phone's ’ is the apostrophe of "it's" to them.
"""

import html
import re
import unicodedata
from typing import Final

_CLEAN: Final = re.compile(r"[\t\n\r -%'-~]*")
"""Texts of which nothing is cleaned: printable ASCII without "&"."""


def clean(text: str) -> str:
    """A prompt as CLIP's tokenizer reads it. What is clean already is returned as it is, capitals included.

    Lower case is part of it for all other texts, because a small Σ at the end of a word is ς in Python's rule only.
    """
    return text if _CLEAN.fullmatch(text) else mended(text).strip().lower()


def mended(text: str) -> str:
    """A text as it was meant where it was decoded wrongly or escaped, even twice; what is not, is returned as it is."""
    if _CLEAN.fullmatch(text):
        return text
    from ftfy import fix_text  # 0.15 s, and few prompts need it

    return html.unescape(html.unescape(fix_text(text)))


def is_rewritten(text: str) -> bool:
    """Whether `clean` changes more than case, white space and how accents are composed."""
    return _words(clean(text)) != _words(text)


def typed_at(typed: str, read: str, place: int) -> int:
    """Where in `typed` the character `place` of `read` was typed; `read` is `clean(typed)`.

    Exact where cleaning keeps the number of characters of the word; otherwise it may be the beginning of the word.
    """
    if typed == read:
        return place
    heard = [word for word in re.finditer(r"\S+", read) if word.start() <= place]
    left = len(heard) - 1
    for word in re.finditer(r"\S+", typed):
        pieces = clean(word.group()).split()
        if left < len(pieces):
            inside = place - heard[-1].start()
            return word.start() + (_inside(word.group(), pieces[0], inside) if len(pieces) == 1 else 0)
        left -= len(pieces)
    return len(typed)


def _inside(typed: str, read: str, place: int) -> int:
    """`typed_at` within a word."""
    if len(typed) == len(read):
        return place
    from difflib import SequenceMatcher

    # Only as much as can belong to `place`: an entity has a dozen characters. Comparing costs their product.
    heads = typed.lower()[: 12 * place + 12], read[: place + 12]
    for tag, start, end, read_start, read_end in SequenceMatcher(None, *heads, autojunk=False).get_opcodes():
        if read_start <= place < read_end:
            return start + (place - read_start if tag == "equal" or end - start == read_end - read_start else 0)
    return 0


def _words(text: str) -> list[str]:
    return unicodedata.normalize("NFC", text).lower().split()
