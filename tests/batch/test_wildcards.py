"""Sentences with choices."""

import contextlib
import os
import re
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from fewer import fewer
from hypothesis import given
from hypothesis import strategies as st

from dallecli.batch.wildcards import DEPTH, Template, Wildcards, escaped
from dallecli.errors import BadSetting
from dallecli.limits import LIST_BYTES

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


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a/../b", "a//b", "a/", "a\0b", "a.b", "*", "a/*"])
def test_no_name_of_a_list_leads_out_of_its_folder(tmp_path, name):
    (tmp_path / "secret.txt").write_text("a key", encoding="utf-8")
    (tmp_path / "lists" / "a").mkdir(parents=True)
    template = Wildcards(tmp_path / "lists").template(f"see __{name}__")
    assert list(template.every()) == [f"see __{name}__"]
    assert len(template.doubts) == 1
    assert template.doubts[0].endswith("is painted as it stands: no list is called so")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("größe", "größe.txt"),
        ("größe", unicodedata.normalize("NFD", "größe.txt")),
        (unicodedata.normalize("NFD", "größe"), "größe.txt"),
        ("色", "色.txt"),
        ("रंग", "रंग.txt"),
        ("cars/colour", "cars/colour.txt"),
        ("a/b/c-d_e", "a/b/c-d_e.txt"),
    ],
)
def test_names_of_lists_have_letters_of_any_script_and_folders(tmp_path, name, file):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("red\nblue\n", encoding="utf-8")
    template = Wildcards(tmp_path).template(f"a __{name}__ car")
    assert (list(template.every()), template.doubts) == (["a red car", "a blue car"], ())


def shares(template: Template, seeds: int = 4000) -> dict[str, float]:
    """How often each sentence is chosen."""
    return {sentence: count / seeds for sentence, count in Counter(map(template.chosen, range(seeds))).items()}


@pytest.mark.parametrize(
    ("sentence", "wanted"),
    [
        ("{3::red|blue}", {"red": 3 / 4, "blue": 1 / 4}),
        ("{2::red|1::blue|green}", {"red": 1 / 2, "blue": 1 / 4, "green": 1 / 4}),
        ("{0.5::red|0.3::blue|0.2::green}", {"red": 0.5, "blue": 0.3, "green": 0.2}),
        ("{0::red|blue}", {"blue": 1.0}),
        ("{ 3::a {x|y}|b}", {"a x": 3 / 8, "a y": 3 / 8, "b": 1 / 4}),
        ("a __colour__", {"a red": 3 / 4, "a blue": 1 / 4}),
        ("{9::__colour__|green}", {"red": 27 / 40, "blue": 9 / 40, "green": 1 / 10}),
        ("{2$$a|b}", {"a, b": 1 / 2, "b, a": 1 / 2}),
        ("{1-2$$a|b}", {"a": 1 / 4, "b": 1 / 4, "a, b": 1 / 4, "b, a": 1 / 4}),
        (
            "{2$$98::a|1::b|1::c}",
            {"a, b": 0.49, "a, c": 0.49, "b, a": 0.0099, "c, a": 0.0099, "b, c": 1e-4, "c, b": 1e-4},
        ),
    ],
)
def test_weights_are_shares(tmp_path, sentence, wanted):
    (tmp_path / "colour.txt").write_text("3::red\nblue\n0::never\n", encoding="utf-8")
    template = Wildcards(tmp_path).template(sentence)
    found = shares(template)
    assert template.doubts == ()
    assert set(found) <= set(wanted) == set(template.every())
    assert {word: found.get(word, 0) for word in wanted} == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize(
    ("sentence", "sentences"),
    [
        ("{2$$a|b}", ["a, b", "b, a"]),
        ("{2$$a|b|c}", ["a, b", "a, c", "b, a", "b, c", "c, a", "c, b"]),
        ("{2$$ and $$a|b}", ["a and b", "b and a"]),
        ("{1-2$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{-2$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{1-$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{1-9$$a|b}", ["a", "b", "a, b", "b, a"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{1$$a|b}", ["a", "b"]),
        ("{2$$ a | {b|c} }", ["a, b", "a, c", "b, a", "c, a"]),
        ("x {2$$__colour__} y", ["x red, blue y", "x blue, red y"]),
        ("{2$$ + $$__colour__}", ["red + blue", "blue + red"]),
        ("{2$$a|__colour__}", ["a, red", "a, blue", "red, a", "blue, a"]),
        ("{{2$$a|b}|c}", ["a, b", "b, a", "c"]),
    ],
)
def test_several_choices_are_taken_and_none_twice(tmp_path, sentence, sentences):
    (tmp_path / "colour.txt").write_text("red\nblue\n", encoding="utf-8")
    template = Wildcards(tmp_path).template(sentence)
    assert (list(template.every()), template.count, template.doubts) == (sentences, len(sentences), ())
    assert {template.chosen(seed) for seed in range(200)} == set(sentences)


@pytest.mark.parametrize(
    ("sentence", "reason"),
    [
        ("{3$$a|b}", "{3$$a|b} takes 3 of 2 choices"),
        ("{2-1$$a|b}", "takes 2 of 2 choices"),
        ("{3$$__colour__}", "takes 3 of 2 choices"),
        ("{0::a|0::b}", "every weight of {0::a|0::b} is 0"),
        ("{9$$" + "|".join("abcdefghijkl") + "}", "sentences"),
    ],
)
def test_what_cannot_be_taken_is_refused(tmp_path, sentence, reason):
    (tmp_path / "colour.txt").write_text("red\nblue\n", encoding="utf-8")
    with pytest.raises(BadSetting, match=re.escape(reason)):
        Wildcards(tmp_path).template(sentence)


@pytest.mark.parametrize(
    ("sentence", "painted", "doubts"),
    [
        ("{open|never closed", "{open|never closed", ["{open|never closed", "never closed"]),
        ("closed|}", "closed|}", ["}", "closes nothing"]),
        ("just {braces}", "just {braces}", ["{braces}", "no bar"]),
        ("{2::red}", "{2::red}", ["{2::red}", "no bar"]),
        ("{2$$red}", "{2$$red}", ["{2$$red}", "no bar"]),
        ("${colour}", "${colour}", ["{colour}", "no bar"]),
        ("{a,b}", "{a,b}", ["{a,b}", "no bar"]),
        ("{two$$a|two$$a}", "two$$a", ["two$$", "no number of choices"]),
        ("{x::a|x::a}", "x::a", ["x::", "no weight"]),
        ("__colour*__", "__colour*__", ["__colour*__", "no list"]),
        ("__{a|a}__", "__a__", ["__{", "no list"]),
    ],
)
def test_what_means_nothing_is_painted_as_it_stands_and_said(sentence, painted, doubts):
    template = NOWHERE.template(sentence)
    assert template.chosen(0) == painted
    assert any(all(word in doubt for word in doubts) for doubt in template.doubts), template.doubts


@pytest.mark.parametrize(
    "sentence", ["a fox", r"\{a}", r"a \} b", r"\__x__", "snake_case __ and ___", "a | b", "x: y::z $$ 5"]
)
def test_what_is_plain_raises_no_doubts(sentence):
    assert NOWHERE.template(sentence).doubts == ()


def test_doubts_about_a_list_are_told_once(tmp_path):
    (tmp_path / "colour.txt").write_text("red\n{blue\n", encoding="utf-8")
    lists = Wildcards(tmp_path)
    told = [lists.template("a __colour__ car").doubts for _ in range(3)]
    assert told == [("in colour.txt: {blue is painted as it stands: the brace is never closed",), (), ()]


@pytest.mark.parametrize("kind", ["pipe", "folder", "large"])
def test_a_list_is_a_regular_file_of_a_bounded_size(tmp_path, kind):
    path = tmp_path / "a.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(LIST_BYTES + 1)
    with pytest.raises(BadSetting, match=r"and not a file|Is a directory|more than 16 MiB"):
        every("__a__", Wildcards(tmp_path))


@pytest.mark.parametrize("pattern", fewer(["{", "{}", "}", "__", "__a", "{a|", "{2$$", "__.", "{{|}", "x::|{"], each=4))
@pytest.mark.long
def test_long_nonsense_is_read_in_seconds(pattern):
    began = time.process_time()
    with contextlib.suppress(BadSetting):
        NOWHERE.template(pattern * (2**20 // len(pattern)))
    assert time.process_time() - began < 10


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
