"""The shell's loop: it reads lines, runs each as a command line of its own, and goes on whatever becomes of it."""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typer.main import get_command

from dallecli.cli.app import build, run
from dallecli.cli.display import SIGPIPE, Display, emit_line, report, to_stderr
from dallecli.cli.mistaken import COMMANDS
from dallecli.cli.results import noting
from dallecli.cli.shell_lines import (
    LAST,
    PROMPTS,
    Token,
    ambiguous,
    command_arguments,
    named_files,
    prompt_arguments,
    quoted,
    tokens,
)
from dallecli.cli.shell_settings import Settings
from dallecli.cli.viewer import show_in_viewer
from dallecli.errors import BadInput, DalleError, RequestError
from dallecli.limits import LINE_BYTES, in_words
from dallecli.remote.choice import is_remote
from dallecli.studio.choice import import_libraries, keeping
from dallecli.version import __version__

if TYPE_CHECKING:
    from typer.core import TyperGroup

APART: Final = frozenset({"shell", "serve", "train", "gallery"})
"""Commands that are processes of their own: they do not end by themselves, or change what all lines share."""

ENDING: Final = frozenset({128 + signal.SIGTERM, 128 + SIGPIPE, 129})
"""Exit codes of lines that end the shell: somebody wants the process to end, or nobody reads what it says."""

STOPPED: Final = 128 + signal.SIGINT

HELP: Final = """\
A line is a prompt, with options wherever they stand:

  a red car at the beach
  -n 4 --seed 7 a panda in the snow
  "a red apple" "a blue apple"          each sentence in quotes is a picture

or a command of dalle without `dalle`:

  vary last -n 4                        `last`: what was painted last; last.2: its second file
  edit last --from "a cat" --to "a dog"
  show, replay last, history panda, models list, help vary

and of this shell:

  open [FILE]         show last, or a file, in the system's viewer
  last                print the files that last stands for
  model [NAME]        paint with another model; without a name, say with which
  set [OPTION VALUE]  an option for all lines from now on: set steps 20; alone, list them
  unset OPTION        take it back
  quit, Ctrl-D        end

A prompt that begins with the name of a command stands in quotes: "show me a cat".
Ctrl-C stops a picture. Arrows and Ctrl-R find earlier lines, Tab completes."""


def converse(settings: Mapping[str, object], *, debug: bool = False) -> int:
    """Read lines until there are no more, and return the exit code: of a script that of its first failure."""
    from dallecli.cli.shell_editing import Typed

    with ExitStack() as stack:
        stack.enter_context(keeping())
        files = stack.enter_context(noting())
        kept = stack.enter_context(Settings(settings))
        shell = Shell(kept, files, debug=debug)
        if sys.stdin is None:
            raise BadInput("standard input is closed", hint="lines come from a terminal, a file or a pipe")
        lines: Callable[[], str | None]
        if sys.stdin.isatty():
            lines = Typed(shell).line
            if not kept.quiet:
                to_stderr(f"dalle {__version__}: type a prompt, or help; Ctrl-D ends")
            if os.environ.get("DALLE_ENGINE", "local") == "local" and not is_remote(kept.value("server")):
                import_libraries()
        else:
            lines = Piped(stack).line
        return shell.read(lines, interactive=sys.stdin.isatty())


class Shell:
    """What the lines of a shell share.

    settings: what counts for all of them. files: what the line that runs has written. last: the files of the last line
    that wrote any.
    """

    def __init__(self, settings: Settings, files: list[Path], *, debug: bool) -> None:
        self.settings = settings
        self.group: TyperGroup = get_command(build())  # type: ignore[assignment]  # with commands it is one
        self.last: list[str] = []
        self._files = files
        self._debug = debug
        self._over = False
        self.own: Mapping[str, Callable[[Sequence[Token]], int]] = {
            "help": self._help,
            "open": self._open,
            LAST: self._print_last,
            "model": self._model,
            "set": self._set,
            "unset": self._unset,
            "quit": self._quit,
            "exit": self._quit,
        }

    def read(self, lines: Callable[[], str | None], *, interactive: bool) -> int:
        """Run lines until there are no more. The code is 0 where somebody types, and sees what becomes of each."""
        first = 0
        while not self._over:
            line = lines()
            if line is None:
                break
            code = self.take(line)
            first = first if first else code
            if code in ENDING or (code == STOPPED and not interactive):
                return code
        return 0 if interactive else first

    def take(self, line: str) -> int:
        """Run one line, and return its exit code. Nothing that it does ends the shell, but `quit` and a signal."""
        given = tokens(line)
        if not given or line.lstrip().startswith("#"):
            return 0
        try:
            return self._run(line, given)
        except DalleError as error:
            report(error, as_json=False)
            return error.exit_code

    def _run(self, line: str, given: list[Token]) -> int:
        first, *rest = given
        if first == Token("dalle") and rest:
            first, *rest = rest
            line = line.strip().removeprefix("dalle")
        if first.quoted or (first.text not in self.own and first.text not in self.group.commands):
            if not first.quoted:
                self._check_slip(line.strip(), [first, *rest])
            return self._call(prompt_arguments(line, self.group.commands[PROMPTS], [first, *rest], self.last))
        if first.text in self.own:
            return self.own[first.text](rest)
        if first.text in APART:
            hint = f"dalle {first.text}, in another terminal; to paint these words: {quoted(line.strip())}"
            raise RequestError(f"{first.text} is a process of its own, and does not run in a shell", hint=hint)
        if first.text == PROMPTS:
            words = line.strip().removeprefix(PROMPTS)
            return self._call(prompt_arguments(words, self.group.commands[PROMPTS], rest, self.last))
        if first.text == "show" and not rest:
            rest = [Token(LAST)]
        return self._call(command_arguments(first.text, rest, self.last))

    def _check_slip(self, line: str, given: Sequence[Token]) -> None:
        """A single word that is a command elsewhere is hardly a prompt. Raises RequestError."""
        if len(given) != 1:
            return
        word = given[0].text.lstrip(":/").removesuffix("()").lower()
        if word != given[0].text and (word in self.own or word in self.group.commands):
            raise ambiguous(line, f"{word} is one")
        if word in COMMANDS:
            raise ambiguous(line, f"{COMMANDS[word]} is one")
        if word in _ELSEWHERE:
            raise ambiguous(line, "quit ends the shell" if word in _ENDS else "help lists what there is")

    def _call(self, arguments: Sequence[str]) -> int:
        """Run a command line of dalle; what it writes is what `last` stands for from then on."""
        self._files.clear()
        try:
            return run(arguments, self.group, debug=self._debug)
        finally:
            if self._files:
                self.last = [str(path) for path in self._files]

    # What only a shell has

    def _help(self, rest: Sequence[Token]) -> int:
        named = [token.text for token in rest]
        if named and named[0] in self.group.commands:
            return run([*named, "--help"], self.group)
        for line in HELP.splitlines():
            emit_line(line)
        return 0

    def _open(self, rest: Sequence[Token]) -> int:
        arguments = command_arguments("open", rest if rest else [Token(LAST)], self.last)[1:]
        paths = [Path(name) for name in arguments]
        for path in paths:
            if not path.exists():
                where = " ".join(arguments)
                hint = f"open takes files, or {LAST}; to paint these words: {quoted(f'open {where}')}"
                raise BadInput("there is no such file", str(path), hint)
        show_in_viewer(paths, Display(quiet=self.settings.quiet))
        return 0

    def _print_last(self, rest: Sequence[Token]) -> int:
        self._no_more(LAST, rest, 0)
        for name in named_files(LAST, self.last):
            emit_line(name)
        return 0

    def _model(self, rest: Sequence[Token]) -> int:
        self._no_more("model", rest, 1)
        if not rest:
            emit_line(str(self.settings.value("model")))
            return 0
        from dallecli.weights.registry import check_ready, find

        check_ready(find(rest[0].text))
        self.settings.set("model", rest[0].text)
        return 0

    def _set(self, rest: Sequence[Token]) -> int:
        if not rest:
            for name, shown in self.settings.listed():
                emit_line(f"{name} = {shown}")
            return 0
        name, *values = (token.text for token in rest)
        self._no_more("set", rest, 2)
        if name in ("model", "--model", "-m") and values:
            return self._model(rest[1:])
        self.settings.set(name, values[0] if values else None)
        return 0

    def _unset(self, rest: Sequence[Token]) -> int:
        self._no_more("unset", rest, 1)
        if not rest:
            raise RequestError("unset what?", hint="set lists what is set")
        self.settings.unset(rest[0].text)
        return 0

    def _quit(self, rest: Sequence[Token]) -> int:
        self._no_more("quit", rest, 0)
        self._over = True
        return 0

    def _no_more(self, name: str, rest: Sequence[Token], most: int) -> None:
        """Raises RequestError for a line that goes on: it is perhaps a prompt."""
        if len(rest) > most:
            line = " ".join([name, *(token.text for token in rest)])
            hint = f"help says more; to paint these words, put them into quotes: {quoted(line)}"
            raise RequestError(f"{name} takes no more than {most} word{'' if most == 1 else 's'}", hint=hint)


_ENDS: Final = frozenset({"q", "bye", "logout", "end"})
_ELSEWHERE: Final = _ENDS | {"cd", "pwd", "clear", "cls", "?", "man"}
"""What people type into other shells."""


class Piped:
    """Lines from a file or a pipe. What a line runs finds nothing on standard input: the next lines are there."""

    def __init__(self, stack: ExitStack) -> None:
        self._lines: Any = sys.stdin.buffer
        before, sys.stdin = sys.stdin, TextIOWrapper(BytesIO(b""))

        def put_back() -> None:
            sys.stdin = before

        stack.callback(put_back)

    def line(self) -> str | None:
        """The next line; None at the end. Raises BadInput for one that is too long."""
        raw = self._lines.readline(LINE_BYTES + 1)
        if len(raw) > LINE_BYTES:
            raise BadInput(f"a line has more than {in_words(LINE_BYTES)}", "standard input", "is it a file of text?")
        return os.fsdecode(raw) if raw else None
