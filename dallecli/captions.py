"""Cleans a prompt as DeepFloyd cleaned the captions that IF was trained with, and finds what of it was typed.

The captions came from web pages and shops. So what goes are addresses, markup, nicknames, file names, article numbers,
Chinese characters, and what shops say of shipping; dashes and quotes become the plain ones. The published pipelines
(diffusers' `IFPipeline`, by default) do it twice, because one rule may uncover what an earlier one is for. So do we.
"""

import html
import re
from html.parser import HTMLParser
from typing import Final
from urllib.parse import unquote_plus

from dallecli.cleaning import mended
from dallecli.limits import CAPTION_CHARACTERS

Rule = tuple[re.Pattern[str], str]
"""What is replaced, and by what."""

_DOMAINS: Final = "com|co|ru|net|org|edu|gov|it"
_FILES: Final = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"


def clean_caption(text: str) -> str:
    """A prompt as IF's text tower reads it: of one that is longer than `CAPTION_CHARACTERS` the beginning."""
    return _cleaned(_cleaned(text[:CAPTION_CHARACTERS]))


def typed_end(typed: str, end: str) -> str:
    """The end of what was typed that is not read: what became the `end` of the clean text, and what was not looked at.

    Where cleaning did more than case, it begins as it was cleaned.
    """
    looked_at, left = typed[:CAPTION_CHARACTERS].strip(), typed[CAPTION_CHARACTERS:]
    if end and looked_at.lower().endswith(end) and len(looked_at.lower()) == len(looked_at):
        end = looked_at[-len(end) :]
    gap = " " if left and typed[CAPTION_CHARACTERS - 1].isspace() else ""
    return f"{end}{gap}{left}".strip()


def _cleaned(text: str) -> str:
    text = unquote_plus(text).strip().lower().replace("<person>", "person")
    text = _applied(_ADDRESSES, text)
    text = _applied(_CHARACTERS, text_of(text))
    if len(re.findall("[-_]", text)) > 3:  # this-is-the-name-of-a-file
        text = re.sub("[-_]", " ", text)
    return _applied(_PHRASES, mended(text)).strip()


def _applied(rules: tuple[Rule, ...], text: str) -> str:
    for pattern, becomes in rules:
        text = pattern.sub(becomes, text)
    return text


def _rules(*rules: tuple[str, str]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), becomes) for pattern, becomes in rules)


def _address(scheme: str) -> str:
    """Of an address with a scheme its beginning, of one without all of it, unless it is that of a mailbox."""
    site = rf"[a-zA-Z0-9.\-]+\.(?:{_DOMAINS})[\w/-]*\b/?(?!@)"
    return rf"\b(?:{scheme}:(?:/{{1,3}}|[a-zA-Z0-9%])|{site})"


_ADDRESSES: Final = _rules((_address("https?"), ""), (_address("www"), ""))

_DASHES: Final = (
    "\\-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40"
    "\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d"
)

_CHARACTERS: Final = _rules(
    (r"@\w+\b", ""),
    # strokes, phonetic and enclosed characters, ideographs with their first extension, and hexagrams
    ("[\u31c0-\u31ef\u31f0-\u31ff\u3200-\u32ff\u3300-\u33ff\u3400-\u4dbf\u4dc0-\u4dff\u4e00-\u9fff]", ""),
    (f"[{_DASHES}]+", "-"),
    ("[`´«»“”¨]", '"'),
    ("[‘’]", "'"),
    ("&quot;?", ""),
    ("&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # of a computer
    (r"\d:\d\d\s+$", ""),  # of an article
    (r"\\n", " "),  # a line's end that was spelled out
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"\S+\.(?:{_FILES})", ""),
    ("[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*]+", " "),
    (r"\s+\.\s+", " "),
)

_PHRASES: Final = _rules(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # ab1234
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),  # ab12cd
    (r"\b\d+[a-zA-Z]+\d+\b", ""),  # 12ab34
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_FILES})(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),  # a1b2c3
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # 10x15; one of these is Cyrillic
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    ("^['_,\\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),
)


def text_of(markup: str) -> str:
    """What is read of a text with HTML in it: as Beautiful Soup understands it with Python's own parser.

    What that parser gives up on stays as it is.
    """
    if not re.search("[<&]", markup):
        return _collapsed(markup)
    reader = _TextReader()
    try:
        reader.feed(markup)
        reader.close()
    except AssertionError:  # of a declaration that is none
        return markup
    return reader.text()


_SPACES: Final = " \n\t\f\r"

_VOID: Final = frozenset({
    "area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "image", "img", "input",
    "isindex", "keygen", "link", "menuitem", "meta", "nextid", "param", "source", "spacer", "track", "wbr",
})  # fmt: skip
"""Elements without an end tag."""

_UNREAD: Final = frozenset(("rp", "rt", "script", "style", "template"))
"""Elements whose text is no part of the text around them."""

_KEPT: Final = frozenset(("pre", "textarea"))
"""Elements in which spaces are kept."""


class _TextReader(HTMLParser):
    """Collects the text of a document."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self._read: list[str] = []
        self._data: list[str] = []
        self._open: list[str] = []
        self._closed: list[str] = []
        """Elements that were closed without an end tag: one that comes later is passed over."""

    def text(self) -> str:
        """All that was read."""
        self._end_data()
        return "".join(self._read)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_data()
        if tag in _VOID:
            self._closed.append(tag)
        else:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_data()

    def handle_endtag(self, tag: str) -> None:
        if tag in self._closed:
            self._closed.remove(tag)
            return
        self._end_data()
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self._data.append(data)

    def handle_charref(self, name: str) -> None:
        self._data.append(_numbered(name))

    def handle_entityref(self, name: str) -> None:
        entities = html.entities.html5  # type: ignore[attr-defined]  # html.parser imports it
        self._data.append(entities.get(f"{name};", entities.get(name, f"&{name}")))

    def handle_comment(self, data: str) -> None:
        self._end_data()

    def handle_decl(self, decl: str) -> None:
        self._end_data()

    def handle_pi(self, data: str) -> None:
        self._end_data()

    def unknown_decl(self, data: str) -> None:
        self._end_data()
        if data.upper().startswith("CDATA["):
            self._read.append(self._spaced(data[len("CDATA[") :]))

    def _end_data(self) -> None:
        if self._data and not _UNREAD & set(self._open):
            self._read.append(self._spaced("".join(self._data)))
        self._data.clear()

    def _spaced(self, data: str) -> str:
        return data if _KEPT & set(self._open) else _collapsed(data)


def _collapsed(data: str) -> str:
    """A text; of one of nothing but spaces a single one, or a line's end."""
    if not data or data.strip(_SPACES):
        return data
    return "\n" if "\n" in data else " "


def _numbered(name: str) -> str:
    """The character that a reference such as `#233` or `#xe9` means, and what stands behind its number."""
    base, digits = (16, "[0-9a-f]+") if name[:1] in ("x", "X") else (10, "[0-9]+")
    name = name[1:] if base == 16 else name
    match = re.match(digits, name, re.ASCII | re.IGNORECASE)
    if match is None:
        return name
    number = int(match[0], base) if len(match[0].lstrip("0")) < 9 else 0
    rest = name[match.end() :]
    if not 0 < number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return f"\N{REPLACEMENT CHARACTER}{rest}"
    if 0x80 <= number <= 0x9F:  # meant as Windows has them
        return (bytes([number]).decode("cp1252", "ignore") or chr(number)) + rest
    return chr(number) + rest
