"""Errors are at most three harmless lines, and the tree drawn at the top of errors.py is the tree of the classes."""

import re

import pytest

from dallecli import errors
from dallecli.errors import BadOutput, DalleError, PromptError


def _all(kind: type[DalleError]) -> list[type[DalleError]]:
    return [kind, *(found for inner in kind.__subclasses__() for found in _all(inner))]


def _ours() -> list[type[DalleError]]:
    return [kind for kind in _all(DalleError) if kind.__module__ == errors.__name__]


def test_an_error_says_what_where_and_what_to_do():
    error = BadOutput("the file exists already", where="cat.png", hint="use --force")
    assert error.lines() == ["error: the file exists already", "where: cat.png", "hint: use --force"]


def test_an_error_without_place_or_hint_is_one_line():
    assert PromptError("the prompt is empty").lines() == ["error: the prompt is empty"]


def test_quoted_line_breaks_do_not_make_more_lines():
    lines = PromptError("no\nsuch\r\nthing", where="a\x0bb", hint="c\u2028d").lines()
    assert len(lines) == 3
    assert not any(char in line for line in lines for char in "\n\r\x0b\u2028")


def test_facts_are_for_programs_and_unescaped():
    facts = BadOutput("no", where="a\x1bb").facts()
    assert facts == {"error": "BadOutput", "exit_code": 2, "what": "no", "where": "a\x1bb", "hint": None}


@pytest.mark.parametrize("kind", _ours())
def test_every_error_explains_itself(kind):
    assert kind.__doc__
    assert kind.exit_code > 0


def test_the_drawn_tree_is_the_tree():
    drawing = (errors.__doc__ or "").split("\n\n")[1]
    drawn: dict[str, tuple[int, int | None]] = {}
    for line in drawing.splitlines():
        match = re.match(r"^    ([│├└─ ]*)(\w+) +(\d+)?", line)
        assert match, line
        drawn[match[2]] = (len(match[1]) // 4, int(match[3]) if match[3] else None)
    assert set(drawn) == {kind.__name__ for kind in _ours()}
    for kind in _ours():
        depth, code = drawn[kind.__name__]
        assert depth == len(kind.__mro__) - len(DalleError.__mro__), kind
        assert code in (None, kind.exit_code), kind
