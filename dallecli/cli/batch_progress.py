"""What is seen of a batch: paths or objects on standard output, progress and problems on standard error."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.batch.item import Item
from dallecli.batch.prompt_file import BadLine
from dallecli.batch.runner import Batch, Survey, Tally
from dallecli.cli.display import SIGPIPE, Display, Stopped, clock, emit_json, emit_line, to_stderr
from dallecli.cli.options import PaintingReporting
from dallecli.cli.region import Line
from dallecli.engine import Progress
from dallecli.errors import DalleError
from dallecli.history import History
from dallecli.pictures.record import picture_record
from dallecli.publish import disk_errors
from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture


class Progressing:
    """What the eye and the pipe see of a batch: results on standard output, the rest on standard error."""

    def __init__(self, batch: Batch, reporting: PaintingReporting) -> None:
        self.display = BatchDisplay(quiet=reporting.quiet)
        self.history = History(on=not reporting.no_history)
        self.batch = batch
        self.reporting = reporting
        with disk_errors(Path("temporary files")):
            self._bad = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115  # closed by close

    def close(self) -> None:
        self.display.clear()
        self.history.close()
        self._bad.close()

    def bad(self, line: BadLine) -> None:
        self.display.clear()
        where = line.where(self.batch.file.name)
        if self.reporting.json:
            to_stderr(json.dumps({"error": "BadLine", "what": line.reason, "where": where}))
        else:
            to_stderr(f"{safe(where, 200)}: {safe(line.reason)}")
        if line.text:
            plain = self.batch.file.kind == "txt"
            text = json.dumps({self.batch.file.plain: line.text.strip()}) if plain else line.text
            self._bad.write(text.encode("utf-8", "backslashreplace").decode() + "\n")

    def bad_lines(self) -> Iterator[str]:
        """The bad lines, to be mended and fed back."""
        self._bad.seek(0)
        for text in self._bad:
            yield text.removesuffix("\n")

    def warn(self, line: int, text: str) -> None:
        self.display.warn(f"{safe(self.batch.file.name, 200)}:{line}: {safe(text)}")

    def unknown(self, survey: Survey) -> None:
        for notice in survey.unknown.notices():
            self.display.warn(f"{safe(self.batch.file.name, 200)}: {safe(notice, 400)}")

    def mixed(self, before: str, now: str) -> None:
        hint = "; OMP_NUM_THREADS sets the number of threads" if "thread" in before else ""
        hint += "; --batch sets how many at a time" if "at a time" in before + now else ""
        what = f"pictures of an earlier run were painted with {before}; the missing ones are with {now}"
        self.display.warn(f"{safe(str(self.batch.folder), 200)}: {safe(what, 400)}, and pixels may differ{hint}")

    def checked(self, survey: Survey) -> None:
        self.display.checking(survey.lines)

    def step(self, progress: Progress, tally: Tally) -> None:
        self.display.step(progress, tally)

    def working(self, busy: int, workers: int, tally: Tally) -> None:
        self.display.working(busy, workers, tally)

    def done(self, item: Item, picture: "Picture", path: Path, tally: Tally) -> None:
        self.display.clear()
        self.history.remember(path, picture.recipe, picture.recipe.seed)
        if self.reporting.json:
            emit_json({**picture_record(picture, item.k, path), "line": item.job.line})
        else:
            emit_line(str(path))
        if self.reporting.preview:
            self.display.preview(picture.image)

    def failed(self, item: Item, error: DalleError, tally: Tally) -> None:
        self.display.clear()
        where = f"{self.batch.file.name}:{item.job.line}"
        if self.reporting.json:
            to_stderr(json.dumps({**error.facts(), "line": item.job.line}))
        else:
            to_stderr(f"{safe(where, 200)}: {safe(error.what)}")

    def interrupted(self, tally: Tally, error: BaseException) -> None:
        """Say how to go on, to whoever is still there."""
        if not (isinstance(error, Stopped) and error.number == SIGPIPE):
            done = tally.there + tally.done
            self.display.say(f"{done} of {tally.total} pictures are done; run the same command again to go on")

    def finished(self, tally: Tally, before: int) -> None:
        """Say what became of everything."""
        facts = [
            f"{tally.done} painted in {clock(time.monotonic() - tally.began)}",
            f"{tally.there} were there" if tally.there else "",
            f"{tally.repeated} asked for twice" if tally.repeated else "",
            f"{tally.others} left to others" if tally.others else "",
            f"{tally.failed} failed" if tally.failed else "",
        ]
        self.display.say(f"{self.batch.folder}: {', '.join(fact for fact in facts if fact)}")
        strangers = before - tally.there
        if strangers > 0 and not self.batch.share:
            self.display.say(f"{strangers} pictures of earlier runs are asked for no more, or differently")


class BatchDisplay(Display):
    """The state of a batch above the bar of the stage that runs; elsewhere a line now and then."""

    tally: Tally | None = None
    """What became of the pictures so far; None before the first is painted."""
    workers: tuple[int, int] | None = None
    """How many workers paint, and how many there are; None if this process does it."""

    def checking(self, lines: int) -> None:
        """So many lines have been checked."""
        if lines % 1000 == 0:
            self._opening = f"checking line {lines}"
            self.draw()

    def overall(self) -> Line:
        tally = self.tally
        if tally is None:
            return super().overall()
        done = tally.total - tally.left
        failed = f", {tally.failed} failed" if tally.failed else ""
        left = "" if tally.done == 0 else f"  {clock(tally.left / tally.rate)} left"
        share = done / max(1, tally.total)
        label, short = f"{done} of {tally.total} pictures{failed}", f"{done}/{tally.total}"
        return Line(label=label, short=short, share=share, figures=f"{share:4.0%}{left}")

    def step(self, progress: Progress, tally: Tally) -> None:
        """One step was done."""
        self.tally = tally
        if self.animated:
            self.progress(progress)
        else:
            self._log(tally, "")

    def working(self, busy: int, workers: int, tally: Tally) -> None:
        """So many workers elsewhere paint."""
        self.tally, self.workers, self._opening = tally, (busy, workers), None
        if self.animated:
            self.draw()
        else:
            self._log(tally, f", {busy} of {workers} workers")

    def stages(self) -> list[Line]:
        if self.workers is None:
            return super().stages()
        busy, workers = self.workers
        return [Line(label="  workers", share=busy / max(1, workers), figures=f"{busy}/{workers}")]

    def _log(self, tally: Tally, more: str) -> None:
        if not self.quiet and time.monotonic() - self.shown >= _pause(tally):
            self.shown = time.monotonic()
            to_stderr(_state(tally) + more)


def _pause(tally: Tally) -> float:
    """Seconds between two lines in a log: fewer lines the longer it takes."""
    return min(60.0, max(10.0, (time.monotonic() - tally.began) / 10))


def _state(tally: Tally) -> str:
    left = "" if tally.done == 0 else f", {tally.rate:.2g}/s, {clock(tally.left / tally.rate)} left"
    failed = f", {tally.failed} failed" if tally.failed else ""
    return f"{tally.total - tally.left} of {tally.total}{left}{failed}"
