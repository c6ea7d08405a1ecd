"""`dalle` in this process (fast) and as a process of its own (true), both with the fake engine in an empty folder."""

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def on_terminal(*arguments: str, out_too: bool = False, **changes: str) -> Result:
    """Run `dalle` with standard error (and standard output, too, if asked) on a terminal 80 columns wide.

    `err` is everything that the terminal received.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    running = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=theirs if out_too else subprocess.PIPE,
        stderr=theirs,
        env=environment(**{"TERM": "xterm-256color", **changes}),
    )
    os.close(theirs)
    received = b""
    # Linux ends a terminal whose other side was closed with an error, other systems with no bytes.
    with contextlib.suppress(OSError):
        while chunk := os.read(ours, 65536):
            received += chunk
    os.close(ours)
    out = running.communicate(timeout=60)[0]
    return Result(running.returncode, b"" if out is None else out, received.decode())


def screen(received: str) -> list[str]:
    """The lines that stand on a terminal after it received this text.

    It knows what rich uses: line ends, colours, up, and erasing a line. Lines do not wrap or scroll.
    """
    lines, row, column = [""], 0, 0
    for control, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", received):
        if control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[\d*A", control):
            row -= int(control[2:-1] or 1)
        elif control:
            assert control[-1] in "mhl", f"a control that this screen does not know: {control!r}"
        lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
        column += len(text)
    return [line.rstrip() for line in lines]
