"""From requests to files on the disk and lines on the terminal: what every painting command does after its options."""

import time
from collections.abc import Sequence

from dallecli.cli.display import SIGPIPE, Display, Stopped, emit, emit_json, emit_line
from dallecli.cli.output import Output, Written, probe, save
from dallecli.cli.settings import choose_engine
from dallecli.engine import Engine
from dallecli.recipe import Recipe
from dallecli.request import Request
from dallecli.safe import safe


def paint_all(requests: Sequence[Request], output: Output, *, preview: bool, as_json: bool, quiet: bool) -> None:
    """Resolve every request, make sure that the results can be written, and only then paint, one after the other."""
    display = Display(quiet=quiet)
    engine = choose_engine()
    recipes = [engine.resolve(request) for request in requests]
    probe(output, recipes)
    _warn(recipes, display)
    for recipe in recipes:
        _paint(engine, recipe, output, display, preview=preview, as_json=as_json)


def _paint(engine: Engine, recipe: Recipe, output: Output, display: Display, *, preview: bool, as_json: bool) -> None:
    start = time.perf_counter()
    finished = 0

    def done(written: Written) -> None:
        nonlocal finished
        finished += len(written.records) if written.path is not None else 0
        display.clear()
        _announce(written, as_json=as_json)
        if preview:
            display.preview(written.image)

    try:
        with display.painting(recipe):
            save(recipe, engine.paint(recipe, display.progress), output, done)
    except BaseException as error:
        # A reader that left (`| head`) has seen enough: nothing more is said.
        unread = isinstance(error, Stopped) and error.number == SIGPIPE
        if finished > 0 and not unread:
            display.warn(
                f"{finished} of {recipe.count} pictures of {safe(repr(recipe.prompt), 60)} were finished and kept"
            )
        raise
    seconds = time.perf_counter() - start
    plural = "picture" if recipe.count == 1 else "pictures"
    display.note(f"{recipe.count} {plural} in {seconds:.1f} s: {safe(recipe.model, 60)}, seed {recipe.seed}")


def _announce(written: Written, *, as_json: bool) -> None:
    if written.data is not None:
        emit(written.data)
    elif as_json:
        for record in written.records:
            emit_json(record)
    else:
        emit_line(str(written.path))


def _warn(recipes: Sequence[Recipe], display: Display) -> None:
    if len(recipes) > 1 and all(len(recipe.prompt.split()) == 1 for recipe in recipes):
        display.warn(f"{len(recipes)} prompts of one word each; put a sentence into quotes to paint it as one")
    for recipe in recipes:
        if recipe.dropped:
            words = safe(" ".join(recipe.dropped), 200)
            display.warn(f"{safe(recipe.model, 60)} reads no further than this; dropped: {words}")
