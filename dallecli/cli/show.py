"""`dalle show`: how a picture was made."""

import io
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.cli import options
from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.recipe import Recipe


def show(files: options.PictureFiles, json: options.Json = False, debug: options.Debug = False) -> None:
    """Print how pictures were made: the recipe that each file carries.

    \b
    Examples:
      dalle show a-red-fox-7.png
      dalle show --json pictures/*.png | jq .prompt
      dalle generate "a red fox" -o - | dalle show -
    """
    from dallecli.cli.display import emit, emit_json, emit_rows
    from dallecli.picture import read_recipe
    from dallecli.source import FILE_BYTES

    for k, file in enumerate(files):
        recipe = read_recipe(io.BytesIO(sys.stdin.buffer.read(FILE_BYTES)) if file == "-" else Path(file))
        if json:
            emit_json({"path": file, **recipe.to_dict()})
            continue
        if k > 0:
            emit(b"\n")
        emit_rows([("file", file), *_rows(recipe)])


def _rows(recipe: "Recipe") -> list[tuple[str, str]]:
    last = recipe.seed + recipe.count - 1
    rows = [("prompt", recipe.prompt)]
    if recipe.dropped:
        rows.append(("not read", " ".join(recipe.dropped)))
    rows += [
        ("model", recipe.model if recipe.digest is None else f"{recipe.model} (sha256 {recipe.digest[:12]}…)"),
        ("seed", str(recipe.seed) if recipe.count == 1 else f"{recipe.seed} to {last}, {recipe.count} pictures"),
        ("size", f"{recipe.size} x {recipe.size} pixels"),
    ]
    for name, stage in recipe.stages.items():
        best = f", best of {recipe.prior_candidates}" if name == "prior" and recipe.prior_candidates > 1 else ""
        text = f"{stage.steps} steps, {stage.sampler}, guidance {stage.guidance:g}{best}"
        rows.append((name.replace("_", " "), text))
    made = ", ".join(f"{name} {version}" for name, version in recipe.versions.items())
    where = " ".join(text for text in (recipe.device, recipe.dtype) if text is not None)
    rows.append(("made with", f"{made} on {where}" if where else made))
    again = shlex.join(_command(recipe))
    # A command that cannot be shown as it is would not do what it shows.
    if safe(again, limit=None) == again:
        rows.append(("again", again))
    return rows


def _command(recipe: "Recipe") -> list[str]:
    """The command line that paints this recipe."""
    words = ["dalle", "generate", "-m", recipe.model, "-s", str(recipe.seed), "-n", str(recipe.count)]
    words += ["--size", str(recipe.size), "--prior-candidates", str(recipe.prior_candidates)]
    for name, stage in recipe.stages.items():
        if name == "prior":
            words += ["--prior-steps", str(stage.steps), "--prior-guidance", f"{stage.guidance:g}"]
        elif name == "decoder":
            words += ["--steps", str(stage.steps), "--guidance", f"{stage.guidance:g}", "--sampler", stage.sampler]
    steps = {stage.steps for name, stage in recipe.stages.items() if name.startswith("upsampler")}
    if len(steps) == 1:  # with several, they are the model's own: one option sets them all
        words += ["--upsampler-steps", str(steps.pop())]
    return [*words, "--", recipe.prompt]
