"""Errors are at most three harmless lines, and the tree drawn at the top of errors.py is the tree of the classes."""

import re

import pytest

from dallecli import errors
from dallecli.errors import (
    BadConfig,
    BadFile,
    BadOutput,
    BadPicture,
    BadSetting,
    DalleError,
    InternalError,
    NotDownloaded,
    OutOfMemory,
    PromptError,
    PromptTooLong,
    UnknownModel,
)


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
    assert 400 <= kind.http_status < 600


def test_the_drawn_tree_is_the_tree():
    drawing = (errors.__doc__ or "").split("\n\n")[1]
    drawn: dict[str, tuple[int, int | None, int]] = {}
    for line in drawing.splitlines():
        match = re.match(r"^    ([│├└─ ]*)(\w+) +(?:(\d+) +)?(\d{3})  ", line)
        assert match, line
        drawn[match[2]] = (len(match[1]) // 4, int(match[3]) if match[3] else None, int(match[4]))
    assert set(drawn) == {kind.__name__ for kind in _ours()}
    for kind in _ours():
        depth, code, status = drawn[kind.__name__]
        assert depth == len(kind.__mro__) - len(DalleError.__mro__), kind
        assert code in (None, kind.exit_code), kind
        assert status == kind.http_status, kind


@pytest.mark.parametrize("kind", _ours())
def test_a_status_that_differs_from_its_parents_is_given_a_reason(kind):
    parent = kind.__mro__[1]
    if issubclass(parent, DalleError) and parent is not DalleError and kind.http_status != parent.http_status:
        assert f"Status {kind.http_status}" in (kind.__doc__ or "")


def test_statuses_blame_the_client_only_for_what_another_request_would_mend():
    assert PromptTooLong.http_status == BadSetting.http_status == BadPicture.http_status == 400
    assert UnknownModel.http_status == NotDownloaded.http_status == 404
    assert OutOfMemory.http_status == 503
    assert BadConfig.http_status == BadFile.http_status == InternalError.http_status == 500
