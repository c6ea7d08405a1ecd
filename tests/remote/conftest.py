"""A server that is used as an engine, as a process of its own; and a folder for each side of a comparison."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from dallecli.cli.app import run
from tests.server.talking import Talk, process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """`dalle serve` with the fake engine."""
    with process(tmp_path_factory.mktemp("server")) as talk:
        yield talk


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No config file, the fake engine here, no server and no token; an empty folder to work in."""
    for name in ("DALLE_MODEL", "DALLE_DEVICE", "DALLE_FAKE_SECONDS", "DALLE_SERVER", "DALLE_TOKEN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DALLE_ENGINE", "fake")
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@dataclass(frozen=True)
class Result:
    """How a command ended, what it said, and the files that it wrote, by their names."""

    code: int
    out: str
    err: str
    files: Mapping[str, bytes]

    @property
    def said(self) -> str:
        """What it said, without how long it took."""
        return re.sub(r"\d+\.\d s|\"seconds\": [\d.e-]+", "SECONDS", self.out + self.err)


Dalle = Callable[..., Result]


@pytest.fixture
def dalle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Dalle:
    """Run a command line in a new folder with cat.png, mask.png and dog.jpg, in this process."""
    numbers = iter(range(1000))

    def call(*arguments: str, stdin: str = "") -> Result:
        folder = tmp_path / f"{next(numbers)}"
        folder.mkdir()
        given = fill(folder)
        monkeypatch.chdir(folder)
        code = run(arguments)
        captured = capfdbinary.readouterr()
        found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        files = {name: data for name, data in found.items() if given.get(name) != data and ".dalle" not in name}
        return Result(code, captured.out.decode("latin-1"), captured.err.decode(), files)

    return call


def fill(folder: Path) -> dict[str, bytes]:
    """Put the inputs of tests into a folder."""
    Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(folder / "cat.png")
    Image.new("RGB", (40, 32), (30, 60, 200)).save(folder / "dog.jpg")
    mask = Image.new("L", (64, 48))
    mask.paste(255, (10, 10, 30, 30))
    mask.save(folder / "mask.png")
    (folder / "lines.jsonl").write_text(
        '{"prompt": "a red car"}\n{"prompt": "a dog", "n": 3}\n'
        '{"command": "vary", "image": "cat.png", "name": "varied"}\n{"prompt": "a fox", "guidance": 2}\n'
    )
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def url(talk: Talk) -> str:
    return f"http://127.0.0.1:{talk.port}"


def client(*arguments: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-m", "dallecli", *arguments]


def needs(program: str) -> bool:
    return shutil.which(program) is not None
