"""What the five painting commands have in common: from their options and arguments to requests and where these go."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from dallecli.cli.options import (
    AnimationOptions,
    AxesOptions,
    PaintingOptions,
    values_of,
)
from dallecli.errors import BadInput, BadOutput, BadSetting, RequestError

if TYPE_CHECKING:
    from dallecli.cli.many import Many
    from dallecli.cli.output import Output
    from dallecli.engine import Engine
    from dallecli.tasks.task import Request


NEEDED: Final = ("prompt", "class", "image", "from", "to")
"""What a request is about, which can also be an axis of a sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintingCommand:
    """What a painting command was told, besides its arguments.

    task: its name. asked: the options that are part of a request. painting: all others. animation: how frames move, if
    the task can paint any.
    """

    task: str
    asked: object
    painting: PaintingOptions
    animation: AnimationOptions | None = None

    def paint(
        self,
        given: Sequence[Mapping[str, object]],
        *,
        pictures: int = 1,
        noun: str = "prompts",
        axes: AxesOptions | None = None,
        many: "Many | None" = None,
    ) -> None:
        """Paint what the arguments gave, each a request with `pictures` pictures; `noun` says what they are.

        It has the names of a prompt line's values. Files among it are read already: standard input can be only once.
        `many` are all arguments, if a bad one does not stop the others. Prompts are typed, and are one whole.

        Raises: RequestError, and what an engine raises; SomeFailed if one of many was bad.
        """
        from dallecli.cli.painting import paint_all

        many = many if many is not None else self.many(len(given), whole=True)
        if axes is not None and axes.given:
            self._paint_axes(given, axes, noun, many.total)
            return
        requests = many.each(self._asked, given, _name)
        output = self.plan(pictures=pictures, results=many.total, noun=noun)
        with self._opened_engine() as engine:
            paint_all(requests, output, engine, self.painting.reporting, many)

    def _paint_axes(self, given: Sequence[Mapping[str, object]], axes: AxesOptions, noun: str, total: int) -> None:
        from dallecli.cli.axes import Axes, paint_axes, read_axis

        chosen = Axes(x=read_axis(axes.x), y=read_axis(axes.y))
        if total > 1:
            what = f"the pictures of a sheet with axes are of one {noun.removesuffix('s')}"
            raise BadSetting(what, hint="--y 'prompt=a fox|a dog'" if noun == "prompts" else None)
        values = {**self.values, **(given[0] if given else {})}
        # Of what every request needs, something may stand on an axis alone; the rest is checked beside its first value.
        named = {name: value for name, value in chosen.pairs[0].items() if name in NEEDED and values.get(name) is None}
        self._asked({**(given[0] if given else {}), **named})
        output = self.plan(noun=noun)
        with self._opened_engine() as engine:
            paint_axes(self.task, values, chosen, output, engine, self.painting.reporting)

    @contextmanager
    def _opened_engine(self) -> "Iterator[Engine]":
        """The engine that paints, and has prompts rewritten if that is asked for. Raises BadSetting, BadConfig."""
        from dallecli.cli.rewriting import rewriting

        with self.painting.opened_engine() as engine:
            yield rewriting(engine, self.painting)

    def many(self, total: int, *, whole: bool = False) -> "Many":
        """So many arguments, of which a bad one does not stop the others; if they are one `whole`, it does."""
        from dallecli.cli.display import Display
        from dallecli.cli.many import OF_INPUTS, Many

        reporting = self.painting.reporting
        errors = () if whole else OF_INPUTS
        return Many(total, Display(quiet=reporting.quiet), as_json=reporting.json, errors=errors)

    def _asked(self, given: Mapping[str, object]) -> "Request":
        request = self.request(given)
        self._check_words(request)
        return request

    def _check_words(self, request: "Request") -> None:
        """Refuse the names of files, and say that choices are made in prompt files alone. Raises PromptError."""
        from dallecli.batch.wildcards import has_choices
        from dallecli.cli.display import Display
        from dallecli.safe import safe
        from dallecli.source import check_no_file

        for text in request.texts:
            check_no_file(text)
            if has_choices(text):
                what = (
                    f"{safe(repr(text), 60)} is painted as it stands; choices are made of lines: --prompts FILE, or -"
                )
                Display(quiet=self.painting.reporting.quiet).warn(what)

    def request(self, given: Mapping[str, object]) -> "Request":
        """The request of what arguments gave and options say. Raises RequestError."""
        from dallecli.tasks.builder import build_request

        return build_request(self.task, given, self.values)

    def plan(self, *, pictures: int = 1, results: int = 1, noun: str = "prompts") -> "Output":
        """Where the pictures go. Raises as `output.plan`."""
        from dallecli.cli.output import plan

        return plan(
            self.painting.output,
            pictures=pictures,
            results=results,
            noun=noun,
            animation=self.animation,
            as_json=self.painting.reporting.json,
        )

    def paint_file(self, arguments: Sequence[str] | None, axes: AxesOptions | None = None) -> None:
        """Paint every line of a prompt file, which says all that is painted, into files with names of their own.

        Raises: BadInput, BadOutput, BadSetting for arguments and options that have no place beside it; and what an
        engine raises.
        """
        from dallecli.cli.batch import paint_file

        if arguments:
            raise BadInput(f"--prompts and {arguments[0]!r} both say what to paint", hint="leave one of them out")
        if self.painting.output.output is not None:
            raise BadOutput("-o names one file, but a prompt file makes many", hint="use --out for a folder")
        if self.animation is not None and self.animation.animate is not None:
            what = "--animate makes one file of all frames, but a prompt file makes one of each"
            raise BadOutput(what, hint="leave one of them out")
        if axes is not None and axes.given:
            what = "a sheet with axes is of one prompt, and a prompt file holds many"
            raise BadSetting(what, hint="leave out --prompts, or --x and --y")
        paint_file(self.task, self.values, self.painting)

    @property
    def values(self) -> dict[str, object]:
        """What the options say of a request, by the names of a prompt line's values."""
        return values_of(self.asked)


def _name(given: Mapping[str, object]) -> str:
    """What an argument is called: its words, or its file."""
    one = given.get("prompt", given.get("image"))
    return str(getattr(one, "name", one))


T = TypeVar("T")


def required(value: T | None, what: str, task: str) -> T:
    """What may be left out only beside --prompts. Raises RequestError, with Typer's words."""
    if value is None or value == []:
        raise RequestError(f"Missing {what}.", hint=f"dalle {task} --help")
    return value
