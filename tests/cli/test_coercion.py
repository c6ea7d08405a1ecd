"""Plain values are read as Typer reads them, and the others are left to it."""

from pathlib import Path
from typing import Literal

import pytest
from typer._coercion import resolve_type_descriptor
from typer.main import get_command
from typer.models import OptionInfo

from dallecli.cli.app import COMMANDS, build
from dallecli.cli.coercion import UNREAD, PlainParam, plain

WORDS = ["3", "-3", "0", "007", "2.5", "-0.25", "1e3", " 3", "3 ", "3.0", "+3", "1_000", "nan", "inf", "true", "", "x"]
WORDS += ["9" * 30, "low", "LOW", "cat.png", "~/x", "a\0b", "ü", "٣"]
KINDS = (str, int, float, Path, Literal["low", "auto"], list[str], list[Path])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_value_that_is_read_here_is_what_typer_reads(kind):
    from typer._coercion import build_runtime_param

    info = OptionInfo()
    whole = build_runtime_param(resolve_type_descriptor(annotation=kind, parameter_info=info))
    read = 0
    for word in WORDS:
        value = [word] if kind in (list[str], list[Path]) else word
        found = plain(value, kind, info)
        if found is not UNREAD:
            read += 1
            theirs = whole._coerce_value(value, param=None, ctx=None)
            assert (type(found), found) == (type(theirs), theirs), word
    assert read >= 1


@pytest.mark.parametrize("value", [3, 2.5, True, None, b"x", [3]])
def test_what_no_command_line_gives_is_left_to_typer_or_is_of_the_kind_already(value):
    for kind in (str, int, float):
        found = plain(value, kind, OptionInfo())
        assert found is UNREAD or (type(found) is kind and found is value)


def test_bounds_and_parsers_are_left_to_typer():
    assert plain("3", int, OptionInfo(min=1)) is UNREAD
    assert plain("3", str, OptionInfo(parser=lambda text: text)) is UNREAD
    assert plain("x", Path, OptionInfo(exists=True)) is UNREAD


def test_every_parameter_of_every_command_is_read_so():
    root = get_command(build())
    generate = root.commands["generate"]
    generate.make_context("generate", ["a fox", "--seed", "3", "--fast", "--out", "x"], resilient_parsing=True)
    assert all(isinstance(param._runtime_param, PlainParam | type(None)) for param in generate.params)


def test_one_command_is_built_as_it_is_among_all():
    whole = get_command(build())
    assert set(whole.commands) == set(COMMANDS)
    for name in COMMANDS:
        alone = get_command(build(name))
        assert list(alone.commands) == [name]
        assert [p.opts for p in alone.commands[name].params] == [p.opts for p in whole.commands[name].params]
    assert set(get_command(build("generat")).commands) == set(COMMANDS)
