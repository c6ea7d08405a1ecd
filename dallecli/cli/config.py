"""`dalle config`: the options that are set for every run, in a file."""

import re
from typing import Annotated

import typer

from dallecli.cli import options
from dallecli.cli.help import SectionedCommand

config = typer.Typer(rich_markup_mode=None, help="Defaults of options, kept in the config file.")

Key = Annotated[str, typer.Argument(metavar="OPTION", help="An option of a painting command, without its hyphens.")]


@config.command("where", cls=SectionedCommand)
def where(debug: options.Debug = False) -> None:
    """Print where the config file is, or would be.

    \b
    Examples:
      dalle config where
      "$EDITOR" "$(dalle config where)"
    """
    from dallecli.cli.display import emit_line
    from dallecli.cli.settings import config_path

    emit_line(str(config_path()))


@config.command("get", cls=SectionedCommand)
def get(
    option: Annotated[
        str | None,
        typer.Argument(metavar="OPTION", help="Only this one; everything that is set if left out.", show_default=False),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Print what is set.

    \b
    Examples:
      dalle config get
      dalle config get model
    """
    from dallecli.cli.display import emit_json, emit_line
    from dallecli.cli.settings import config_path, read_config, settable
    from dallecli.errors import BadConfig

    values = read_config()
    if option is None:
        for key, value in values.items():
            emit_json({"option": key, "value": value}) if json else emit_line(f"{key} = {literal(value)}")
        return
    if option not in values:
        known = option in settable()
        what = f"{option} is not set" if known else f"{option!r} is not a setting"
        raise BadConfig(
            what, str(config_path()), f"dalle config set {option} VALUE" if known else "dalle config --help"
        )
    emit_json({"option": option, "value": values[option]}) if json else emit_line(literal(values[option]))


@config.command("set", cls=SectionedCommand, context_settings={"ignore_unknown_options": True})
def set_option(
    option: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="What it would be on a command line.")],
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Set the default of an option, for all commands that have it.

    An option on the command line still wins, and so does an environment variable.

    \b
    Examples:
      dalle config set model kandinsky
      dalle config set out pictures
      dalle config set no-history true
    """
    from dallecli.cli.settings import read_setting

    name = option.removeprefix("--")
    _write(name, f"{name} = {literal(read_setting(name, value))}", quiet=quiet)


@config.command("unset", cls=SectionedCommand)
def unset(option: Key, quiet: options.Quiet = False, debug: options.Debug = False) -> None:
    """Remove the default of an option.

    \b
    Examples:
      dalle config unset model
    """
    _write(option.removeprefix("--"), None, quiet=quiet)


def literal(value: object) -> str:
    """A value as TOML writes it."""
    import json

    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)


def _write(name: str, line: str | None, *, quiet: bool) -> None:
    """Replace the line of one setting in the config file, or add or remove it; everything else stays as it is."""
    import tomllib

    from dallecli.cli.display import to_stderr
    from dallecli.cli.settings import config_path, read_config
    from dallecli.errors import BadConfig
    from dallecli.publish import disk_errors, publish
    from dallecli.safe import safe

    path = config_path()
    before = read_config()
    lines = path.read_text(encoding="utf-8-sig").splitlines() if before or path.is_file() else []
    places = [k for k, text in enumerate(lines) if re.match(rf"""\s*["']?{re.escape(name)}["']?\s*=""", text)]
    if line is None and not places:
        raise BadConfig(f"{name} is not set", str(path))
    if places:
        lines[places[0] : places[0] + 1] = [] if line is None else [line]
    elif line is not None:
        lines.append(line)
    text = "".join(f"{one}\n" for one in lines)
    try:
        after = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(
            f"{name} cannot be changed here: it has more than one line", str(path), "edit the file"
        ) from error
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    publish(path, text.encode(), force=True)
    if not quiet:
        said = f"{name} = {literal(after[name])}" if name in after else f"{name} is not set any more"
        to_stderr(f"{safe(said, 200)} ({safe(str(path), 200)})")
