"""Makes text from outside harmless for a terminal: prompts, file names, metadata, messages of other programs.

A terminal obeys what it is sent, so every string that dalle did not write itself goes through `safe` first.
"""

import unicodedata

# C0 controls and DEL get the caret notation that terminals themselves use (ESC is ^[); the rest a visible \u form.
_CARET = {code: f"^{chr(code ^ 0x40)}" for code in (*range(0x20), 0x7F)}

# Cf: bidi marks and overrides, zero-width characters, tags. Cc: C1 (0x9b alone starts a control sequence). Cs: lone
# surrogates, which cannot even be encoded. Co, Cn: no agreed look. Zl, Zp: they break the line in some terminals.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Letters and marks that are drawn as nothing, so that two names can look the same: those of Unicode's
# Default_Ignorable_Code_Point that are in none of these categories, and the signs that are blank by their design.
_BLANK = frozenset(
    {
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
        *(0x2800, 0x16FE4, 0x1D159),
    }
)


def safe(text: str, limit: int | None = 400) -> str:
    """The text as one line without control characters and invisible letters, cut after `limit` characters.

    A limit of None does not cut. Idempotent on text without controls. A line break becomes `^J`, so the result never
    spans lines.
    """
    cut = limit is not None and len(text) > limit
    shown = "".join(_visible(char) for char in (text[:limit] if cut else text))
    return f"{shown}… ({len(text)} characters)" if cut else shown


def is_hidden(char: str) -> bool:
    """Whether a character is drawn as nothing, or changes how others are drawn; a blank is neither."""
    return ord(char) in _BLANK or unicodedata.category(char) in _HIDDEN


def _visible(char: str) -> str:
    code = ord(char)
    if code in _CARET:
        return _CARET[code]
    if is_hidden(char):
        return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
    return char
