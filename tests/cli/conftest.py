"""`dalle` in this process (fast) and as a process of its own (true), both with the fake engine in an empty folder."""

import codecs
import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from dallecli.cli.app import run


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it said."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.decode().splitlines()

    @property
    def remarks(self) -> str:
        """What it said besides what was made, where it is, and how long that took."""
        made = re.compile(r"\d+ (picture|frame|embedding)s? in .*\n")
        return "".join(line for line in self.err.splitlines(keepends=True) if not made.fullmatch(line))

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


Dalle = Callable[..., Result]


class Stdin(io.TextIOWrapper):
    """Standard input with these bytes, from a pipe or from a terminal."""

    def __init__(self, data: bytes, terminal: bool) -> None:
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder to work in, no config file, the fake engine, a plain terminal 80 columns wide."""
    for name in ("DALLE_MODEL", "DALLE_DEVICE", "DALLE_FAKE_SECONDS", "FORCE_COLOR", "NO_COLOR", "_DALLE_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DALLE_ENGINE", "fake")
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def dalle(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Dalle:
    """Run a command line in this process."""

    def call(*arguments: str, stdin: bytes = b"", terminal: bool = False) -> Result:
        monkeypatch.setattr(sys, "stdin", Stdin(stdin, terminal))
        code = run(arguments)
        captured = capsysbinary.readouterr()
        return Result(code, captured.out, captured.err.decode())

    return call


@pytest.fixture
def local(settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that people use, and two pictures in the folder: cat.png of noise, 64 x 48, and a blue dog.png."""
    monkeypatch.setenv("DALLE_ENGINE", "local")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("cat.png")
    Image.new("RGB", (32, 32), (30, 60, 200)).save("dog.png")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random model of the starter's shape, 8 to 16 to 32 pixels; other families have a `model` of their own."""
    import oracle  # needs torch

    return str(oracle.write(tmp_path_factory.mktemp("models") / "tiny", oracle.SHAPES["starter"]))


NO_CLIP: Final[Mapping[str, tuple[list[str], str]]] = {
    "embed": (["embed", "cat.png"], "has no CLIP"),
    "rank": (["rank", "cat.png", "a cat"], "has no CLIP"),
    "best-of": (["generate", "a cat", "--best-of", "2"], "has no CLIP"),
}
NO_PRIOR: Final[Mapping[str, tuple[list[str], str]]] = {
    "prior": (["generate", "a cat", "--prior", "none"], "has no prior"),
    "prior steps": (["generate", "a cat", "--prior-steps", "5"], "has no prior"),
    "prior guidance": (["generate", "a cat", "--prior-guidance", "2"], "has no prior"),
    "candidates": (["generate", "a cat", "--prior-candidates", "2"], "has no prior"),
}
"""What models without these parts are asked in vain, and the words with which they refuse it."""


def assert_refused(refused: Result, words: str) -> None:
    assert (refused.code, words in refused.err) == (2, True), refused.err
    assert len(refused.err.splitlines()) <= 3


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random CLIP by itself."""
    import clip_oracle

    return str(clip_oracle.write(tmp_path_factory.mktemp("judges") / "tiny-clip"))


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A toy model without a CLIP."""
    from pipelines.toys import cascade

    return str(cascade.write(tmp_path_factory.mktemp("toys") / "painter"))


def command(*arguments: str | bytes) -> list[str | bytes]:
    """The command line of a process that runs `dalle`."""
    return [sys.executable, "-m", "dallecli", *arguments]


def environment(**changes: str) -> dict[str, str]:
    """This environment, with the checkout importable from any folder."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]), **changes}


def process(*arguments: str | bytes, stdin: bytes = b"", **changes: str) -> Result:
    """Run `dalle` as a process of its own."""
    done = subprocess.run(command(*arguments), input=stdin, capture_output=True, env=environment(**changes), timeout=60)
    return Result(done.returncode, done.stdout, done.stderr.decode())


def on_terminal(
    *arguments: str, out_too: bool = False, widths: Sequence[int] = (80,), seconds: float = 0.3, **changes: str
) -> Result:
    """Run `dalle` with standard error (and standard output, too, if asked) on a terminal.

    It has the first of `widths`, and every so many `seconds` the next. `err` is everything that the terminal received;
    where it was resized, what stands on it in the end.
    """
    ours, theirs = pty.openpty()
    _resize(theirs, widths[0])
    running = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=theirs if out_too else subprocess.PIPE,
        stderr=theirs,
        env=environment(**{"TERM": "xterm-256color", **changes}),
    )
    os.close(theirs)
    received, terminal, coming, since = b"", Terminal(widths[0]), list(widths[1:]), time.monotonic()
    decoder = codecs.getincrementaldecoder("utf-8")()
    # Linux ends a terminal whose other side was closed with an error, other systems with no bytes.
    with contextlib.suppress(OSError):
        while True:
            if coming and time.monotonic() - since >= seconds:
                # What was on its way to the old terminal reaches the new one, as it does everywhere.
                _resize(ours, coming[0])
                terminal.resize(coming.pop(0))
                since = time.monotonic()
            if not select.select([ours], [], [], 0.02)[0]:
                continue
            chunk = os.read(ours, 65536)
            if not chunk:
                break
            received += chunk
            terminal.receive(decoder.decode(chunk))
    os.close(ours)
    out = running.communicate(timeout=60)[0]
    said = received.decode() if len(widths) == 1 else "\n".join(terminal.lines)
    return Result(running.returncode, b"" if out is None else out, said)


def _resize(terminal: int, width: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))


def screen(received: str, width: int = 80) -> list[str]:
    """The lines that stand on a terminal after it received this text."""
    terminal = Terminal(width)
    terminal.receive(received)
    return terminal.lines


class Terminal:
    """A terminal that never scrolls, and folds and unfolds its lines when it is resized, as those in use do."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = [""]
        self.folded = [False]
        """Whether a row goes on in the next one."""
        self.row = self.column = 0
        self.cuts = False
        self._rest = ""

    @property
    def lines(self) -> list[str]:
        """What stands there, with folded rows in one."""
        found = [""]
        for row, folded in zip(self.rows, self.folded, strict=True):
            found[-1] += row
            if not folded:
                found.append("")
        return [line.rstrip() for line in found[:-1]]

    def receive(self, text: str) -> None:
        text = self._rest + text
        tokens = re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\[?[0-9;?]*$|.", text, re.DOTALL)
        self._rest = tokens.pop() if tokens and re.fullmatch(r"\x1b\[?[0-9;?]*", tokens[-1]) else ""
        for token in tokens:
            self._take(token)

    def _take(self, token: str) -> None:
        if token == "\r":
            self.column = 0
        elif token == "\n":
            self._down()
        elif token == "\x1b[2K":
            self.rows[self.row], self.folded[self.row] = "", False
        elif token == "\x1b[0J":
            self.rows[self.row] = self.rows[self.row][: self.column]
            del self.rows[self.row + 1 :], self.folded[self.row + 1 :]
            self.folded[self.row] = False
        elif re.fullmatch(r"\x1b\[\d*A", token):
            self.row = max(0, self.row - int(token[2:-1] or 1))
        elif token in ("\x1b[?7l", "\x1b[?7h"):
            self.cuts = token[-1] == "l"
        elif token.startswith("\x1b"):
            assert token[-1] in "mhl", f"a control that this terminal does not know: {token!r}"
        else:
            self._write(token)

    def _write(self, character: str) -> None:
        if self.column >= self.width:
            if self.cuts:
                self.column = self.width - 1
            else:
                self.folded[self.row] = True
                self._down()
                self.column = 0
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
        self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
            self.folded.append(False)

    def resize(self, width: int) -> None:
        rows: list[str] = []
        folded: list[bool] = []
        line = ""
        place = (0, 0)  # the new row where the line of the cursor begins, and the cursor's place in that line
        for number, (row, goes_on) in enumerate(zip(self.rows, self.folded, strict=True)):
            if number == self.row:
                place = len(rows), len(line) + self.column
            line += row
            if goes_on:
                continue
            parts = [line[k : k + width] for k in range(0, max(1, len(line)), width)]
            rows += parts
            folded += [True] * (len(parts) - 1) + [False]
            line = ""
        self.rows, self.folded, self.width = rows, folded, width
        self.row, self.column = min(len(rows) - 1, place[0] + place[1] // width), place[1] % width
