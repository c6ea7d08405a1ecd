"""Everything that is printed. Results go to standard output, everything for the eye to standard error.

Text from outside passes `safe`; rich gets `Text` and plain strings with markup off. Rich itself is imported only when a
bar or a preview is really drawn: it would double the time of a short command.
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
from typing import TYPE_CHECKING, Any, cast

from dallecli.errors import BadOutput, DalleError
from dallecli.safe import safe

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from dallecli.engine import Progress

_SPARSE_SECONDS = 10.0


# Windows has no such signal, but its programs, too, can stop reading.
SIGPIPE = getattr(signal, "SIGPIPE", 13)


class Stopped(BaseException):
    """A signal asked the process to end. Not an Exception, so that nothing between here and the boundary keeps it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def emit(data: bytes) -> None:
    """Write a result to standard output, now. Raises Stopped(SIGPIPE) if nobody reads it, BadOutput if it fails."""
    if sys.stdout is None:
        raise BadOutput("standard output is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise Stopped(SIGPIPE) from error
    except OSError as error:
        raise BadOutput(f"cannot write to standard output: {error.strerror}") from error


def emit_line(text: str) -> None:
    """One line of text for programs or people; controls are made visible where a terminal would obey them.

    In a pipe a file name stays byte for byte what it is, as with `ls`.
    """
    if sys.stdout is not None and sys.stdout.isatty():
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
        tell = self.display.warn if record.levelno >= logging.WARNING else self.display.note
        tell(safe(record.getMessage()))


class Display:
    """What the eye sees while pictures are painted: bars in a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        log = logging.getLogger("dallecli")
        log.handlers, log.propagate = [_Remarks(self)], False
        log.setLevel(logging.INFO)
        self.quiet = quiet
        self.animated = not quiet and _is_terminal()
        self.bars: Bars | None = None
        self.tasks: dict[str, TaskID] = {}
        self.shown = time.monotonic()

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
    def opening(self, model: str) -> Iterator[None]:
        """Say that a model is being opened, until `progress` has news; leave a clean terminal behind."""
        if self.animated:
            self._start_bars().add_task(f"opening {safe(model, 60)}", total=None, rate="", count="")
        try:
            yield
        finally:
            self.clear()

    def progress(self, progress: "Progress") -> None:
        """One step was done."""
        if self.animated:
            self._move_bar(progress)
        elif not self.quiet and time.monotonic() - self.shown >= _SPARSE_SECONDS:
            self.shown = time.monotonic()
            to_stderr(f"{_label(progress)}: step {progress.step} of {progress.steps}")

    def clear(self) -> None:
        """Take the bars off the terminal, so that something else can be written to it; `progress` brings new ones."""
        if self.bars is not None:
            self.bars.stop()
            self.bars = None
            self.tasks = {}

    def preview(self, image: "Image") -> None:
        """Draw a picture into the terminal."""
        if self.animated:
            from dallecli.cli.preview import draw

            self.clear()
            draw(image, _console())

    def _start_bars(self) -> "Bars":
        # New ones each time: rich's can be started again, but then erase lines that are not theirs.
        self.bars = _new_bars(_console())
        self.bars.start()
        return self.bars

    def _move_bar(self, progress: "Progress") -> None:
        if self.bars is None or not self.tasks:
            self.clear()  # what said that the model is being opened
            self._start_bars()
        bars = cast("Bars", self.bars)
        # A stage's bar appears when the stage first runs, and starts again with every picture.
        if progress.stage not in self.tasks:
            self.tasks[progress.stage] = bars.add_task("", total=progress.steps, rate="", count="")
        task = self.tasks[progress.stage]
        if progress.step == 1:
            bars.reset(task, total=progress.steps)
        count = f"{progress.step}/{progress.steps}"
        bars.update(task, completed=progress.step, description=_label(progress), count=count)
        speed = next(shown.speed for shown in bars.tasks if shown.id == task)
        bars.update(task, rate="" if speed is None else f"{speed:.1f}/s")


def _label(progress: "Progress") -> str:
    stage = progress.stage.replace("_", " ")
    first, last = progress.picture + 1, progress.picture + progress.together
    which = f"picture {first}" if first == last else f"pictures {first} to {last}"
    picture = f", {which} of {progress.pictures}" if progress.pictures > 1 else ""
    square = f", square {progress.square + 1} of {progress.squares}" if progress.squares > 1 else ""
    return stage + picture + square


def _is_terminal() -> bool:
    """Whether standard error is a terminal that can be drawn on. FORCE_COLOR is no reason to animate a log file."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def _console() -> "Console":
    from rich.console import Console

    return Console(stderr=True, force_terminal=True, markup=False, emoji=False, highlight=False, soft_wrap=False)


def _new_bars(console: "Console") -> "Bars":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]}", markup=False, justify="right"),
        TextColumn("{task.fields[rate]}", markup=False, justify="right"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
