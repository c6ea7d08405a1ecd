"""The strict reader: what it takes, and how it names what is wrong."""

import json
from typing import Any

import pytest

from dallecli.errors import BadFile, BadRecipe, DalleError
from dallecli.fields import Fields, Wording, read_json

TABLE: dict[str, Any] = {
    "name": "a fox",
    "steps": 25,
    "guidance": 4,
    "loud": True,
    "nothing": None,
    "sizes": [64, 256],
    "places": [0, 0.5],
    "tasks": ["generate"],
    "stages": {"prior": {"steps": 9}},
    "parts": [{"hub": "a/b"}, {"hub": "c/d"}],
}

RECIPE = Wording(
    not_a_table="the recipe is not a JSON object",
    missing="the recipe has no '{path}'",
    wrong="'{path}' in the recipe is {value}, not {wanted}",
    unknown="the recipe holds what no recipe holds: {path}",
)


def reader(table: object = None, **more: Any) -> Fields:
    return Fields(TABLE if table is None else table, BadFile, where="here", **more)


def refusal(read: Any) -> DalleError:
    with pytest.raises(BadFile) as raised:
        read()
    return raised.value


def test_each_kind_of_value_is_taken_as_what_it_is():
    fields = reader()
    assert fields.text("name") == "a fox"
    assert fields.whole("steps") == 25
    guidance = fields.number("guidance")
    assert (guidance, type(guidance)) == (4.0, float)
    assert fields.flag("loud") is True
    assert fields.null("nothing")
    assert fields.wholes("sizes") == (64, 256)
    assert fields.numbers("places") == (0.0, 0.5)
    assert fields.choices("tasks", ("generate", "vary")) == ("generate",)
    stages = fields.table("stages")
    assert stages.table("prior").whole("steps") == 9
    assert [part.text("hub") for part in fields.tables("parts")] == ["a/b", "c/d"]
    stages.finish()
    fields.finish()


def test_the_table_itself_stays_as_it_was():
    reader().text("name")
    assert "name" in TABLE


def test_what_may_be_absent_is_asked_for_and_what_is_left_is_listed():
    fields = reader({"torch": "2.9", "pillow": "12"})
    assert "torch" in fields
    assert "numpy" not in fields
    assert {name: fields.text(name) for name in fields} == {"torch": "2.9", "pillow": "12"}
    fields.finish()


@pytest.mark.parametrize("take", ["text", "whole", "number", "wholes", "numbers"])
def test_null_is_none_only_where_it_is_allowed_and_the_key_has_to_be_there(take):
    assert getattr(reader({"x": None}), take)("x", optional=True) is None
    assert "x is None, not a" in refusal(lambda: getattr(reader({"x": None}), take)("x")).what
    assert refusal(lambda: getattr(reader({}), take)("x", optional=True)).what == "x is missing"


@pytest.mark.parametrize(
    ("take", "value", "what"),
    [
        (lambda f: f.text("x"), 5, "x is 5, not a text"),
        (lambda f: f.match("x", "[a-z]+", "a name"), "../a", "x is '../a', not a name"),
        (lambda f: f.match("x", ".+"), "", "x is '', not a text"),
        (lambda f: f.choice("x", ("a", "b")), "c", "x is 'c', not one of a, b"),
        (lambda f: f.choice("x", ("a", "b")), [], "x is [], not one of a, b"),
        (lambda f: f.flag("x"), 1, "x is 1, not true or false"),
        (lambda f: f.whole("x"), True, "x is True, not a whole number"),
        (lambda f: f.whole("x"), "7", "x is '7', not a whole number"),
        (lambda f: f.whole("x"), 7.0, "x is 7.0, not a whole number"),
        (lambda f: f.whole("x", least=2), 1, "x is 1, not a whole number from 2 on"),
        (lambda f: f.number("x"), True, "x is True, not a number"),
        (lambda f: f.number("x"), float("inf"), "x is inf, not a number"),
        (lambda f: f.number("x"), float("nan"), "x is nan, not a number"),
        (lambda f: f.number("x", least=0), -0.5, "x is -0.5, not a number from 0 on"),
        (lambda f: f.wholes("x"), 3, "x is 3, not a list of whole numbers"),
        (lambda f: f.wholes("x"), [1, 2.5], "x is [1, 2.5], not a list of whole numbers"),
        (lambda f: f.wholes("x", least=1), [0], "x is [0], not a list of whole numbers from 1 on"),
        (lambda f: f.numbers("x"), ["1"], "x is ['1'], not a list of numbers"),
        (lambda f: f.texts("x"), ["a", 1], "x is ['a', 1], not a list of texts"),
        (lambda f: f.texts("x", "[a-z]+", "a list of names"), ["A"], "x is ['A'], not a list of names"),
        (lambda f: f.texts("x", least=1), [], "x is [], not a list of texts"),
        (lambda f: f.choices("x", ("a", "b")), ["a", "c"], "x is ['a', 'c'], not some of a, b"),
        (lambda f: f.table("x"), [], "x is [], not a table"),
        (lambda f: f.tables("x"), [{}, 1], "x is [{}, 1], not a list of tables"),
        (lambda f: f.tables("x", least=1), [], "x is [], not a list of tables"),
    ],
)
def test_a_value_of_another_kind_is_shown_with_what_was_wanted(take, value, what):
    error = refusal(lambda: take(reader({"x": value})))
    assert (error.what, error.where) == (what, "here")


def test_a_whole_number_that_no_float_holds_is_no_number():
    assert "not a number" in refusal(lambda: reader({"x": 10**400}).number("x")).what


def test_a_long_value_is_cut():
    assert len(refusal(lambda: reader({"x": "y" * 10_000}).whole("x")).what) < 120


def test_a_key_is_named_by_its_whole_path():
    prior = reader().table("stages").table("prior")
    assert refusal(lambda: prior.number("guidance")).what == "stages.prior.guidance is missing"
    assert refusal(lambda: prior.text("steps")).what == "stages.prior.steps is 9, not a text"
    part = reader().tables("parts")[1]
    assert refusal(lambda: part.text("folder")).what == "parts[1].folder is missing"


def test_a_key_is_taken_once():
    fields = reader()
    fields.text("name")
    assert refusal(lambda: fields.text("name")).what == "name is missing"


def test_what_is_left_over_is_refused_with_the_key_that_was_meant():
    fields = reader({"stpes": 3, "colour": "red"})
    assert "steps" not in fields
    error = refusal(fields.finish)
    assert error.what == "unknown: stpes, colour"
    assert error.hint == "did you mean 'steps'?"
    assert refusal(reader({"colour": 1}).finish).hint is None


def test_defaults_stand_in_for_what_a_table_does_not_say():
    stage = reader({"decoder": {"steps": 40}}).table("decoder", defaults={"steps": 25, "guidance": 8.0})
    assert (stage.whole("steps"), stage.number("guidance")) == (40, 8.0)
    stage.finish()


def test_the_caller_chooses_the_error_and_its_words():
    def read(table: object) -> Fields:
        return Fields(table, BadRecipe, wording=RECIPE)

    for attempt, what in (
        (lambda: read([]), "the recipe is not a JSON object"),
        (lambda: read({}).text("model"), "the recipe has no 'model'"),
        (lambda: read({"seed": "7"}).whole("seed"), "'seed' in the recipe is '7', not a whole number"),
        (lambda: read({"a": {"b": 1}}).table("a").finish(), "the recipe holds what no recipe holds: a.b"),
    ):
        with pytest.raises(BadRecipe) as raised:
            attempt()
        assert raised.value.what == what
        assert raised.value.where is None


def test_a_hint_of_the_caller_goes_with_every_refusal():
    fields = reader({"x": 1}, wording=Wording(hint="pull it again"))
    assert "xs" not in fields
    assert refusal(lambda: fields.text("y")).hint == refusal(fields.finish).hint == "pull it again"


def test_a_path_in_braces_is_no_pattern():
    assert refusal(lambda: reader({"{value}": 1}).finish()).what == "unknown: {value}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"a": NaN}', "NaN is not a number in JSON"),
        ('{"a": -Infinity}', "-Infinity is not a number in JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "Expecting"),
        (b"\xff", "utf-8"),
    ],
)
def test_json_is_read_as_the_standard_has_it(text, message):
    with pytest.raises(ValueError, match=message):
        read_json(text)


def test_json_that_is_wrong_says_where():
    with pytest.raises(json.JSONDecodeError) as raised:
        read_json('{"a": }')
    assert raised.value.colno == 7


def test_good_json_is_read_from_text_and_bytes():
    assert read_json('{"a": [1, null]}') == read_json(b'{"a": [1, null]}') == {"a": [1, None]}
