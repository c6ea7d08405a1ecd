"""`dalle show`: how a picture was made."""

import io
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dallecli.cli import options
from dallecli.safe import safe
from dallecli.source import STDIN

if TYPE_CHECKING:
    from dallecli.recipe import Inpainting, Recipe
    from dallecli.source import Source

EDGES = ("left", "top", "right", "bottom")


def show(files: options.PictureFiles, json: options.Json = False, debug: options.Debug = False) -> None:
    """Print how pictures were made.

    That is the recipe that each file carries; or of an embedding, what it is of.

    \b
    Examples:
      dalle show a-red-fox-7.png
      dalle show --json pictures/*.png | jq .prompt
      dalle generate "a red fox" -o - | dalle show -
    """
    from dallecli.cli.display import emit, emit_json, emit_rows
    from dallecli.embedding_file import read_embedding
    from dallecli.pictures.picture import read_recipe
    from dallecli.source import read_source

    for k, file in enumerate(files):
        source = read_source(file)
        data = source.data if source.data is not None else b""
        if source.kind == "embedding":
            facts = read_embedding(source).facts()
            told = {**facts, "noise": ", ".join(facts["noise"]) if facts["noise"] else "none"}
            rows = [(name, str(value)) for name, value in told.items()]
        else:
            recipe = read_recipe(io.BytesIO(data), where=file)
            facts, rows = recipe.to_dict(), _rows(recipe, file)
        if json:
            emit_json({"path": file, **facts})
            continue
        if k > 0:
            emit(b"\n")
        emit_rows([("file", file), *rows])


def _rows(recipe: "Recipe", file: str) -> list[tuple[str, str]]:
    rows = [("task", recipe.task), *_subject(recipe)]
    if recipe.dropped:
        rows.append(("not read", " ".join(recipe.dropped)))
    rows += [
        ("model", recipe.model if recipe.digest is None else f"{recipe.model} (sha256 {recipe.digest[:12]}…)"),
        ("seed", _seeds(recipe)),
        ("size", f"{recipe.size} x {recipe.size} pixels"),
    ]
    for name, stage in recipe.stages.items():
        best = f", best of {recipe.prior_candidates}" if name == "prior" and recipe.prior_candidates > 1 else ""
        text = f"{stage.steps} steps, {stage.sampler}, guidance {stage.guidance:g}{best}"
        rows.append((name.replace("_", " "), text))
    if recipe.motion is not None:
        back = ", and back" if recipe.motion.bounce else ""
        rows.append(("moves", f"{recipe.motion.fps:g} frames a second{back}, ends held for {recipe.motion.hold:g} s"))
    rows += [(f"{name} score", f"{score:.3f}") for name, score in recipe.scores.items()]
    made = ", ".join(f"{name} {version}" for name, version in recipe.versions.items())
    where = " ".join(text for text in (recipe.device, recipe.dtype) if text is not None)
    rows.append(("made with", f"{made} on {where}" if where else made))
    again = shlex.join(["dalle", "replay", *(["--"] if file.startswith("-") else []), file])
    # A command that cannot be shown as it is would not do what it shows; and standard input is gone.
    if file != STDIN and safe(again, limit=None) == again:
        rows.append(("again", again))
    return rows


def _subject(recipe: "Recipe") -> list[tuple[str, str]]:
    """What the task was done to, and how."""
    from dallecli.recipe import Editing, Generating, Inpainting, Interpolating, Varying

    rows = [("from", _input(source)) for source in recipe.inputs]
    if recipe.prompt:
        rows.append(("prompt", recipe.prompt))
    settings = recipe.settings
    if isinstance(settings, Generating | Inpainting) and settings.negative:
        rows.append(("away from", settings.negative))
    if isinstance(settings, Generating) and settings.strength is not None:
        rows.append(("strength", f"{settings.strength:g}"))
    elif isinstance(settings, Varying) and settings.fidelity is not None:
        rows.append(("fidelity", f"{settings.fidelity:g}"))
    elif isinstance(settings, Interpolating):
        numbers = settings.positions if settings.positions is not None else settings.weights
        name = "positions" if settings.positions is not None else "weights"
        rows += [(name, _numbers(numbers if numbers is not None else ())), ("noise", settings.noise)]
    elif isinstance(settings, Inpainting):
        rows += _mask(settings)
    elif isinstance(settings, Editing):
        rows += [("away from", settings.before), ("towards", settings.after)]
        rows.append(("strength", _numbers(settings.strengths)))
    return rows


def _mask(settings: "Inpainting") -> list[tuple[str, str]]:
    mask, edges = settings.mask, settings.expand
    rows = []
    if mask is not None:
        parts = [_input(file) for file in mask.files] + [f"box {','.join(map(str, box))}" for box in mask.boxes]
        text = " and ".join(parts) if parts else "where it is transparent"
        how = f", by {mask.mode}" if mask.files else ""
        rows.append(("mask", f"{text}{how}{', inverted' if mask.invert else ''}"))
    if edges:
        rows.append(("expanded", ", ".join(f"{name} {getattr(edges, name)}" for name in EDGES if getattr(edges, name))))
    return [*rows, ("resampled", f"{settings.resample} times a step")]


def _input(source: "Source") -> str:
    if source.kind == "text":
        return f'the words "{source.name}"'
    name = "standard input" if source.name == STDIN else source.name
    return f"{name} (sha256 {source.sha256[:12]}…)" if source.sha256 is not None else name


def _numbers(numbers: "Sequence[float]") -> str:
    return ", ".join(f"{number:.3g}" for number in numbers)


def _seeds(recipe: "Recipe") -> str:
    from dallecli.recipe import Generating

    settings = recipe.settings
    if isinstance(settings, Generating) and settings.best_of is not None:
        kept = ", ".join(map(str, settings.kept if settings.kept is not None else ()))
        return f"{kept}: the best of {settings.best_of} from {recipe.seed} on"
    if recipe.count == 1:
        return str(recipe.seed)
    if recipe.single(0).seed == recipe.single(1).seed:
        return f"{recipe.seed}, {recipe.count} pictures"
    return f"{recipe.seed} to {recipe.seed + recipe.count - 1}, {recipe.count} pictures"
