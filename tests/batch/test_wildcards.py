"""Sentences with choices."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dallecli.batch.wildcards import DEPTH, Wildcards, escaped
from dallecli.errors import BadSetting

NOWHERE = Wildcards(Path("/nonexistent"))


def every(sentence: str, wildcards: Wildcards = NOWHERE) -> list[str]:
    return list(wildcards.template(sentence).every())


@pytest.mark.parametrize(
    ("sentence", "sentences"),
    [
        ("a fox", ["a fox"]),
        ("a {red|blue} car", ["a red car", "a blue car"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("a {red|{dark|light} blue} car", ["a red car", "a dark blue car", "a light blue car"]),
        ("a {|big }dog", ["a dog", "a big dog"]),
        ("just {braces}", ["just {braces}"]),
        ("{in {a|b} them}", ["{in a them}", "{in b them}"]),
        ("a | b", ["a | b"]),
        ("{open|never closed", ["{open|never closed"]),
        ("closed|}", ["closed|}"]),
        (r"\{red|blue}", ["{red|blue}"]),
        (r"{a\|b|c}", ["a|b", "c"]),
        (r"\__init__.py", ["__init__.py"]),
        ("snake_case and __ and ___", ["snake_case and __ and ___"]),
        (r"C:\dir \\ \x", [r"C:\dir \\ \x"]),
    ],
)
def test_a_sentence_stands_for_these(sentence, sentences):
    template = NOWHERE.template(sentence)
    assert list(template.every()) == sentences
    assert template.count == len(sentences)
    assert template.open == (len(sentences) > 1)
    assert {template.chosen(seed) for seed in range(64)} == set(sentences)


def test_lists_have_a_choice_a_line(tmp_path):
    (tmp_path / "colour.txt").write_text("# warm\nred\n\n{dark|light} orange\n", encoding="utf-8")
    (tmp_path / "thing.txt").write_text("__colour__ car\ntree\n", encoding="utf-8")
    sentences = ["red car", "dark orange car", "light orange car", "tree"]
    assert every("a __thing__", Wildcards(tmp_path)) == [f"a {sentence}" for sentence in sentences]


def test_a_list_that_contains_itself_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("__b__", encoding="utf-8")
    (tmp_path / "b.txt").write_text("__a__", encoding="utf-8")
    with pytest.raises(BadSetting, match="the list a contains itself: a > b > a"):
        every("__a__", Wildcards(tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"\xff", "not UTF-8"), (b"# nothing\n", "the list of __a__ is empty")],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadSetting, match=reason):
        every("__a__", Wildcards(tmp_path))


def test_no_name_of_a_list_leads_out_of_its_folder(tmp_path):
    for name in ("../secret", "/etc/passwd", "..", "a/b", "a\0b"):
        assert every(f"__{name}__", Wildcards(tmp_path)) == [f"__{name}__"]


def test_too_many_sentences_and_too_deep_ones_are_refused():
    with pytest.raises(BadSetting, match="make 1048576 sentences"):
        NOWHERE.template("{a|b}" * 20)
    with pytest.raises(BadSetting, match="deep"):
        NOWHERE.template("{a|" * (DEPTH + 1) + "}" * (DEPTH + 1))


def test_what_is_chosen_depends_on_the_seed_alone():
    # These very words, in every version: rerunning a file must not change its pictures.
    template = NOWHERE.template("{a|b|c|d} {e|f|g|h}")
    assert [template.chosen(seed) for seed in range(4)] == [template.chosen(seed) for seed in range(4)]
    assert len({template.chosen(seed) for seed in range(200)}) == 16


@given(st.text(alphabet="a{|}_\\ é\U0001f98a"))
def test_an_escaped_sentence_stands_for_itself(sentence):
    template = NOWHERE.template(escaped(sentence))
    assert list(template.every()) == [sentence]
    assert not template.open


@given(st.text(alphabet="ab{|}\\ "))
def test_any_text_is_a_template(sentence):
    try:
        template = NOWHERE.template(sentence)
    except BadSetting:
        return
    assert template.chosen(3) in set(template.every())
