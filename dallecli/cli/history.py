"""`dalle history`: earlier pictures, found by words."""

import time
from pathlib import Path
from typing import Annotated

import typer

from dallecli.cli import options

SUBJECT = 50
"""Characters that a line has of a prompt, or of what a picture was made from; --json has all."""


def history(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WORD",
            help="Words of the prompt, or parts of them; all have to be there. None: the last pictures.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="At most so many pictures.")] = 20,
    clear: Annotated[bool, typer.Option("--clear", help="Forget everything.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Find pictures that were painted here before, the newest first.

    --no-history paints without being remembered; no-history = true in the config file does so always.

    \b
    Examples:
      dalle history
      dalle history red panda
      dalle history panda --json --last 1000 | jq -r .path
    """
    import sqlite3

    from dallecli.cli.display import emit_json, emit_line, emit_table
    from dallecli.errors import BadConfig
    from dallecli.history import forget, history_path, recall
    from dallecli.safe import safe

    try:
        if clear:
            forget()
            return
        found = list(recall(words if words is not None else [], last))
    except (sqlite3.Error, OSError) as error:
        hint = "dalle history --clear begins a new one"
        raise BadConfig(f"the history cannot be read: {error}", str(history_path()), hint) from error
    if json:
        for one in found:
            there = Path(one.path).exists()
            facts = {"path": one.path, "there": there, "made": one.made, "task": one.task, "prompt": one.prompt}
            facts["asked"] = one.asked
            emit_json({**facts, "inputs": list(one.inputs), "seed": one.seed, "model": one.model})
    elif found:
        rows = [
            (
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.made)),
                one.task,
                safe(one.subject, SUBJECT),
                one.model,
                str(one.seed),
                one.path,
            )
            for one in found
        ]
        emit_table(("made", "task", "what", "model", "seed", "path"), rows)
    else:
        emit_line("nothing was found")
