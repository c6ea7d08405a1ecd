"""From requests to files on the disk and lines on the terminal: what every painting command does in the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.cli.display import SIGPIPE, Display, Stopped, clock, emit, emit_json, emit_line
from dallecli.cli.many import Many
from dallecli.cli.options import PaintingReporting, PictureReporting
from dallecli.cli.output import Output
from dallecli.cli.preview import Glimpses
from dallecli.cli.results import note
from dallecli.cli.run import parts_of
from dallecli.cli.saving import Written, probe, save
from dallecli.cli.viewer import show_in_viewer
from dallecli.engine import Engine, Progress
from dallecli.history import History
from dallecli.recipe import Recipe
from dallecli.safe import safe
from dallecli.tasks.generate import Generate
from dallecli.tasks.task import Request
from dallecli.unknown import unknown_notices

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture
    from dallecli.shortlist import Scores


def paint_all(
    requests: Sequence[Request], output: Output, engine: Engine, reporting: PaintingReporting, many: Many
) -> None:
    """Resolve every request, make sure that the results can be written, and only then paint, one after the other.

    A dry run only says what would be painted. Raises SomeFailed at the end if one of many was bad.
    """
    recipes = many.each(engine.resolve, requests, _called)
    if reporting.dry_run:
        describe(recipes, engine, reporting)
        many.finish()
        return
    display = Display(quiet=reporting.quiet)
    probe([(recipe, output) for recipe in recipes], display)
    _warn_of_words(recipes, display)
    say_rewritten(recipes, display)
    warn(recipes, display)
    say_passes(recipes, display)
    if output.notice is not None:
        display.say(output.notice)
    began = time.perf_counter()
    finished: list[Written] = []
    with closing(History(on=not reporting.no_history)) as history, running(recipes, display):
        painted: list[Recipe] = []
        engine.expect(recipes)
        for recipe in recipes:
            with many.passing_over(recipe.title):
                finished += paint(engine, recipe, output, display, history, reporting)
                painted.append(recipe)
    paths = [written.path for written in finished]
    if painted:
        display.say(summary(painted, paths, time.perf_counter() - began))
    if reporting.open:
        show_in_viewer(paths, display)
    many.finish()


def _called(request: Request) -> str:
    """What a request is called before it is settled: its files, or its words."""
    files = [source.where for source in request.sources if source.kind != "text"]
    named = request.class_name if isinstance(request, Generate) and request.class_name is not None else ""
    return ", ".join(files if files else request.texts if request.texts else [named])


def describe(recipes: Sequence[Recipe], engine: Engine, reporting: PaintingReporting) -> None:
    """Say what would be painted with how much memory."""
    for recipe in recipes:
        needed = engine.memory(recipe)
        if reporting.json:
            emit_json({"recipe": recipe.to_dict(), "memory": needed, "unknown": recipe.unknown.to_dict()})
        else:
            what = f"{counted(recipe.count, 'picture')} of {recipe.picture_size.stated} px"
            what += f" out of {recipe.size.stated}" if recipe.crop is not None else ""
            what += f", seed {recipe.seed}, {safe(recipe.model, 60)}{_chosen(recipe)}"
            emit_line(f"{safe(repr(recipe.title), 60)}: {what}; memory: {needed}")
    display = Display(quiet=reporting.quiet)
    warn(recipes, display)
    say_passes(recipes, display)


def _chosen(recipe: Recipe) -> str:
    """Of how many pictures these are the best, and who says so; "" where all are kept."""
    best_of, judge = recipe.settings.best_of, recipe.settings.judge
    if best_of is None:
        return ""
    return f", the best of {best_of}" + (f" by {safe(judge, 60)}" if judge is not None else "")


def running(recipes: Sequence[Recipe], display: Display) -> AbstractContextManager[None]:
    """Show how far the painting of all these recipes is."""
    models = ", ".join(dict.fromkeys(recipe.model for recipe in recipes))
    return display.running(models, [part for recipe in recipes for part in parts_of(recipe)])


def summary(recipes: Sequence[Recipe], paths: Sequence[Path | None], seconds: float) -> str:
    """What was painted, by which model, where it is, and how long it took, in one line."""
    count = sum(recipe.count for recipe in recipes)
    noun = "frame" if all(recipe.settings.has_frames for recipe in recipes) else "picture"
    models = ", ".join(safe(model, 60) for model in dict.fromkeys(recipe.model for recipe in recipes))
    seed = f", seed {recipes[0].seed}" if len(recipes) == 1 else ""
    return f"{counted(count, noun)} in {clock(seconds)} ({models}{seed}): {places(paths)}"


def counted(count: int, noun: str) -> str:
    """A number of things: 1 picture, 2 pictures."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def places(paths: Sequence[Path | None]) -> str:
    """Where results went: None is standard output."""
    files = [path for path in paths if path is not None]
    if len(files) < 2:
        return safe(str(files[0]), 200) if files else "on standard output"
    folders = {path.parent for path in files}
    if len(folders) > 1:
        return f"{len(files)} files"
    (folder,) = folders
    return f"{len(files)} files in {'this folder' if folder == Path() else safe(str(folder), 200)}"


def paint(
    engine: Engine,
    recipe: Recipe,
    output: Output,
    display: Display,
    history: History,
    reporting: PictureReporting,
) -> list[Written]:
    """Paint a recipe that an engine has resolved or revived, and write and announce the results: inside `running`."""
    finished: list[Written] = []

    def done(written: Written) -> None:
        finished.append(written)
        display.clear()
        if not written.repeats:
            note(written.path)
        if written.path is not None:
            history.remember(written.path, recipe, written.records[0]["seed"])
        announce(written, as_json=reporting.json)
        if reporting.preview:
            display.preview(written.image)

    scores = _scores(engine, recipe, display)
    try:
        watch = Glimpses(display).progress if reporting.preview else display.progress
        save(recipe, _pictures(engine, recipe, display, watch, scores), output, done)
    except BaseException as error:
        kept = sum(len(written.records) for written in finished if written.path is not None)
        # A reader that left (`| head`) has seen enough: nothing more is said.
        unread = isinstance(error, Stopped) and error.number == SIGPIPE
        if kept > 0 and not unread:
            display.warn(f"{kept} of {recipe.count} pictures of {safe(repr(recipe.title), 60)} were finished and kept")
        if scores is not None and scores.lasts and scores.known and not unread:
            again = f"the same command with --seed {recipe.seed} goes on"
            display.warn(f"{len(scores.known)} of {recipe.settings.best_of} pictures are scored: {again}")
        raise
    if scores is not None:
        scores.remove()
    return finished


def _pictures(
    engine: Engine,
    recipe: Recipe,
    display: Display,
    watch: Callable[[Progress], None],
    scores: "Scores | None",
) -> Iterator["Picture"]:
    """The pictures of a recipe. Of a best-of with a known outcome only those that were kept are painted again."""
    if recipe.settings.kept is not None:
        for k in range(recipe.count):
            display.begin()
            yield from engine.paint(recipe.single(k), watch)
        return
    display.begin()
    yield from engine.paint(recipe, watch) if scores is None else engine.paint(recipe, watch, scores)


def _scores(engine: Engine, recipe: Recipe, display: Display) -> "Scores | None":
    """The scores of a best-of that an earlier run has left; None for what is no best-of."""
    if recipe.settings.best_of is None or recipe.settings.kept is not None:
        return None
    from dallecli.batch.scores import own_scores

    whole = replace(recipe, digest=engine.digest(recipe))
    scores = own_scores(whole.judged(recipe.settings.judge, engine.judge_digest(recipe)))
    if scores.known:
        display.say(f"{len(scores.known)} of {recipe.settings.best_of} pictures were scored before")
    return scores


def announce(written: Written, *, as_json: bool) -> None:
    """Say on standard output what was written; or write it there."""
    if written.path is None:
        emit(written.data)
    elif as_json:
        for record in written.records:
            emit_json(record)
    else:
        emit_line(str(written.path))


def _warn_of_words(recipes: Sequence[Recipe], display: Display) -> None:
    """Say that the quotes around a sentence were perhaps forgotten."""
    if len(recipes) > 1 and all(recipe.task == "generate" and len(recipe.prompt.split()) == 1 for recipe in recipes):
        display.warn(f"{len(recipes)} prompts of one word each; put a sentence into quotes to paint it as one")


def warn(recipes: Sequence[Recipe], display: Display) -> None:
    """Say what somebody should know before pictures are painted that are perhaps not what was meant."""
    for recipe in recipes:
        for notice in recipe.notices:
            display.warn(safe(notice, 300))
    for notice in unknown_notices(recipes):
        display.warn(safe(notice, 400))


def say_rewritten(recipes: Sequence[Recipe], display: Display) -> None:
    """Say what is painted instead of what was asked for, each sentence once."""
    changed = [recipe for recipe in recipes if recipe.rewritten is not None]
    if not changed:
        return
    from dallecli.rewriting.engine import say

    for line in dict.fromkeys(line for recipe in changed for line in say(recipe)):
        display.say(line)


def say_passes(recipes: Sequence[Recipe], display: Display) -> None:
    """Say that painting takes several times as long, and why, where steps are taken more than once."""
    passes = max((recipe.settings.passes for recipe in recipes), default=1)
    if passes > 1:
        why = "so that the new part fits the old one"
        display.say(f"each step is taken {passes} times, {why}: about {passes} times as long as with --resample 1")
