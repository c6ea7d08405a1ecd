"""What a line of the shell means, before anything is run."""

import pytest
from typer.main import get_command

from dallecli.cli.app import build
from dallecli.cli.shell_lines import Token, command_arguments, prompt_arguments, tokens
from dallecli.errors import BadInput

GENERATE = get_command(build()).commands["generate"]  # type: ignore[attr-defined]
ONE, TWO = ["one.png"], ["a b.png", "two.png"]


def _prompt(line: str, last: list[str] | None = None) -> list[str]:
    return prompt_arguments(line, GENERATE, tokens(line), last if last is not None else [])


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("a red car", ["--", "a red car"]),
        ("  a  red   car \n", ["--", "a  red   car"]),
        ("-n 4 a red car", ["-n", "4", "--", "a red car"]),
        ("a red car -n 4", ["-n", "4", "--", "a red car"]),
        ("a red -n4 car --fast", ["-n4", "--fast", "--", "a red car"]),
        ("a car --steps=5 --best", ["--steps=5", "--best", "--", "a car"]),
        ("a cat's hat", ["--", "a cat's hat"]),
        ("'tis the season", ["--", "'tis the season"]),
        ('a sign that says "hello world"', ["--", "a sign that says hello world"]),
        ('"show me a cat"', ["--", "show me a cat"]),
        ("'a red apple' \"a blue apple\" -n 2", ["-n", "2", "--", "a red apple", "a blue apple"]),
        ('a car --negative "a dog" -s 7', ["--negative", "a dog", "-s", "7", "--", "a car"]),
        ('a car --negative="a big dog"', ["--negative=a big dog", "--", "a car"]),
        ("a man - in black", ["--", "a man - in black"]),
        ("minus 5 is -5", ["--", "minus 5 is -5"]),
        ("-- -n is an option", ["--", "-n is an option"]),
        ("a car --rewrite", ["--rewrite", "--", "a car"]),
        ("--rewrite optional a car", ["--rewrite", "optional", "--", "a car"]),
        ("--rewrite a car", ["--rewrite", "--", "a car"]),
        ("a car --rewrite-with http://x/v1 m", ["--rewrite-with", "http://x/v1", "m", "--", "a car"]),
        ("--class tench", ["--class", "tench"]),
        ("the last unicorn", ["--", "the last unicorn"]),
        ("a car --nosuch 3", ["--nosuch", "--", "a car 3"]),
        ("🧸 on a 🛹", ["--", "🧸 on a 🛹"]),
    ],
)
def test_a_prompt_is_one_sentence_with_options_wherever_they_stand(line, arguments):
    assert _prompt(line) == ["generate", *arguments]


def test_last_is_a_file_where_files_stand_and_a_word_elsewhere():
    assert command_arguments("vary", tokens("last -n 4"), ONE) == ["vary", "one.png", "-n", "4"]
    assert command_arguments("vary", tokens("last"), TWO) == ["vary", *TWO]
    assert command_arguments("interpolate", tokens('last.2 "last" -o last'), TWO) == [
        *("interpolate", "two.png", "last", "-o", "last")
    ]
    assert command_arguments("history", tokens("last --last 5"), ONE) == ["history", "last", "--last", "5"]
    assert command_arguments("inpaint", tokens("last --mask last.1 --prompt last"), ONE) == [
        *("inpaint", "one.png", "--mask", "one.png", "--prompt", "last")
    ]
    assert _prompt("a cat --init last --strength 0.3", ONE)[1:3] == ["--init", "one.png"]
    assert _prompt("a cat --init=last", ONE)[1] == "--init=one.png"


@pytest.mark.parametrize(
    ("line", "last", "said"),
    [
        ("last", [], "nothing was painted here yet"),
        ("last.3", TWO, "there is no last.3: last is 2 files"),
        ("last.0", TWO, "there is no last.0"),
        ("last.2", ONE, "last is 1 file"),
    ],
)
def test_what_last_cannot_be_is_said(line, last, said):
    with pytest.raises(BadInput, match=said):
        command_arguments("vary", tokens(line), last)


def test_an_option_for_one_file_takes_no_two():
    with pytest.raises(BadInput, match="last is 2 files, and this takes one"):
        _prompt("a cat --init last", TWO)


def test_quotes_count_where_they_begin_a_word_and_end_one():
    assert tokens("a \"b c\" d'e 'f' \"g") == [
        *(Token("a"), Token("b c", quoted=True), Token("d'e"), Token("f", quoted=True), Token('"g'))
    ]
