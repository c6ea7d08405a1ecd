"""Help as plain text: fast (rich costs a tenth of a second), the same in a pipe, and never markup.

Typer's own plain help puts all options into one list. These two classes print them by section.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from dallecli.cli.coercion import read_plainly
from dallecli.cli.display import emit
from dallecli.cli.idle import refuse_idle
from dallecli.cli.mistaken import command_hint, option_hint, spoken
from dallecli.errors import RequestError

PICTURES, MODEL, SAMPLING, OUTPUT, REPORTING = "Pictures", "Model", "Sampling", "Output", "Reporting"
MASK, ANIMATION, ARITHMETIC, BATCH, SERVER = "Mask", "Animation", "Arithmetic", "Prompt file", "Server"
REWRITING, CLUSTER = "Rewriting", "Cluster"

ORDER: Final[Mapping[str | None, tuple[str, ...]]] = {
    SAMPLING: (
        *("fast", "steps", "prior_steps", "upsampler_steps", "inversion_steps"),
        *("guidance", "prior_guidance", "upsampler_guidance", "sampler", "upsampler_sampler"),
        *("guidance_start", "guidance_stop", "reuse"),
        *("upsampler_guidance_start", "upsampler_guidance_stop", "upsampler_reuse"),
        *("temperature", "top_k", "top_p"),
        *("prior", "prior_candidates", "prior_temperature", "prior_top_k"),
        "resample",
    ),
    OUTPUT: ("x", "y", "output", "out", "layout", "format", "no_metadata", "force", "preview", "open", "dry_run"),
    REPORTING: ("no_history", "json", "quiet", "debug"),
}
"""The names of parameters in the order in which a section lists them, where those of several classes share one."""

ARGUMENTS: Final = "dallecli.arguments"
"""Where the context of a command line keeps it as a whole."""


class SectionedCommand(TyperCommand):
    """A command whose options are listed under their `rich_help_panel`, and --help under the last of these."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        read_plainly(self.params)
        with _options_answered(self, ctx):
            rest = super().parse_args(ctx, _with_own_values(self, args))
        if not ctx.resilient_parsing:
            refuse_idle(self.name or "", ctx.params, _on_the_line(self, ctx))
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _write_sections(self, ctx, formatter, REPORTING)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [_bare(piece) for piece in super().collect_usage_pieces(ctx)]

    def get_help_option(self, ctx: Any) -> Any:
        return _plain_flag(super().get_help_option(ctx))


class SectionedGroup(TyperGroup):
    """A group that lists its commands first: they are what somebody looks for. Alone on the line it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            _print_help(ctx, None, True)
        if args and not ctx.resilient_parsing:
            args = spoken(self, args)
        ctx.meta.setdefault(ARGUMENTS, tuple(args))
        with _options_answered(self, ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            what = f"No such command '{args[0]}'."
            raise RequestError(what, hint=command_hint(self, ctx.command_path, args))
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        _write_sections(self, ctx, formatter, "Options")

    def get_help_option(self, ctx: Any) -> Any:
        return _plain_flag(super().get_help_option(ctx))


OPEN_VALUES: Final[Mapping[str, tuple[str, ...]]] = {"--rewrite": ("required", "optional")}
"""Options whose value may be left out, and the values: the first is meant if none stands there."""


def _with_own_values(command: TyperCommand, args: list[str]) -> list[str]:
    """A command line in which such options have their values: whatever else follows one is not meant for it."""
    known = {name for param in command.params for name in param.opts} & set(OPEN_VALUES)
    found: list[str] = []
    rest = iter(range(len(args)))
    for place in rest:
        option, following = args[place], args[place + 1 : place + 2]
        if option == "--":
            return [*found, *args[place:]]
        if option not in known:
            found.append(option)
        elif following and following[0] in OPEN_VALUES[option]:
            found.append(f"{option}={following[0]}")
            next(rest)
        else:
            found.append(f"{option}={OPEN_VALUES[option][0]}")
    return found


def _on_the_line(command: TyperCommand, ctx: Any) -> dict[str, str]:
    """How the parameters are spelled, by their names, that the command line itself gives a value."""
    found = {}
    for param in command.get_params(ctx):
        source = ctx.get_parameter_source(param.name)
        if param.name is not None and source is not None and source.name == "COMMANDLINE":
            option = next((name for name in param.opts if name.startswith("--")), param.opts[0])
            found[param.name] = option
    return found


@contextmanager
def _options_answered(command: TyperCommand | TyperGroup, ctx: Any) -> Iterator[None]:
    """Inside, an option that does not exist is answered by what was meant. Raises RequestError."""
    try:
        yield
    except typer.TyperException as error:
        option = getattr(error, "option_name", None)
        if option is None or not hasattr(error, "possibilities"):
            if getattr(error, "ctx", ctx) is None:  # a missing value does not say of which command
                vars(error)["ctx"] = ctx
            raise
        hint = option_hint(command, ctx.command_path, option)
        raise RequestError(f"No such option: {option}", hint=hint) from error


def _bare(piece: str) -> str:
    """A required argument as everybody writes it: FILE..., where Typer has {FILE}..., which reads like a choice."""
    return piece.replace("{", "").replace("}", "")


def _plain_flag(option: Any) -> Any:
    """Typer's --help is None when it is not given, and Typer imports pydantic, for 0.1 s, to find out that this is not
    a bool. Every other flag is False, and False it takes as it is.
    """
    option.default = False
    option.callback = _print_help
    return option


def _print_help(ctx: Any, _: Any, asked: bool) -> None:
    """Like Typer's own, but what goes wrong with standard output is said as for every other result."""
    if asked and not ctx.resilient_parsing:
        emit(ctx.get_help().encode("utf-8", "replace") + b"\n")
        ctx.exit()


def _write_sections(command: TyperCommand | TyperGroup, ctx: Any, formatter: Any, usual: str) -> None:
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is None:
            continue
        if param.param_type_name == "argument":
            # The name as in the usage line, without the Python type that Typer adds.
            sections.setdefault("Arguments", []).append((_bare(param.get_usage_pieces(ctx)[0]), record[1]))
        else:
            panel = getattr(param, "rich_help_panel", None)
            sections.setdefault(panel if panel is not None else usual, []).append(record)
    for title, records in sections.items():
        with formatter.section(title):
            formatter.write_dl(records)
