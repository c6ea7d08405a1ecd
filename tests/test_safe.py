"""Nothing that a terminal obeys comes out of `safe`."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallecli.safe import safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red fox", "a red fox"),
        ("[/oops] [bold]", "[/oops] [bold]"),
        ("\x1b[31mred", "^[[31mred"),
        ("bell\x07", "bell^G"),
        ("\x7f", "^?"),
        ("\x9b31m", "\\u009b31m"),
        ("line\nbreak", "line^Jbreak"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ufeffBOM", "\\ufeffBOM"),
        ("tag \U000e0041", "tag \\U000e0041"),
        ("\udcff", "\\udcff"),
        ("a\u3164b", "a\\u3164b"),
        ("heart \u2764\ufe0f", "heart \u2764\\ufe0f"),
        ("cat\U000e0101.png", "cat\\U000e0101.png"),
        ("e\u0301 \u0e33 \u0902", "e\u0301 \u0e33 \u0902"),
        ("Bär 森 🦊", "Bär 森 🦊"),
    ],
)
def test_controls_become_visible_and_text_stays(text, shown):
    assert safe(text) == shown


def test_long_text_is_cut_and_says_so():
    shown = safe("x" * 1000, limit=10)
    assert shown == "xxxxxxxxxx… (1000 characters)"


@given(st.text(alphabet=st.characters()))
def test_no_control_of_any_kind_gets_through(text):
    shown = safe(text, limit=None)
    assert all(unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for char in shown)
    shown.encode("utf-8")
    assert safe(shown, limit=None) == shown


# DerivedCoreProperties.txt of Unicode 16, Default_Ignorable_Code_Point.
IGNORABLE = [
    *(0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010)),
    *(*range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0),
    *(*range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
]
BLANK = [0x2800, 0x16FE4, 0x1D159]


def test_letters_that_are_drawn_as_nothing_become_visible():
    passed = [hex(code) for code in (*IGNORABLE, *BLANK) if safe(chr(code)) == chr(code)]
    assert passed == []
