"""Titles become file names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallecli.pictures.names import file_name, slug


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red fox", "a-red-fox-7.png"),
        ("  A Red  FOX!! ", "a-red-fox-7.png"),
        ("../../etc/passwd", "etc-passwd-7.png"),
        ("-rf /", "rf-7.png"),
        ("CON", "con-7.png"),
        ("🦊🦊", "picture-7.png"),
        ("Bär im Schnee", "bär-im-schnee-7.png"),
        ("Ba\u0308r", "bär-7.png"),
        ("森の中の狐", "森の中の狐-7.png"),
        ("\u202egnp.exe\x1b[31m", "gnp-exe-31m-7.png"),
        ("\u0308x", "x-7.png"),
        ("\u3164\u2800", "picture-7.png"),
        ("a\u115fcat", "a-cat-7.png"),
    ],
)
def test_names_hold_letters_and_digits_only(prompt, name):
    assert file_name(prompt, 7, ".png") == name


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])), st.integers(0, 2**63 - 1))
def test_any_prompt_gives_a_name_that_file_systems_take(prompt, seed):
    name = file_name(prompt, seed, ".jpg", "-grid")
    assert len(name.encode()) <= 200  # leaves room for a number within the usual 255
    assert name.endswith(f"-{seed}-grid.jpg")
    assert not name.startswith((".", "-"))
    assert not any(char in name for char in '/\\:*?"<>|\0\n ')


def test_a_long_name_ends_with_a_whole_word():
    name = file_name("wonderful " * 30, 7, ".png")
    assert name.removesuffix("-7.png").split("-") == ["wonderful"] * 12


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_an_ascii_title_is_named_as_if_it_stood_beside_other_letters(title):
    assert slug(f"{title} é") == (slug(title) + "-é" if any(char.isalnum() for char in title) else "é")
