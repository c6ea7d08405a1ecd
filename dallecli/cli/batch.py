"""`--prompts`: what the commands do with a prompt file, and what is seen of it."""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.batch.jobs import Reader
from dallecli.batch.journal import Journal, read_journal
from dallecli.batch.presence import Presence
from dallecli.batch.prompt_file import BadLine, PromptFile
from dallecli.batch.runner import FAILED, Batch, Item, Runner, Survey, Tally, file_names, survey, write_failures
from dallecli.batch.wildcards import Wildcards
from dallecli.cli.display import SIGPIPE, Display, Stopped, complain, emit_json, emit_line
from dallecli.cli.output import picture_record
from dallecli.cli.prompts import Manner
from dallecli.cli.run import Run
from dallecli.engine import Engine, Progress
from dallecli.errors import BadInput, BadOutput, BadPromptFile, BadSetting, DalleError, SomeFailed
from dallecli.history import History
from dallecli.pictures.formats import FORMATS
from dallecli.publish import check_folder, disk_errors
from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture

_SHOWN = 10
_SAMPLE = 200


def check_no_others(arguments: Sequence[str] | None, output: str | None) -> None:
    """A prompt file says all that is painted, into files with names of their own. Raises BadInput, BadOutput."""
    if arguments:
        raise BadInput(f"--prompts and {arguments[0]!r} both say what to paint", hint="leave one of them out")
    if output is not None:
        raise BadOutput("-o names one file, but a prompt file makes many", hint="use --out for a folder")


def paint_file(
    command: str,
    prompts: str,
    manner: Manner,
    values: Mapping[str, object],
    run: Run,
    *,
    out: Path | None,
    format: str | None,
    metadata: bool,
    force: bool,
) -> None:
    """Paint every line of a prompt file; `values` are for what a line does not say."""
    shard = _shard(manner.shard)
    engine = run.engine()
    with closing(PromptFile(prompts, "image" if command == "vary" else "prompt")) as file:
        beside = Path() if file.name == "stdin" else Path(prompts).parent
        reader = Reader(
            command=command,
            defaults=values,
            wildcards=Wildcards(manner.wildcards if manner.wildcards is not None else beside),
            matrix=manner.matrix,
        )
        batch = Batch(
            file=file,
            reader=reader,
            folder=out if out is not None else _own_folder(file.name, command),
            format=format if format is not None else "png",
            metadata=metadata,
            force=force,
            keep_going=manner.keep_going,
            retry_failed=manner.retry_failed,
            share=manner.share or shard is not None,
            shard=shard,
        )
        with closing(Progressing(batch, run)) as watcher:
            found = survey(batch, engine, watcher, _SHOWN)
            watcher.display.clear()
            if found.bad and not manner.keep_going:
                count = f"{len(found.bad)} of {found.lines} lines"
                hint = "--keep-going leaves such lines out"
                raise BadPromptFile(f"{count} cannot be painted, so nothing was", where=file.name, hint=hint)
            if found.pictures == 0 and not found.bad:
                raise BadPromptFile("there is nothing to paint in it", where=file.name)
            if run.dry_run:
                _foretell(batch, found, engine, as_json=run.as_json)
            else:
                _paint(batch, found, engine, watcher)


def _paint(batch: Batch, found: Survey, engine: Engine, watcher: "Progressing") -> None:
    with disk_errors(batch.folder):
        batch.folder.mkdir(parents=True, exist_ok=True)
    check_folder(batch.folder, found.space)
    presence = Presence(batch.folder, share=batch.share)
    try:
        with closing(Journal(batch.folder)) as journal:
            before = journal.count()
            runner = Runner(batch, engine, journal, presence, watcher, found)
            try:
                with watcher.display.opening(", ".join(found.models)):
                    tally = runner.run()
            except BaseException as error:
                watcher.interrupted(runner.tally, error)
                raise
            failures = write_failures(batch.folder, watcher.bad_lines(), journal)
            watcher.finished(tally, before)
    finally:
        presence.leave()
    if tally.failed > 0 or found.bad:
        what = [f"{tally.failed} of {tally.total} pictures failed"] if tally.failed > 0 else []
        what += [f"{len(found.bad)} lines were left out"] if found.bad else []
        where, hint = (
            str(batch.folder / FAILED),
            "the same command with --retry-failed, or with --prompts and this file",
        )
        raise SomeFailed(", ".join(what), where=where if failures else None, hint=hint if tally.failed > 0 else None)


def _own_folder(name: str, command: str) -> Path:
    """Where the pictures go if nobody says: each file has a folder of its own, and so has each command in a pipe."""
    return Path(command if name == "stdin" else Path(name).stem)


def _shard(text: str | None) -> tuple[int, int] | None:
    """What --shard 2/8 means: the second of eight, from 1. Raises BadSetting."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise BadSetting(f"--shard {text!r} means nothing", hint="the first of eight is --shard 1/8")
    return int(number) - 1, int(count)


def _foretell(batch: Batch, found: Survey, engine: Engine, *, as_json: bool) -> None:
    """Say what would be painted, under which names, with how much memory and in how much time."""
    seconds = _seconds_a_picture(batch.folder)
    estimate = None if seconds is None else seconds * found.pictures
    names = [_shown_name(batch, name) for job, recipe in found.first for name in file_names(batch, job, recipe)]
    memory = engine.memory(found.first[0][1]) if found.first else "none"
    if as_json:
        emit_json(
            {
                "folder": str(batch.folder),
                "lines": found.lines,
                "bad": len(found.bad),
                "pictures": found.pictures,
                "models": found.models,
                "names": names[:_SHOWN],
                "memory": memory,
                "seconds": estimate,
            }
        )
        return
    for name in names[:_SHOWN]:
        emit_line(f"{batch.folder / name}")
    if found.pictures > _SHOWN:
        emit_line(f"… {found.pictures} in all")
    models = ", ".join(f"{count} with {safe(model, 60)}" for model, count in found.models.items())
    emit_line(f"pictures: {models if models else 'none'}")
    emit_line(f"memory: {memory}")
    emit_line(f"time: {'known after the first pictures' if estimate is None else _clock(estimate)}")


def _shown_name(batch: Batch, name: str) -> str:
    suffix = FORMATS[batch.format]
    return name if name.endswith(suffix) else f"{name}-…{suffix}"


def _seconds_a_picture(folder: Path) -> float | None:
    """What a picture took in this folder so far, on the average."""
    seconds: list[float] = []
    with suppress(BadOutput):
        for entry in read_journal(folder):
            if entry.status == "done":
                seconds.append(entry.seconds)
            if len(seconds) == _SAMPLE:
                break
    return sum(seconds) / len(seconds) if seconds else None


class Progressing:
    """What the eye and the pipe see of a batch: results on standard output, the rest on standard error."""

    def __init__(self, batch: Batch, run: Run) -> None:
        self.display = BatchDisplay(quiet=run.quiet)
        self.history = History(on=run.history)
        self.batch = batch
        self.run = run
        with disk_errors(Path("temporary files")):
            self._bad = tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n")  # noqa: SIM115  # closed by close

    def close(self) -> None:
        self.display.clear()
        self.history.close()
        self._bad.close()

    def bad(self, line: BadLine) -> None:
        self.display.clear()
        where = line.where(self.batch.file.name)
        if self.run.as_json:
            complain(json.dumps({"error": "BadLine", "what": line.reason, "where": where}))
        else:
            complain(f"{safe(where, 200)}: {safe(line.reason)}")
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

    def checked(self, survey: Survey) -> None:
        self.display.checking(survey.lines)

    def step(self, progress: Progress, tally: Tally) -> None:
        self.display.step(progress, tally)

    def done(self, item: Item, picture: "Picture", path: Path, tally: Tally) -> None:
        self.display.clear()
        self.history.remember(path, picture.recipe, picture.recipe.seed)
        if self.run.as_json:
            emit_json({**picture_record(picture, item.k, path), "line": item.job.line})
        else:
            emit_line(str(path))
        if self.run.preview:
            self.display.preview(picture.image)

    def failed(self, item: Item, error: DalleError, tally: Tally) -> None:
        self.display.clear()
        where = f"{self.batch.file.name}:{item.job.line}"
        if self.run.as_json:
            complain(json.dumps({**error.facts(), "line": item.job.line}))
        else:
            complain(f"{safe(where, 200)}: {safe(error.what)}")

    def interrupted(self, tally: Tally, error: BaseException) -> None:
        """Say how to go on, to whoever is still there."""
        if not (isinstance(error, Stopped) and error.number == SIGPIPE):
            done = tally.there + tally.done
            self.display.say(f"{done} of {tally.total} pictures are done; run the same command again to go on")

    def finished(self, tally: Tally, before: int) -> None:
        """Say what became of everything."""
        facts = [
            f"{tally.done} painted in {_clock(time.monotonic() - tally.began)}",
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

    def checking(self, lines: int) -> None:
        """So many lines have been checked."""
        if self.animated and lines % 1000 == 0:
            if self.bars is None:
                self.tasks["batch"] = self._start_bars().add_task("", total=None, rate="", count="")
            assert self.bars is not None
            self.bars.update(self.tasks["batch"], description=f"checking line {lines}")

    def step(self, progress: Progress, tally: Tally) -> None:
        """One step was done."""
        state = _state(tally)
        if self.animated:
            if "batch" not in self.tasks:
                self.clear()  # what said that the model is being opened
                self.tasks["batch"] = self._start_bars().add_task("", total=tally.total, rate="", count="")
            assert self.bars is not None
            self.bars.update(
                self.tasks["batch"], description=state, completed=tally.total - tally.left, total=tally.total
            )
            self._move_bar(progress)
        elif not self.quiet and time.monotonic() - self.shown >= _pause(tally):
            self.shown = time.monotonic()
            complain(state)


def _pause(tally: Tally) -> float:
    """Seconds between two lines in a log: fewer lines the longer it takes."""
    return min(60.0, max(10.0, (time.monotonic() - tally.began) / 10))


def _state(tally: Tally) -> str:
    left = "" if tally.done == 0 else f", {tally.rate:.2g}/s, {_clock(tally.left / tally.rate)} left"
    failed = f", {tally.failed} failed" if tally.failed else ""
    return f"{tally.total - tally.left} of {tally.total}{left}{failed}"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 60 else f"{seconds:.1f} s"
