"""A picture as a command: what paints it again in a shell.

A sentence that became a picture is `dalle generate` with the dials that differ from the model's own; it is only said if
that request has exactly the recipe of the picture. Everything else is `dalle replay` of the file.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from dallecli.engine import Engine
from dallecli.errors import DalleError
from dallecli.recipe import Recipe
from dallecli.server.gallery import INPUTS
from dallecli.tasks.builder import build_request
from dallecli.weights.registry import find

_PREFIXES: Final = {"prior": "prior_", "decoder": "", "upsampler": "upsampler_"}


def replay_of(path: Path, model: str | None = None) -> str:
    """The command that paints the picture in a file again; `model` is where its model is, if that has no name."""
    inputs = path.parent / INPUTS
    more = ["--input", str(inputs)] if inputs.is_dir() else []
    return shlex.join(["dalle", "replay", str(path), *more, *(["--model", model] if model is not None else [])])


def generate_of(engine: Engine, recipe: Recipe, model: str, defaults: Mapping[str, object]) -> str | None:
    """The command that paints a picture of words again; None where no such command has the same recipe.

    model: what an engine calls it. defaults: what the owner of the server has set for all requests.
    """
    if recipe.task != "generate" or recipe.inputs or recipe.settings.best_of is not None:
        return None
    name = recipe.settings.class_name
    subject = {"prompt": recipe.prompt} if recipe.prompt else {"class": name} if name is not None else {}
    values: dict[str, object] = {**subject, "model": model, "seed": recipe.seed, **defaults}
    try:
        plain = engine.resolve(build_request("generate", values))
        values |= _differing(plain, recipe)
        found = engine.resolve(build_request("generate", values))
    except DalleError:
        return None
    return _written(values) if _same(found, recipe) else None


def _differing(plain: Recipe, recipe: Recipe) -> dict[str, object]:
    """The values that make the one recipe of the other."""
    declared = {stage.name: stage.group for stage in find(recipe.model).declared}
    found: dict[str, object] = {}
    for name, stage in recipe.stages.items():
        own = asdict(plain.stages[name]) if name in plain.stages else {}
        for dial, value in asdict(stage).items():
            if name in declared and own.get(dial) != value:
                found[f"{_PREFIXES[declared[name]]}{dial}"] = value
    pairs = (
        ("size", recipe.picture_size.stated, plain.picture_size.stated),
        ("prior", recipe.prior, plain.prior),
        ("prior_candidates", recipe.prior_candidates, plain.prior_candidates),
        ("negative", recipe.settings.negative, plain.settings.negative),
    )
    return found | {name: value for name, value, own in pairs if value != own}


def _same(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes paint the same, as far as requests decide it."""
    return _painted(one) == _painted(other)


def _painted(recipe: Recipe) -> Recipe:
    settings = recipe.settings.judged(None, None)
    plain = replace(recipe, settings=settings, versions={}, scores={}, dropped=())
    return replace(plain, digest=None, device=None, dtype=None, threads=None, together=None, compiled=None)


def _written(values: Mapping[str, object]) -> str:
    """The command line of some values."""
    options = []
    for name, value in values.items():
        if name != "prompt" and (name, value) != ("model", "starter"):
            options.append(f"--{name.replace('_', '-')}={value}")
    prompt = [str(values["prompt"])] if "prompt" in values else []
    marked = ["--", *prompt] if prompt and prompt[0].startswith("-") else []
    return shlex.join(["dalle", "generate", *options, *marked] if marked else ["dalle", "generate", *prompt, *options])
