"""Commands whose parameters are objects, and what Typer makes of them."""

import inspect
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer

from dallecli.cli.folding import folded
from dallecli.cli.help import ORDER, OUTPUT, REPORTING, SectionedCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Brush:
    """What is painted with."""

    width: Annotated[int, typer.Option("--width", help="In pixels.", envvar="BRUSH_WIDTH")] = 3
    colour: Annotated[str | None, typer.Option("--colour", "-c", help="Its name.")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBrush(Brush):
    """One with bristles in a circle."""

    bristles: Annotated[int, typer.Option("--bristles", min=1)] = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """What is painted on."""

    size: Annotated[int, typer.Option("--size")]
    layers: Annotated[list[str], typer.Option("--layer")] = field(default_factory=lambda: ["ground"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """A room with both."""

    brush: Brush
    canvas: Canvas


def ran(command, *arguments, defaults=None):
    """What a command returns for these arguments."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=SectionedCommand)(folded(command))
    return app(args=list(arguments), standalone_mode=False, default_map=defaults)


def refused(command, *arguments):
    """What Typer has against these arguments."""
    with pytest.raises(typer.TyperException) as caught:
        ran(command, *arguments)
    return caught.value.format_message()


def names(command):
    return list(inspect.signature(folded(command)).parameters)


def test_the_fields_are_the_parameters_in_their_order():
    def paint(what: Annotated[str, typer.Argument()], brush: Brush, canvas: Canvas): ...

    assert names(paint) == ["what", "width", "colour", "size", "layers"]
    kinds = {parameter.kind for parameter in inspect.signature(folded(paint)).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_a_command_gets_objects():
    def paint(what: Annotated[str, typer.Argument()], brush: Brush, loud: Annotated[bool, typer.Option()] = False):
        return what, brush, loud

    assert ran(paint, "fox", "--width", "7", "-c", "red", "--loud") == ("fox", Brush(width=7, colour="red"), True)


def test_what_is_not_said_is_as_the_class_says():
    def paint(brush: Brush):
        return brush

    assert ran(paint) == Brush() == folded(paint)()


def test_a_default_factory_makes_the_default():
    def paint(canvas: Canvas):
        return canvas

    assert ran(paint, "--size", "9") == Canvas(size=9, layers=["ground"])
    assert ran(paint, "--size", "9", "--layer", "sky", "--layer", "sea") == Canvas(size=9, layers=["sky", "sea"])


def test_a_field_without_a_default_is_required():
    def paint(canvas: Canvas): ...

    assert refused(paint) == "Missing option '--size'."


def test_a_required_argument_stays_required():
    def paint(what: Annotated[str, typer.Argument()], brush: Brush): ...

    assert refused(paint) == "Missing argument 'what'."


def test_an_argument_can_be_a_field():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Subject:
        what: Annotated[list[str], typer.Argument()]

    def paint(subject: Subject):
        return subject

    assert ran(paint, "fox", "hen") == Subject(what=["fox", "hen"])


def test_environment_and_config_file_count_as_for_any_option(monkeypatch):
    def paint(brush: Brush):
        return brush

    assert ran(paint, defaults={"width": 5, "colour": "blue"}) == Brush(width=5, colour="blue")
    monkeypatch.setenv("BRUSH_WIDTH", "6")
    assert ran(paint, defaults={"width": 5}) == Brush(width=6)
    assert ran(paint, "--width", "7", defaults={"width": 5}) == Brush(width=7)


def test_the_range_of_an_option_is_checked():
    def paint(brush: RoundBrush): ...

    assert "--bristles" in refused(paint, "--bristles", "0")


def test_a_subclass_has_the_fields_of_its_class_first():
    def paint(brush: RoundBrush):
        return brush

    assert names(paint) == ["width", "colour", "bristles"]
    assert ran(paint, "--bristles", "9", "--width", "1") == RoundBrush(width=1, bristles=9)


def test_objects_can_hold_objects():
    def paint(studio: Studio):
        return studio

    assert names(paint) == ["width", "colour", "size", "layers"]
    assert ran(paint, "--size", "8", "-c", "red") == Studio(brush=Brush(colour="red"), canvas=Canvas(size=8))


def test_an_option_that_two_objects_share_is_an_error():
    def paint(brush: Brush, other: RoundBrush): ...

    with pytest.raises(TypeError, match="paint takes more than one option called colour, width"):
        folded(paint)


def test_what_an_object_refuses_reaches_the_caller():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Picky:
        size: Annotated[int, typer.Option("--size")] = 3

        def __post_init__(self):
            if self.size > 9:
                raise ValueError("too big")

    def paint(picky: Picky): ...

    with pytest.raises(ValueError, match="too big"):
        ran(paint, "--size", "10")


def test_the_options_of_a_section_stand_together_and_in_its_order():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class First:
        force: Annotated[bool, typer.Option("--force", rich_help_panel=OUTPUT)] = False
        json: Annotated[bool, typer.Option("--json", rich_help_panel=REPORTING)] = False
        new: Annotated[bool, typer.Option("--new", rich_help_panel=OUTPUT)] = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Second:
        no_history: Annotated[bool, typer.Option("--no-history", rich_help_panel=REPORTING)] = False
        output: Annotated[str | None, typer.Option("--output", rich_help_panel=OUTPUT)] = None

    def paint(first: First, second: Second): ...

    assert ORDER[OUTPUT].index("output") < ORDER[OUTPUT].index("force")
    assert names(paint) == ["output", "force", "new", "no_history", "json"]


def test_help_lists_what_is_in_the_objects(capsys):
    def paint(what: Annotated[str, typer.Argument()], brush: Brush, canvas: Canvas):
        """Paint a picture."""

    ran(paint, "--help")
    shown = capsys.readouterr().out
    assert "Paint a picture." in shown
    for option in ("--width", "In pixels.", "env var: BRUSH_WIDTH", "default: 3", "-c, --colour", "--size", "required"):
        assert option in shown
    assert "brush" not in shown and "canvas" not in shown.lower()
