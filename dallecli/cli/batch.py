"""`--prompts`: what the commands do with a prompt file."""

from collections.abc import Mapping
from contextlib import ExitStack, closing, nullcontext, suppress
from pathlib import Path
from typing import Final, cast

from dallecli.batch.execution import Executor
from dallecli.batch.item import file_names
from dallecli.batch.jobs import Reader
from dallecli.batch.journal import NAME as JOURNAL
from dallecli.batch.journal import Journal, read_journal
from dallecli.batch.presence import Presence
from dallecli.batch.prompt_file import STDIN, PromptFile
from dallecli.batch.rewritings import RewritingsFile
from dallecli.batch.runner import FAILED, Batch, Runner, Survey, survey, write_failures
from dallecli.batch.wildcards import Wildcards
from dallecli.cli.batch_progress import Progressing
from dallecli.cli.destination import make_folder
from dallecli.cli.display import clock, emit_json, emit_line
from dallecli.cli.options import BatchOptions, OutputOptions, PaintingOptions
from dallecli.cli.painting import say_passes
from dallecli.cli.rewriting import announce, unasked
from dallecli.cli.viewer import show_in_viewer
from dallecli.engine import Engine
from dallecli.errors import BadOutput, BadPromptFile, BadSetting, SomeFailed
from dallecli.pictures.formats import FORMATS
from dallecli.publish import check_folder, disk_errors
from dallecli.rewriting.engine import RewritingEngine
from dallecli.safe import safe

PLAIN: Final[Mapping[str, str]] = {"vary": "image", "inpaint": "image", "edit": "image"}
"""What a line of a text file is for a task; for others it is a prompt."""

_SHOWN = 10
_SAMPLE = 200


def paint_file(task: str, values: Mapping[str, object], painting: PaintingOptions) -> None:
    """Paint every line of a prompt file; `values` are for what a line does not say."""
    options, reporting = painting.batch, painting.reporting
    rewriter = painting.rewriting.rewriter()
    if rewriter is not None:
        _check_together(options)
        announce(rewriter, painting)
    path = options.file if options.file is not None else STDIN
    with ExitStack() as stack:
        file = stack.enter_context(closing(PromptFile(path, PLAIN.get(task, "prompt"))))
        if task == "interpolate" and file.kind == "txt":
            hint = """use a .jsonl file, with lines such as {"ends": ["cat.png", "a dog"]}"""
            raise BadPromptFile("a line of a text file is one end, and it takes two", file.name, hint)
        batch = _batch(task, values, file, options, painting.output)
        watcher = stack.enter_context(closing(Progressing(batch, reporting)))
        engine = stack.enter_context(painting.opened_engine())
        looking = engine if rewriter is None else unasked(engine)
        journal = None
        if rewriter is None and not reporting.dry_run and (batch.folder / JOURNAL).is_file():
            journal = stack.enter_context(closing(Journal(batch.folder)))
        found = stack.enter_context(closing(survey(batch, looking, watcher, _SHOWN, journal=journal)))
        watcher.display.clear()
        say_passes([recipe for _, recipe in found.first], watcher.display)
        if found.bad and not options.keep_going:
            count = f"{len(found.bad)} of {found.lines} lines"
            hint = "--keep-going leaves such lines out"
            raise BadPromptFile(f"{count} cannot be painted, so nothing was", where=file.name, hint=hint)
        if found.pictures == 0 and not found.bad:
            raise BadPromptFile("there is nothing to paint in it", where=file.name)
        if reporting.dry_run:
            _describe(batch, found, engine, as_json=reporting.json)
        else:
            executor = _executor(batch, found, engine)
            if painting.output.out is not None:
                make_folder(batch.folder, watcher.display)
            if rewriter is not None:
                with disk_errors(batch.folder):
                    batch.folder.mkdir(parents=True, exist_ok=True)
                rewriter.notes = stack.enter_context(closing(RewritingsFile(batch.folder)))
                tell = watcher.display.warn
                engine = cast(Engine, RewritingEngine(engine, rewriter, lambda text: tell(safe(text))))
            _paint(batch, found, engine, watcher, executor, journal)


def _check_together(options: BatchOptions) -> None:
    """Parts are told by what is painted, and each part would be given other words. Raises BadSetting."""
    if options.part is not None:
        what = "--shard divides the work by what is painted, which nobody knows before it is rewritten"
        raise BadSetting(what, hint="--share divides it among processes that paint into one folder")


def _batch(
    task: str, values: Mapping[str, object], file: PromptFile, options: BatchOptions, output: OutputOptions
) -> Batch:
    beside = Path() if file.name == "stdin" else Path(file.name).parent
    reader = Reader(
        command=task,
        defaults=values,
        wildcards=Wildcards(options.wildcards if options.wildcards is not None else beside),
        matrix=options.matrix,
    )
    return Batch(
        file=file,
        reader=reader,
        folder=output.out if output.out is not None else _own_folder(file.name, task),
        format=output.format if output.format is not None else "png",
        metadata=not output.no_metadata,
        force=output.force,
        keep_going=options.keep_going,
        retry_failed=options.retry_failed,
        share=options.share or options.part is not None,
        shard=options.part,
    )


def _executor(batch: Batch, found: Survey, engine: Engine) -> Executor | None:
    """Who paints besides the engine; None if it does. Raises what is wrong with a cluster."""
    from dallecli.cluster.engine import ClusterEngine

    if not isinstance(engine, ClusterEngine):
        return None
    return engine.executor(list(found.kinds.values()), format=batch.format, metadata=batch.metadata)


def _paint(
    batch: Batch,
    found: Survey,
    engine: Engine,
    watcher: Progressing,
    executor: Executor | None,
    journal: Journal | None,
) -> None:
    with disk_errors(batch.folder):
        batch.folder.mkdir(parents=True, exist_ok=True)
    check_folder(batch.folder, found.space)
    presence = Presence(batch.folder, share=batch.share)
    try:
        with nullcontext(journal) if journal is not None else closing(Journal(batch.folder)) as journal:
            journal.catch_up()  # until we were alone here, another process may have gone on
            before = journal.count()
            runner = Runner(batch, engine, journal, presence, watcher, found, executor)
            try:
                with watcher.display.running(", ".join(found.models)):
                    tally = runner.run()
            except BaseException as error:
                watcher.interrupted(runner.tally, error)
                raise
            failures = write_failures(batch.folder, watcher.bad_lines(), journal)
            watcher.finished(tally, before)
            if watcher.reporting.open:
                show_in_viewer([batch.folder], watcher.display)
    finally:
        presence.leave()
    if tally.failed > 0 or tally.left > 0 or found.bad:
        what = [f"{tally.failed} of {tally.total} pictures failed"] if tally.failed > 0 else []
        what += [f"{tally.left} of {tally.total} pictures are missing"] if tally.left > 0 else []
        what += [f"{len(found.bad)} lines were left out"] if found.bad else []
        where, hint = (
            str(batch.folder / FAILED),
            "the same command with --retry-failed, or with --prompts and this file",
        )
        raise SomeFailed(", ".join(what), where=where if failures else None, hint=hint if tally.failed > 0 else None)


def _own_folder(name: str, task: str) -> Path:
    """Where the pictures go if nobody says: each file has a folder of its own, and so has each command in a pipe."""
    return Path(task if name == "stdin" else Path(name).stem)


def _describe(batch: Batch, found: Survey, engine: Engine, *, as_json: bool) -> None:
    """Say what would be painted, under which names, with how much memory and in how much time."""
    seconds = _seconds_a_picture(batch.folder)
    estimate = None if seconds is None else seconds * found.pictures
    names = [_shown_name(batch, name) for job, recipe in found.first for name in file_names(batch.format, job, recipe)]
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
    emit_line(f"time: {'known after the first pictures' if estimate is None else clock(estimate)}")


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
