"""A line that is typed: editing, earlier lines, completion. All of it is the readline library's work."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from dallecli.cli.display import report, to_stderr
from dallecli.cli.shell_lines import FILES, LAST, PROMPTS
from dallecli.errors import BadInput, DalleError
from dallecli.own_folders import own_folder
from dallecli.signals import heard_by

if TYPE_CHECKING:
    from dallecli.cli.shell_loop import Shell

PROMPT: Final = "dalle> "

LINES: Final = 2000
"""Earlier lines that are kept."""

_MOMENT: Final = 0.1
"""Seconds after which a signal that nobody has heard is sent again."""

_WITH_FILES: Final = frozenset({*FILES, "check", "open"}) - {PROMPTS}


class Typed:
    """Lines from a terminal."""

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell
        self._readline = _readline()
        self._kept = _lines_file()
        if self._readline is not None:
            self._prepare(self._readline)

    def line(self) -> str | None:
        """The next line; None for Ctrl-D. Ctrl-C gives up the line, and begins another one."""
        while True:
            try:
                with _heard():
                    text = self._read()
            except KeyboardInterrupt:
                to_stderr("")
                continue
            except EOFError:
                to_stderr("")
                return None
            except UnicodeDecodeError:
                report(BadInput("this line is not UTF-8", hint="see LANG and LC_ALL"), as_json=False)
                continue
            self._keep(text)
            return text

    def _read(self) -> str:
        if sys.stdout is not None and sys.stdout.isatty():
            return input(PROMPT)
        # Standard output is for results: the prompt is for the eye.
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _prepare(self, readline: Any) -> None:
        """Read the lines of earlier shells, and have Tab complete."""
        readline.set_auto_history(False)
        readline.set_history_length(LINES)
        if self._kept is not None and self._shell.settings.remembers:
            with suppress(OSError, UnicodeDecodeError):
                readline.read_history_file(self._kept)
        completions = Completions(self._shell)

        def complete(word: str, number: int) -> str | None:
            if number == 0:
                completions.look(readline.get_line_buffer()[: readline.get_begidx()], word)
            return completions.found[number] if number < len(completions.found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" \t\n")
        edited = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if edited else "tab: complete")

    def _keep(self, text: str) -> None:
        """Remember a line now: whoever stops a picture twice ends the process."""
        readline = self._readline
        if readline is None or not text.strip():
            return
        count = readline.get_current_history_length()
        if count and readline.get_history_item(count) == text:
            return
        readline.add_history(text)
        if self._kept is None or not self._shell.settings.remembers:
            return
        with suppress(OSError):
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._kept, os.O_WRONLY | os.O_CREAT, 0o600))  # prompts are private
            readline.append_history_file(1, self._kept)


class Completions:
    """What a line could go on with."""

    def __init__(self, shell: "Shell") -> None:
        self._shell = shell
        self.found: list[str] = []

    def look(self, before: str, word: str) -> None:
        """Find what `word` can become, after the words `before` it. What cannot be looked up is not offered."""
        with suppress(DalleError, OSError):
            self.found = []
            self.found = sorted(set(self._candidates(before.split(), word)))
        if len(self.found) == 1 and not self.found[0].endswith("/"):
            self.found[0] += " "  # what is whole is not typed on

    def _candidates(self, before: list[str], word: str) -> Iterator[str]:
        command, first = self._command(before), before[0] if before else ""
        waiting = _waiting(command, before)
        if waiting is not None:  # an option stands before that wants a value
            yield from _values(command, waiting, word)
            yield from _files(word)
        elif first in self._shell.own:
            yield from self._own(before, word)
        elif hasattr(command, "commands"):
            yield from _fitting(command.commands, word)
        elif word.startswith("-"):
            yield from _fitting((name for name in _options(command) if name.startswith("--")), word)
        else:
            for param in command.params:
                yield from _values(command, param, word) if param.param_type_name == "argument" else ()
        if waiting is None and first in _WITH_FILES:
            yield from _fitting([LAST], word)
            yield from _files(word)
        if waiting is None and first not in self._shell.own and first not in self._shell.group.commands:
            yield from self._known_words(word)
        if not before:
            yield from _fitting([*self._shell.group.commands, *self._shell.own], word)

    def _command(self, before: list[str]) -> Any:
        """The command that a line is for; a prompt is for one, too. Of a group it is the group, until one is named."""
        commands = self._shell.group.commands
        named = commands.get(before[0] if before else "", commands[PROMPTS])
        inner = getattr(named, "commands", {})
        return inner.get(before[1], named) if len(before) > 1 else named

    def _own(self, before: list[str], word: str) -> Iterator[str]:
        """What a command of the shell can go on with."""
        from dallecli.cli.options import model_names
        from dallecli.cli.settings import settable

        name, place = before[0], len(before)
        if name == "model" or before[1:] == ["model"]:
            yield from model_names(word)
        elif name in ("set", "unset") and place == 1:
            yield from _fitting(settable(), word)
        elif name == "set" and before[1] in settable():
            yield from _fitting(settable()[before[1]].choices, word)
        elif name == "help":
            yield from _fitting(self._shell.group.commands, word)

    def _known_words(self, word: str) -> Iterator[str]:
        """The words of the model that paints, if its makers wrote them down."""
        from dallecli.weights.known import read_words
        from dallecli.weights.registry import find, locate

        known = read_words(locate(find(str(self._shell.settings.value("model")))).path) if word else None
        if known is not None:
            said = (part for phrases in known.kinds.values() for name in phrases for part in name.split())
            yield from _fitting(said, word)


def _options(command: Any) -> dict[str, Any]:
    """The options of a command by all of their names."""
    options = [param for param in command.params if param.param_type_name == "option"]
    return {name: param for param in options for name in (*param.opts, *param.secondary_opts)}


def _waiting(command: Any, before: list[str]) -> Any:
    """The option that stands last, if it wants a value."""
    param = _options(command).get(before[-1]) if before else None
    return None if param is None or param.is_flag else param


def _values(command: Any, param: Any, word: str) -> Iterator[str]:
    """The values that the shell completion of a command knows."""
    context = command.make_context(command.name, [], resilient_parsing=True)
    yield from _fitting((item.value for item in param.shell_complete(context, word)), word)


def _fitting(names: Any, word: str) -> Iterator[str]:
    return (name for name in names if name.startswith(word))


def _files(word: str) -> Iterator[str]:
    """The files whose names begin so, and folders with a slash."""
    folder, slash, begun = word.rpartition("/")
    with suppress(OSError, RuntimeError):  # no such folder, no such ~user
        for path in Path(f"{folder}{slash}" or ".").expanduser().iterdir():
            if path.name.startswith(begun) and (begun or not path.name.startswith(".")):
                yield f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def _readline() -> Any:
    """The library; None where Python has none."""
    try:
        import readline
    except ImportError:
        return None
    return readline


def _lines_file() -> Path | None:
    folder = own_folder("state")
    return None if folder is None else folder / "shell_lines"


@contextmanager
def _heard() -> Iterator[None]:
    """Inside, Ctrl-C raises KeyboardInterrupt, as it does for whoever types, and no signal has to wait for a key."""
    heard = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        heard.set()
        (signal.default_int_handler if number == signal.SIGINT else before[number])(number, frame)

    with _repeated(heard) if hasattr(signal, "pthread_kill") else nullcontext(), heard_by(hear) as before:
        yield


@contextmanager
def _repeated(heard: threading.Event) -> Iterator[None]:
    """Inside, a signal that has not been heard after a moment is sent again.

    Of one that comes just before readline begins to wait, Python takes no notice until a key is pressed.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    listener = threading.get_ident()

    def repeat() -> None:
        while (come := os.read(reader, 1)) and not heard.wait(_MOMENT):
            signal.pthread_kill(listener, come[0])  # which is written to the pipe as well

    again = threading.Thread(target=repeat, daemon=True)
    again.start()
    told = signal.set_wakeup_fd(writer)
    try:
        yield
    finally:
        signal.set_wakeup_fd(told)
        os.close(writer)
        again.join()
        os.close(reader)
