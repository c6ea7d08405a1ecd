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
