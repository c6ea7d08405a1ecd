"""`dalle show`: how a picture was made."""

import shlex
from typing import TYPE_CHECKING, Any

from dallecli.cli import options
from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.recipe import Recipe


def show(files: options.PictureFiles, json: options.Json = False, debug: options.Debug = False) -> None:
    """Print how pictures were made.

    That is the recipe that each file carries; or of an embedding or codes, what they are of.

    \b
    Examples:
      dalle show a-red-fox-7.png
      dalle show --json pictures/*.png | jq .prompt
      dalle generate "a red fox" -o - | dalle show -
    """
    from dallecli.cli.display import Display, emit, emit_json, emit_rows
    from dallecli.cli.many import Many

    many = Many(len(files), Display(quiet=False), as_json=json)
    shown = 0
    for file in files:
        with many.passing_over(file):
            facts, rows = _told(file)
            if json:
                emit_json({"path": file, **facts})
                continue
            if shown > 0:
                emit(b"\n")
            shown += 1
            emit_rows([("file", file), *rows])
    many.finish()


def _told(file: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """What a file says of itself: everything for programs, and rows for people."""
    from dallecli.codes_file import is_codes, read_codes
    from dallecli.embedding_file import read_embedding
    from dallecli.pictures.metadata import read_recipe
    from dallecli.source import read_source

    source = read_source(file)
    if source.kind == "embedding" and is_codes(source):
        facts = read_codes(source).facts()
        return facts, [(name, str(value)) for name, value in facts.items()]
    if source.kind == "embedding":
        facts = read_embedding(source).facts()
        told = {**facts, "noise": ", ".join(facts["noise"]) if facts["noise"] else "none"}
        return facts, [(name, str(value)) for name, value in told.items()]
    recipe = read_recipe(source.data if source.data is not None else b"", where=file)
    return recipe.to_dict(), _rows(recipe, file)


def _rows(recipe: "Recipe", file: str) -> list[tuple[str, str]]:
    from dallecli.tasks.stages import NO_PRIOR

    rows = [("task", recipe.task), *_subject(recipe)]
    if recipe.dropped:
        rows.append(("not read", " ".join(recipe.dropped)))
    rows += [
        ("model", recipe.model if recipe.digest is None else f"{recipe.model} (sha256 {recipe.digest[:12]}…)"),
        ("seed", _seeds(recipe)),
        ("size", _size(recipe)),
    ]
    if recipe.prior == NO_PRIOR:
        rows.append(("prior", "none: the text embedding was painted"))
    rows += [(name.replace("_", " "), _dials(recipe, name)) for name in recipe.stages]
    if recipe.motion is not None:
        back = ", and back" if recipe.motion.bounce else ""
        rows.append(("moves", f"{recipe.motion.fps:g} frames a second{back}, ends held for {recipe.motion.hold:g} s"))
    rows += [(f"{name} score", f"{score:.3f}") for name, score in recipe.scores.items()]
    from dallecli.source import STDIN

    rows.append(("made with", recipe.made_with))
    again = shlex.join(["dalle", "replay", *(["--"] if file.startswith("-") else []), file])
    # A command that cannot be shown as it is would not do what it shows; and standard input is gone.
    if file != STDIN and safe(again, limit=None) == again:
        rows.append(("again", again))
    return rows


def _size(recipe: "Recipe") -> str:
    """The size, and of what it was cut out."""
    size, whole = recipe.picture_size, recipe.size
    cut = "" if recipe.crop is None else f", the middle of {whole.width} x {whole.height}"
    return f"{size.width} x {size.height} pixels{cut}"


def _subject(recipe: "Recipe") -> list[tuple[str, str]]:
    """What the task was done to, and how."""
    rows = [("from", source.described()) for source in recipe.inputs]
    if recipe.rewritten is not None:
        rows += [("asked for", sentence.asked) for sentence in recipe.rewritten.sentences]
        rows.append(("rewritten by", recipe.rewritten.by))
    if recipe.prompt:
        rows.append(("prompt", recipe.prompt))
    return rows + recipe.settings.rows()


def _dials(recipe: "Recipe", name: str) -> str:
    """The dials of a stage, in words."""
    from dallecli.tasks.stages import PRIORS, written

    facts = written(recipe.stages[name])
    parts = [f"{facts.pop('steps')} steps", facts.pop("sampler")] if "steps" in facts else []
    parts += [f"{dial.replace('_', '-')} {value:g}" for dial, value in facts.items()]
    if (
        name in [stage.name for stage in PRIORS.values()]
        and recipe.prior_candidates is not None
        and recipe.prior_candidates > 1
    ):
        parts.append(f"best of {recipe.prior_candidates}")
    return ", ".join(parts)


def _seeds(recipe: "Recipe") -> str:
    settings = recipe.settings
    if settings.best_of is not None:
        kept = ", ".join(map(str, settings.kept if settings.kept is not None else ()))
        return f"{kept}: the best of {settings.best_of} from {recipe.seed} on"
    if recipe.count == 1:
        return str(recipe.seed)
    if recipe.single(0).seed == recipe.single(1).seed:
        return f"{recipe.seed}, {recipe.count} pictures"
    return f"{recipe.seed} to {recipe.seed + recipe.count - 1}, {recipe.count} pictures"
