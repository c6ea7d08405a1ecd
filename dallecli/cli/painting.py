"""From requests to files on the disk and lines on the terminal: what every painting command does in the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from dallecli.cli.display import SIGPIPE, Display, Stopped, emit, emit_json, emit_line
from dallecli.cli.options import PaintingReporting, PictureReporting
from dallecli.cli.output import Output
from dallecli.cli.saving import Written, probe, save
from dallecli.cli.viewer import show_in_viewer
from dallecli.engine import Engine
from dallecli.history import History
from dallecli.recipe import Recipe
from dallecli.safe import safe
from dallecli.tasks.task import Request
from dallecli.unknown import unknown_notices

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture


def paint_all(requests: Sequence[Request], output: Output, engine: Engine, reporting: PaintingReporting) -> None:
    """Resolve every request, make sure that the results can be written, and only then paint, one after the other.

    A dry run only says what would be painted.
    """
    recipes = [engine.resolve(request) for request in requests]
    if reporting.dry_run:
        describe(recipes, engine, reporting)
        return
    display = Display(quiet=reporting.quiet)
    probe([(recipe, output) for recipe in recipes], display)
    warn(recipes, display)
    if output.notice is not None:
        display.say(output.notice)
    with closing(History(on=not reporting.no_history)) as history:
        finished = [
            written for recipe in recipes for written in paint(engine, recipe, output, display, history, reporting)
        ]
    if reporting.open:
        show_in_viewer([written.path for written in finished], display)


def describe(recipes: Sequence[Recipe], engine: Engine, reporting: PaintingReporting) -> None:
    """Say what would be painted with how much memory."""
    for recipe in recipes:
        needed = engine.memory(recipe)
        if reporting.json:
            emit_json({"recipe": recipe.to_dict(), "memory": needed, "unknown": recipe.unknown.to_dict()})
        else:
            pictures = "1 picture" if recipe.count == 1 else f"{recipe.count} pictures"
            what = f"{pictures} of {recipe.size} px, seed {recipe.seed}, {safe(recipe.model, 60)}"
            emit_line(f"{safe(repr(recipe.title), 60)}: {what}; memory: {needed}")
    warn(recipes, Display(quiet=reporting.quiet))


def paint(
    engine: Engine,
    recipe: Recipe,
    output: Output,
    display: Display,
    history: History,
    reporting: PictureReporting,
) -> list[Written]:
    """Paint a recipe that an engine has resolved or revived, and write and announce the results."""
    start = time.perf_counter()
    finished: list[Written] = []

    def done(written: Written) -> None:
        finished.append(written)
        display.clear()
        if written.path is not None:
            history.remember(written.path, recipe, written.records[0]["seed"])
        announce(written, as_json=reporting.json)
        if reporting.preview:
            display.preview(written.image)

    try:
        with display.opening(recipe.model):
            save(recipe, _pictures(engine, recipe, display), output, done)
    except BaseException as error:
        kept = sum(len(written.records) for written in finished if written.path is not None)
        # A reader that left (`| head`) has seen enough: nothing more is said.
        unread = isinstance(error, Stopped) and error.number == SIGPIPE
        if kept > 0 and not unread:
            display.warn(f"{kept} of {recipe.count} pictures of {safe(repr(recipe.title), 60)} were finished and kept")
        raise
    seconds = time.perf_counter() - start
    plural = "picture" if recipe.count == 1 else "pictures"
    display.note(f"{recipe.count} {plural} in {seconds:.1f} s: {safe(recipe.model, 60)}, seed {recipe.seed}")
    return finished


def _pictures(engine: Engine, recipe: Recipe, display: Display) -> Iterator["Picture"]:
    """The pictures of a recipe. Of a best-of with a known outcome only those that were kept are painted again."""
    if recipe.settings.kept is not None:
        for k in range(recipe.count):
            yield from engine.paint(recipe.single(k), display.progress)
    else:
        yield from engine.paint(recipe, display.progress)


def announce(written: Written, *, as_json: bool) -> None:
    """Say on standard output what was written; or write it there."""
    if written.path is None:
        emit(written.data)
    elif as_json:
        for record in written.records:
            emit_json(record)
    else:
        emit_line(str(written.path))


def warn(recipes: Sequence[Recipe], display: Display) -> None:
    """Say what somebody should know before pictures are painted that are perhaps not what was meant."""
    if len(recipes) > 1 and all(recipe.task == "generate" and len(recipe.prompt.split()) == 1 for recipe in recipes):
        display.warn(f"{len(recipes)} prompts of one word each; put a sentence into quotes to paint it as one")
    for recipe in recipes:
        for notice in recipe.notices:
            display.warn(safe(notice, 300))
    for notice in unknown_notices(recipes):
        display.warn(safe(notice, 400))
