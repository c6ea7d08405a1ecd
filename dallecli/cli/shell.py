"""`dalle shell`: a prompt that keeps the model open."""

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded


@folded
def shell(
    *,
    model: options.ModelOptions,
    server: options.ServerOptions,
    out: options.Out = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Paint line by line, with the model kept open.

    A line is a prompt, or a command of dalle without `dalle`; `last` is what was painted last. A line is a command if
    it begins with the name of one: a prompt that does so stands in quotes. What is set with `set` counts for all lines.
    Ctrl-C stops a picture, Ctrl-D ends the shell, help says more. Lines can also come from a file.

    \b
    Examples:
      dalle shell
      dalle shell --model karlo --out pictures
      dalle shell --server auto
      dalle shell < lines.txt
    """
    from dallecli.cli.shell_loop import converse

    given = {**options.values_of(model), **options.values_of(server), "out": out, "quiet": quiet or None}
    settings = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    settings |= {name: str(value) for name, value in settings.items() if name in ("out", "token-file")}
    raise typer.Exit(converse(settings, debug=debug))
