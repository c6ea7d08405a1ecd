"""Everything that is printed. Results go to standard output, everything for the eye to standard error.

Text from outside passes `safe`; rich gets `Text` and plain strings with markup off. Rich itself is imported only when
something is really drawn: it would double the time of a short command.
"""

import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dallecli.cli.preview import COLUMNS, draw
from dallecli.cli.region import Line, Region
from dallecli.cli.run import Part, Run
from dallecli.errors import BadOutput, DalleError
from dallecli.safe import safe

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console

    from dallecli.engine import Progress

_SPARSE_SECONDS = 10.0


# Windows has no such signal, but its programs, too, can stop reading.
SIGPIPE = getattr(signal, "SIGPIPE", 13)


class Stopped(BaseException):
    """A signal asked the process to end. Not an Exception, so that nothing between here and the boundary keeps it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_apart: list[TextIO | None] = []
"""Standard output, while others may print what is no result of ours: see `results_apart`."""


@contextmanager
def results_apart() -> Iterator[None]:
    """Inside, only results reach standard output: what a library prints there is thrown away."""
    _apart.append(sys.stdout)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = _apart.pop()


def output() -> TextIO | None:
    """Where results go; None if it is closed."""
    return _apart[-1] if _apart else sys.stdout


def emit(data: bytes) -> None:
    """Write a result to standard output, now. Raises Stopped(SIGPIPE) if nobody reads it, BadOutput if it fails."""
    stream = output()
    if stream is None:
        raise BadOutput("standard output is closed")
    try:
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError as error:
        raise Stopped(SIGPIPE) from error
    except OSError as error:
        raise BadOutput(f"cannot write to standard output: {error.strerror}") from error


def emit_line(text: str) -> None:
    """One line of text for programs or people; controls are made visible where a terminal would obey them.

    In a pipe a file name stays byte for byte what it is, as with `ls`.
    """
    stream = output()
    if stream is not None and stream.isatty():
        emit(safe(text, limit=None).encode("utf-8", "replace") + b"\n")
    else:
        emit(os.fsencode(text) + b"\n")


def emit_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of ASCII. JSON has neither infinity nor NaN: they are null."""
    emit(json.dumps(_finite(value), allow_nan=False).encode("ascii") + b"\n")


def _finite(value: Any) -> Any:
    """The same plain data, with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def emit_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns. Nothing is wrapped: a long command must survive being copied."""
    left = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        emit(f"{name:<{left}}{safe(value, limit=None)}\n".encode("utf-8", "replace"))


def emit_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under titles, in aligned columns."""
    shown = [titles, *([safe(cell, limit=None) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(titles))]
    for row in shown:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        emit(f"{line}\n".encode("utf-8", "replace"))


def to_stderr(text: str) -> None:
    """One line on standard error, if there is one and somebody reads it."""
    if sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def report(error: DalleError, *, as_json: bool, exit_code: int | None = None) -> None:
    """An error, as at most three lines or as one JSON object; `exit_code` is for one that differs from its class's."""
    facts = error.facts() if exit_code is None else {**error.facts(), "exit_code": exit_code}
    for line in [json.dumps(facts)] if as_json else error.lines():
        to_stderr(line)


class _Remarks(logging.Handler):
    """What the rooms below have to say goes where warnings and notes go."""

    def __init__(self, display: "Display") -> None:
        super().__init__(logging.INFO)
        self.display = display

    def emit(self, record: logging.LogRecord) -> None:
        level, display = record.levelno, self.display
        tell = display.warn if level >= logging.WARNING else display.say if level > logging.INFO else display.note
        tell(safe(record.getMessage()))


class Display:
    """What the eye sees while pictures are painted: bars in a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        log = logging.getLogger("dallecli")
        log.handlers, log.propagate = [_Remarks(self)], False
        log.setLevel(logging.INFO)
        self.quiet = quiet
        self.animated = not quiet and _is_terminal()
        self.shown = time.monotonic()
        self._run = Run()
        self._opening: str | None = None
        self._region: Region | None = None
        self._unseen = False

    def warn(self, text: str) -> None:
        """A warning; the caller has passed what is quoted in it through `safe`."""
        if not self.quiet:
            self.clear()
            to_stderr(f"warning: {text}")

    def say(self, text: str) -> None:
        """A fact that was asked for, beside the result itself."""
        if not self.quiet:
            self.clear()
            to_stderr(text)

    def note(self, text: str) -> None:
        """A remark for somebody who watches: only in a terminal."""
        if self.animated:
            self.clear()
            to_stderr(text)

    @contextmanager
    def running(self, model: str, parts: Sequence[Part] = ()) -> Iterator[None]:
        """Show a whole run of these parts, from the opening of the model on; leave a clean terminal behind."""
        self._run, self._opening = Run(parts), f"opening {safe(model, 60)}"
        self.draw()
        try:
            yield
        finally:
            self.clear()
            self._opening = None

    def begin(self) -> None:
        """The next part of the run begins."""
        self._run.begin()
        self.draw()

    def progress(self, progress: "Progress") -> None:
        """One step was done."""
        now = time.monotonic()
        self._run.take(progress, now)
        self._opening = None
        if self.animated:
            self.draw()
        elif not self.quiet and now - self.shown >= _SPARSE_SECONDS:
            self.shown = now
            left = self._run.left(now)
            which = "" if self._run.position == "picture" else f", {self._run.position}"
            yet = "" if left is None else f"; {clock(left)} left"
            to_stderr(f"{_spoken(progress.stage)}{which}: step {progress.step} of {progress.steps}{yet}")

    def draw(self) -> None:
        """Bring the lines onto the terminal, if it is one and they are not there."""
        if self.animated and self._region is None:
            self._region = Region(self.lines)

    def clear(self) -> None:
        """Take the lines off the terminal, so that something else can be written to it; `draw` brings them back."""
        region, self._region = self._region, None
        if region is not None:
            region.clear()

    def lines(self) -> list[Line]:
        """The run as a whole, and the stages beneath it. Called by the thread that draws."""
        if self._opening is not None:
            return [Line(label=self._opening)]
        return [self.overall(), *self.stages()]

    def overall(self) -> Line:
        """The whole run in one line."""
        now = time.monotonic()
        share, left = self._run.share(now), self._run.left(now)
        figures = f"{share:4.0%}" + ("" if left is None else f"  {clock(left)} left")
        return Line(label=self._run.position, short=self._run.count, share=share, figures=figures)

    def stages(self) -> list[Line]:
        """The stages of the pictures that are being painted."""
        return [
            Line(
                label=f"  {_spoken(name)}",
                share=state.step / max(1, state.steps),
                figures=f"{state.step}/{state.steps}" + ("" if state.rate is None else f"  {state.rate:.1f}/s"),
            )
            for name, state in list(self._run.stages.items())
            if name not in self._run.skipped
        ]

    def preview(self, image: "Image", columns: int = COLUMNS) -> None:
        """Draw a picture into the terminal, at most so wide; without a terminal, say so, once."""
        if self.animated:
            self.clear()
            draw(image, _console(), columns)
        elif not self._unseen:
            self._unseen = True
            self.warn("--preview draws on standard error, which is no terminal that can be drawn on")


def clock(seconds: float) -> str:
    """A duration: 3.2 s, or 1:02:03."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 60 else f"{seconds:.1f} s"


def _spoken(stage: str) -> str:
    return stage.replace("_", " ")


def _is_terminal() -> bool:
    """Whether standard error is a terminal that can be drawn on. FORCE_COLOR is no reason to animate a log file."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _console() -> "Console":
    from rich.console import Console

    return Console(stderr=True, force_terminal=True, markup=False, emoji=False, highlight=False, soft_wrap=False)
