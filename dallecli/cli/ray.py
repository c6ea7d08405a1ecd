"""`dalle ray`: the Ray cluster that other commands paint on with --ray."""

from typing import TYPE_CHECKING, Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import SectionedCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dallecli.cluster.check import Looked

ray = typer.Typer(rich_markup_mode=None, help="Look at the Ray cluster that --ray paints on.", no_args_is_help=True)


Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="Models that should be on every machine: names, or folders.",
        autocompletion=options.model_names,
        show_default=False,
    ),
]


@folded
def check(*, models: Models = None, ray: options.Ray = "auto", reporting: options.Reporting) -> None:
    """Look at every machine of a Ray cluster.

    Says what is installed there, what it computes with, how much memory is free, and whether a model is there. The exit
    code is 5 if a machine could not paint.

    \b
    Examples:
      dalle ray check
      dalle ray check karlo --ray 10.0.0.1:6379
      dalle ray check --json
    """
    from contextlib import closing

    from dallecli.cli.display import Display, emit_json, results_apart
    from dallecli.cluster.check import look
    from dallecli.cluster.connection import Connection
    from dallecli.errors import BadCluster

    display = Display(quiet=reporting.quiet)
    with results_apart(), closing(Connection(ray or "auto")) as connection:
        found = look(connection, models or [])
        if reporting.json:
            for looked in found:
                emit_json(looked.to_dict())
        else:
            _show(found)
        display.note(f"Ray {connection.version}")
    bad = [looked for looked in found if looked.trouble is not None]
    if bad:
        what = f"{len(bad)} of {len(found)} machines cannot paint: {bad[0].node.host}, {bad[0].trouble}"
        raise BadCluster(what, hint="docs/guides/cluster.md")


def _show(found: "Sequence[Looked]") -> None:
    from dallecli.cli.display import emit_table
    from dallecli.placement import in_words

    titles = ("machine", "address", "gpus", "cpus", "dallecli", "python", "torch", "device", "free", "trouble")
    rows = []
    for looked in found:
        node, facts = looked.node, looked.facts
        free = facts.get("free")
        device = " ".join(str(facts[name]) for name in ("device", "dtype", "gpu") if facts.get(name))
        versions = [str(facts.get(name, "?")) for name in ("dallecli", "python", "torch")]
        memory = in_words(free) if free is not None else "?"
        trouble = looked.trouble or "none"
        rows.append(
            (node.host, node.address, str(node.gpus), str(node.cpus), *versions, device or "?", memory, trouble)
        )
    emit_table(titles, rows)


ray.command("check", cls=SectionedCommand)(check)
