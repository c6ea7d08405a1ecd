"""The command line: its commands, and the one place where an error becomes words and an exit code.

`dalle --help` imports this file and all commands, and should answer at once. So they import Typer and their options
at the top, and what they work with inside. Any other command line imports the one command that it names.
"""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from dallecli.cli.completion import COMPLETION, VARIABLE, asked_by_shell, complete
from dallecli.cli.display import SIGPIPE, Stopped, emit_line, report, to_stderr
from dallecli.cli.help import ARGUMENTS, SectionedCommand, SectionedGroup
from dallecli.cli.pulling import offer
from dallecli.errors import (
    BadConfig,
    DalleError,
    InternalError,
    Interrupted,
    MachineError,
    NotDownloaded,
    OutOfMemory,
    RequestError,
    reason,
)
from dallecli.safe import safe
from dallecli.signals import SIGNALS
from dallecli.version import __version__

if TYPE_CHECKING:
    from typer.core import TyperGroup

CONFIGURED = frozenset(
    {
        *("generate", "vary", "interpolate", "inpaint", "edit", "rank", "embed"),
        *("encode", "decode", "replay", "serve", "shell", "doctor"),
    }
)
"""The commands whose options the config file can set."""

CONFIGURED_GROUPS = {"probe": ("pca", "vocabulary")}
"""The same of commands that stand in a group."""

LIBRARY_WORDS = {
    "Value error, ": "",
    "Input should be a valid integer, unable to parse string as an integer": "it is not a whole number",
    "Input should be a valid integer, unable to parse string as a number": "it is not a whole number",
    "Input should be a valid number, unable to parse string as a number": "it is not a number",
    "Input should be": "it should be",
}
"""What the library under Typer says of a value, and how we say it."""

EPILOG = """Exit codes: 0 done, 1 some failed, 2 invalid request, 3 weights, 4 network, 5 machine, 130 interrupted.

Tab completion: dalle --install-completion [SHELL], or --show-completion [SHELL]"""


_PAINTING: Final = ("generate", "vary", "interpolate", "inpaint", "edit")
_OTHERS: Final = (
    *("show", "replay", "grid", "check", "history", "models", "config"),
    *("serve", "gallery", "shell", "doctor", "probe", "ray", "train"),
)

COMMANDS: Final[Mapping[str, str]] = {
    **{name: name for name in (*_PAINTING, "rank", "embed")},
    "encode": "codes",
    "decode": "codes",
    **{name: name for name in _OTHERS},
}
"""The modules of all commands, and groups of some, by their names."""


def build(only: str | None = None, *, completion: bool = False) -> typer.Typer:
    """The application. `completion` adds Typer's options for shell completion.

    They are left out of everyday runs: reading these two options imports pydantic, which takes a third of the quarter
    of a second that `dalle models list` may take. Building all commands takes another: with the name of one as `only`,
    the others are neither imported nor built.
    """
    app = typer.Typer(
        cls=SectionedGroup,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=completion,
        epilog=EPILOG,
    )
    app.callback()(root)
    for name in COMMANDS if only is None or only not in COMMANDS else [only]:
        command = getattr(import_module(f"dallecli.cli.{COMMANDS[name]}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, cls=SectionedGroup, no_args_is_help=False)
        else:
            app.command(name, cls=SectionedCommand)(command)
    return app


def _version(asked: bool) -> None:
    if asked:
        emit_line(f"dalle {__version__}")
        raise typer.Exit


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An open DALL-E 2 for the shell: pictures from words and other pictures, on your own machine.

    \b
    Examples:
      dalle generate "a red car at the beach"
      dalle generate "a panda in the snow" -n 4 --seed 7
      dalle vary cat.jpg -n 4
      dalle inpaint room.png --mask 20,150,120,90 --prompt "a red couch"
      dalle show a-panda-in-the-snow-7-grid.png
    """
    if context.invoked_subcommand in CONFIGURED or context.invoked_subcommand in CONFIGURED_GROUPS:
        from dallecli.cli.settings import defaults_from_config

        try:
            command = context.invoked_subcommand
            defaults = defaults_from_config(command, context.meta[ARGUMENTS])
            if command in CONFIGURED_GROUPS:
                defaults = dict.fromkeys(CONFIGURED_GROUPS[command], defaults)
            context.default_map = {command: defaults}
        except BadConfig:
            # The doctor lists it among its findings.
            if context.invoked_subcommand != "doctor":
                raise


def main() -> NoReturn:
    """Run the command line of this process and end it."""
    _collect_garbage_seldom()
    code = run(sys.argv[1:])
    _abandon_streams()
    sys.exit(code)


def _abandon_streams() -> None:
    """Let go of what cannot be written: it was reported, and Python would try again at the end and change the code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _collect_garbage_seldom() -> None:
    """Let the collector pass less often over what stays anyway.

    To import torch makes 200,000 objects that are no garbage. The collector would go over them again and again, and
    once more at the end: a quarter of the time of a short run.
    """
    gc.set_threshold(50_000, 20, 100)
    atexit.register(gc.freeze)


def run(arguments: Sequence[str], group: "TyperGroup | None" = None, *, debug: bool = False) -> int:
    """Run one command line and return its exit code: the one boundary where errors end.

    group: the application, for who has built it already. debug: whether tracebacks are shown without --debug, too.
    """
    given = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json, debug = "--json" in given, debug or "--debug" in given
    try:
        with _signals_raise():
            if len(arguments) == 2 and arguments[0] in COMPLETION:
                return complete(*arguments)
            asked = asked_by_shell()
            if not asked:
                os.environ.pop(VARIABLE, None)  # Typer would take it for a question
            only = arguments[0] if arguments and not asked else None
            whole = asked or any(option in given for option in COMPLETION)
            app = group if group is not None else build(only, completion=whole)
            code = _called(app, arguments, may_ask=not as_json)
    except Stopped as stopped:
        return _stopped(stopped.number, as_json=as_json)
    except Exception as error:
        if debug:
            _print_traceback(error)
        failure = _explain(error)
        report(failure, as_json=as_json)
        return failure.exit_code
    # Typer returns the code of an early end (--help, --version).
    return code if isinstance(code, int) else 0


def _called(app: "typer.Typer | TyperGroup", arguments: Sequence[str], *, may_ask: bool) -> object:
    """Run the application; where a model is missing that somebody at a terminal then wants pulled, once more."""
    try:
        return app(args=list(arguments), prog_name="dalle", standalone_mode=False)
    except NotDownloaded as missing:
        if not (may_ask and offer(missing)):
            raise
    return app(args=list(arguments), prog_name="dalle", standalone_mode=False)


def _explain(error: Exception) -> DalleError:
    """Any exception as one of ours."""
    if isinstance(error, DalleError):
        return error
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = "dalle" if context is None else context.command_path
        message = error.format_message().replace("\n", " ")
        for theirs, ours in LIBRARY_WORDS.items():
            message = message.replace(theirs, ours)
        return RequestError(message, hint=f"{command} --help")
    if isinstance(error, MemoryError):
        return OutOfMemory("out of memory", hint="fewer pictures (-n), a smaller --size, or another --model")
    if isinstance(error, ImportError) and not (error.name or "").startswith("dallecli"):
        return _unloadable(error)
    if isinstance(error, OSError) and error.errno is not None:
        where = None if error.filename is None else str(error.filename)
        return MachineError(f"the system refuses: {reason(error)}", where, "--debug shows at what")
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return MachineError("no thread can be started", hint="see ulimit -u, and the limits of the container")
    what = f"a mistake in dalle itself: {type(error).__name__}: {error}"
    return InternalError(what, hint="run it again with --debug, and report what it prints")


def _unloadable(error: ImportError) -> MachineError:
    """A library that cannot be loaded: it does not fit into memory, its files are damaged, or it is not there."""
    said = str(error.__cause__ or error)  # NumPy's own words are a page of advice
    if any(words in said.lower() for words in ("failed to map", "cannot allocate memory")):
        return OutOfMemory(f"a library cannot be loaded: {said}", hint="see ulimit -v, and the limits of the container")
    return MachineError(f"a library cannot be loaded: {said}", hint="install dalle again, in a new environment")


def _stopped(number: int, *, as_json: bool) -> int:
    code = 128 + number
    if number == SIGPIPE:
        # Nobody reads: there is nobody to tell, and Python must not try again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code
    error = Interrupted(f"stopped by {signal.Signals(number).name}", hint="files that were written are whole")
    report(error, as_json=as_json, exit_code=code)
    return code


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside, a request to stop raises Stopped, so that temporary files are removed; a second one ends the process."""

    def stop(number: int, _: FrameType | None) -> None:
        for caught in before:
            signal.signal(caught, signal.SIG_DFL)
        raise Stopped(number)

    before = {}
    for number in SIGNALS:
        # What the parent chose to ignore (nohup, a shell's background job) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_traceback(error: Exception) -> None:
    import traceback

    for line in "".join(traceback.format_exception(error)).splitlines():
        to_stderr(safe(line, limit=None))
