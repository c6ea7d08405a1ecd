"""The reference pages, written from the code: `python -m dallecli.cli.reference docs/reference`.

The tests hold the pages in the repository against what this writes.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from dallecli import errors, limits
from dallecli.cli.app import build
from dallecli.cli.settings import VARIABLES, settable
from dallecli.pictures.record import RECORD

WIDTH = 100

_GENERATED = "<!-- Written by `python -m dallecli.cli.reference docs/reference`; do not edit. -->\n"

_COMMAND_LINE = """# The command line

Results go to standard output and nothing else does: the path of each file that was written, one a line, or with
`--json` one object a line. Progress, warnings and errors go to standard error. Options win over environment variables,
these over the config file, and that over the model's own defaults.
"""

_RECORD = """## JSON

`dalle generate --json` prints one object a picture, as soon as its file is there:

| key | meaning |
| --- | --- |
{rows}
"""

_VARIABLES = """## Environment variables

| variable | meaning |
| --- | --- |
{rows}
"""

_CONFIG = """## Config file

`config.toml` in `$DALLE_HOME`, or where the platform keeps such files: `dalle doctor` prints the place. Its keys are
the long names of options of `dalle generate`; any other key is an error.

| key | type |
| --- | --- |
{rows}
"""

_ERRORS = """# Errors and exit codes

An error is at most three lines on standard error: what happened, where, and what to do about it. With `--json` it is
one object, the last line on standard error, with the keys `error` (the name below), `exit_code`, `what`, `where` and
`hint`. `--debug` adds the traceback. Exit code 0 is success, 1 that some pictures failed and the rest is done, and 141
a result that nobody read (`| head`).

The HTTP status is that of a server's response with this error.

| error | exit code | HTTP status | when |
| --- | --- | --- | --- |
{rows}
"""


_LIMITS = """# Limits

What comes from outside is read up to a bound, which is checked before the work that it bounds. What is larger is
refused, with the bound; nothing is cut without a word. No command reads a device, or waits for a pipe that nobody
writes into. Metadata in pictures are not unpacked, and never refuse one.
"""


def command_line() -> str:
    """docs/reference/cli.md."""
    root = get_command(build())
    pages = [f"## {name}\n\n```text\n{text}\n```\n" for name, text in _helps(root, None, "dalle")]
    kinds = {key: setting.described for key, setting in sorted(settable().items())}
    tables = [
        _RECORD.format(rows=_rows(RECORD)),
        _VARIABLES.format(rows=_rows(VARIABLES)),
        _CONFIG.format(rows=_rows(kinds)),
    ]
    return "\n".join([_GENERATED + _COMMAND_LINE, *pages, *tables])


def error_table() -> str:
    """docs/reference/errors.md."""
    rows = []
    for kind, depth in _tree(errors.DalleError, 0):
        when = (kind.__doc__ if kind.__doc__ is not None else "").partition("\n")[0]
        rows.append(f"| {'&emsp;' * depth}`{kind.__name__}` | {kind.exit_code} | {kind.http_status} | {when} |")
    return _GENERATED + _ERRORS.format(rows="\n".join(rows))


def limits_page() -> str:
    """docs/reference/limits.md."""
    sections = [
        f"## {title}\n\n| most | of what | `limits.py` |\n| --- | --- | --- |\n"
        + "\n".join(f"| {_bound(name)} | {what} | `{name}` |" for name, what in rows.items())
        for title, rows in limits.TABLE.items()
    ]
    return "\n\n".join([_GENERATED + _LIMITS.strip(), *sections]) + "\n"


def _bound(name: str) -> str:
    value = getattr(limits, name)
    return limits.in_words(value) if name.endswith(("BYTES", "SPARE", "RATE")) else f"{value:,}".removesuffix(".0")


def _rows(meanings: Mapping[str, str]) -> str:
    return "\n".join(f"| `{name}` | {meaning} |" for name, meaning in meanings.items())


def _helps(command: Any, parent: Any, name: str) -> Iterator[tuple[str, str]]:
    context = typer.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    yield context.command_path, text
    for child, inner in getattr(command, "commands", {}).items():
        yield from _helps(inner, context, child)


def _tree(kind: type[errors.DalleError], depth: int) -> Iterator[tuple[type[errors.DalleError], int]]:
    if depth > 0:
        yield kind, depth - 1
    for inner in kind.__subclasses__():
        yield from _tree(inner, depth + 1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cli.md").write_text(command_line(), encoding="utf-8")
    (folder / "errors.md").write_text(error_table(), encoding="utf-8")
    (folder / "limits.md").write_text(limits_page(), encoding="utf-8")
