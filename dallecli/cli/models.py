"""`dalle models`: what can be painted with, and where it lies."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dallecli.cli import options
from dallecli.cli.help import SectionedCommand

if TYPE_CHECKING:
    from dallecli.weights.registry import ModelSpec

models = typer.Typer(rich_markup_mode=None, help="The models: which there are, and where.")


@models.command("list", cls=SectionedCommand)
def list_models(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the models that have a name.

    Whether they are on this machine, the sizes that they paint, and what they are; --json has everything else.

    \b
    Examples:
      dalle models list
      dalle models list --json | jq -r .licence
    """
    from dallecli.cli.display import emit_json, emit_table
    from dallecli.weights.registry import registry

    specs = registry().values()
    if json:
        for spec in specs:
            emit_json(_facts(spec))
        return
    emit_table(
        ("NAME", "HERE", "PIXELS", "WHAT"),
        [(spec.name, _presence(spec), ", ".join(map(str, spec.sizes)), spec.description) for spec in specs],
    )


@models.command("path", cls=SectionedCommand)
def path(name: options.ModelName, debug: options.Debug = False) -> None:
    """Print the folder of a model.

    It is printed once every part of the model was found there.

    \b
    Examples:
      dalle models path starter
      ls "$(dalle models path karlo)"
    """
    from dallecli.cli.display import emit_line
    from dallecli.weights.registry import find, locate

    emit_line(str(locate(find(name)).path))


def _facts(spec: "ModelSpec") -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "here": _presence(spec),
        "layout": spec.layout,
        "source": spec.source,
        "commit": spec.commit,
        "licence": spec.licence,
        "tasks": list(spec.tasks),
        "sizes": list(spec.sizes),
        "parameters": spec.parameters,
        "prior_candidates": spec.prior_candidates,
        "stages": {
            name: {"sampler": stage.sampler, "steps": stage.steps, "guidance": stage.guidance}
            for name, stage in spec.stages.items()
        },
    }


def _presence(spec: "ModelSpec") -> str:
    """Where a model is, at a glance. Opening the cache properly would double the time of the command."""
    kind, _, place = spec.source.partition(":")
    if kind == "package":
        return "included"
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{place.replace('/', '--')}" / "snapshots"
    return "cached" if snapshots.is_dir() and any(snapshots.iterdir()) else "no"
