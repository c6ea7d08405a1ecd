"""`dalle check`: whether the pictures of a batch are what its journal says."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dallecli.cli import options


def check(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders with a journal.jsonl.")],
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare every picture of a batch with its journal.

    Reads all bytes of all files. Prints what is missing, was changed, or failed; with --json every picture. The same
    `dalle generate --prompts` again paints what is missing.

    \b
    Examples:
      dalle check pictures
      dalle check pictures --json | jq -r 'select(.finding == "changed") | .path'
    """
    from dallecli.batch.journal import NAME, unreadable_lines
    from dallecli.cli.display import Display
    from dallecli.cli.many import Many
    from dallecli.errors import BadOutput, SomeFailed
    from dallecli.safe import safe

    display = Display(quiet=quiet)
    many = Many(len(folders), display, as_json=json, errors=(BadOutput,))
    bad = 0
    for folder in folders:
        with many.passing_over(str(folder)):
            found = _found(folder, as_json=json)
            lines = unreadable_lines(folder)
            if lines > 0 and not found:
                raise BadOutput("no line of this file is an entry of a journal", where=str(folder / NAME))
            counts = [f"{count} {what}" for what, count in sorted(found.items())]
            counts += [f"{lines} unreadable lines in the journal"] if lines > 0 else []
            display.say(f"{safe(str(folder), 200)}: {', '.join(counts) if counts else 'no pictures yet'}")
            bad += found.total() - found["intact"]
    if bad > 0:
        pictures = "1 picture is" if bad == 1 else f"{bad} pictures are"
        raise SomeFailed(f"{pictures} not as the journal says", hint="the same dalle generate --prompts goes on")
    many.finish()


def _found(folder: Path, *, as_json: bool) -> Counter[str]:
    """Print what is wrong with the pictures of a folder, and count what was found. Raises BadOutput."""
    from dallecli.batch.audit import audit
    from dallecli.cli.display import emit_json, emit_line

    found: Counter[str] = Counter()
    for audited in audit(folder):
        entry = audited.entry
        found[audited.finding] += 1
        path = str(folder / entry.file) if entry.file else None
        if as_json:
            facts = {"path": path, "finding": audited.finding, "line": entry.line, "prompt": entry.prompt}
            emit_json({**facts, "seed": entry.seed, "model": entry.model, "sha256": entry.sha256, "key": entry.key})
        elif audited.finding != "intact":
            emit_line(f"{audited.finding}: {path if path is not None else f'line {entry.line}'}")
    return found
