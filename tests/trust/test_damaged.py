"""Files of dalle's own that were damaged, arguments of any kind, and bad inputs among good ones: none is a mistake."""

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from cli.conftest import Dalle
from PIL import Image

from .test_limits import LARGE, run
from .test_noise import harmless

pytestmark = [pytest.mark.trust, pytest.mark.slow]

SECONDS: Final = 60.0
"""How long each kind of noise is made."""
CODES: Final = range(6)
"""The exit codes of what has an explanation."""

READERS: Final = (
    ("show", "a.png"),
    ("show", "a.png", "--json"),
    ("show", "a.safetensors"),
    ("replay", "a.png", "-o", "again.png", "--force"),
    ("grid", "a.png", "b.png", "-o", "sheet.png", "--force"),
    ("check", "night"),
    ("check", "night", "--json"),
    ("generate", "--prompts", "p.txt", "--out", "night", "--size", "16"),
    ("interpolate", "a.safetensors", "a.png", "--frames", "2", "-o", "i.png", "--force"),
    ("history",),
    ("history", "fox", "--json"),
    ("generate", "a fox", "--size", "16", "-o", "new.png", "--force"),
    ("config", "get"),
    ("config", "set", "steps", "3"),
    ("config", "unset", "steps"),
    ("doctor",),
    ("models", "list"),
    ("models", "words"),
)
"""What reads those files."""


@pytest.fixture
def own_files(dalle: Dalle, tmp_path: Path) -> list[Path]:
    """Every file that dalle writes for itself, whole."""
    assert dalle("generate", "a fox", "--size", "16", "-s", "3", "-o", "a.png").code == 0
    assert dalle("generate", "a car", "--size", "16", "-s", "4", "-o", "b.png").code == 0
    assert dalle("embed", "a fox", "-o", "a.safetensors").code == 0
    Path("p.txt").write_text("a fox\na car\n", encoding="utf-8")
    assert dalle("generate", "--prompts", "p.txt", "--out", "night", "--size", "16").code == 0
    assert dalle("config", "set", "steps", "7").code == 0
    return sorted(path for path in tmp_path.rglob("*") if path.is_file())


def damages(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """A file with some bytes changed, cut short, doubled, emptied, and of noise alone."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.choice((0, 10, 34, 91, 123, 255, chance.randrange(256)))
    yield bytes(changed)
    yield data[: chance.randrange(len(data) + 1)]
    yield data + data
    yield b""
    yield chance.randbytes(chance.randint(1, 400))


def test_a_damaged_file_of_our_own_is_named_or_read(dalle: Dalle, own_files, figures):
    chance, tried, until = random.Random(5), 0, time.monotonic() + SECONDS
    whole = {path: path.read_bytes() for path in own_files}
    while time.monotonic() < until:
        path = chance.choice(own_files)
        for data in damages(whole[path], chance):
            path.write_bytes(data)
            command = chance.choice(READERS)
            result = dalle(*command)
            tried += 1
            assert result.code in CODES, (command, path.name, data[:400], result.err)
            assert harmless(result), (command, path.name, result.err)
        for name, content in whole.items():
            name.write_bytes(content)
    figures["damaged files of its own"] = {"seconds": SECONDS, "tried": tried, "mistakes": 0}
    assert tried >= 100


def test_a_file_of_our_own_that_is_something_else_is_named(dalle: Dalle, own_files, figures):
    tried = 0
    kinds: list[Callable[[Path], None]] = [
        Path.mkdir,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/full"),
        lambda path: path.touch(0o000),
    ]
    for path in own_files:
        content = path.read_bytes()
        for kind in kinds:
            path.unlink()
            kind(path)
            for command in READERS:
                result = dalle(*command)
                tried += 1
                assert result.code in CODES, (command, path.name, result.err)
                assert harmless(result), (command, path.name, result.err)
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
            path.write_bytes(content)
    figures["files of its own that are something else"] = {"tried": tried, "mistakes": 0}


def test_a_history_with_other_columns_is_named(dalle: Dalle, own_files):
    [path] = (path for path in own_files if path.name == "history.sqlite")
    path.unlink()
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("create table pictures (x)")
    result = dalle("history")
    assert result.code in CODES
    assert harmless(result)


WORDS: Final = (
    *("a.png", "b.png", "a.safetensors", "p.txt", "night", "nope", ".", "/", "", "-", "--", "-1", "0", "1e400", "nan"),
    *("a fox", "é\udcff", "\0", "x" * 3000, "=", "{", "*", "~nobody/x", "hf:", "hf:a/b", "karlo", "\x1b[2J", "9" * 400),
    *(
        "-o",
        "-n",
        "-q",
        "-m",
        "-s",
        "--json",
        "--out",
        "--size",
        "--columns",
        "--force",
        "--debug",
        "--prompts",
        "--of",
    ),
)
CHEAP: Final = (
    *(("show",), ("check",), ("grid",), ("rank",), ("history",), ("config", "get"), ("config", "set")),
    *(("config", "unset"), ("models", "list"), ("models", "words"), ("models", "verify"), ("models", "remove")),
    *(("models", "convert"), ("doctor",), ("replay",), ("generate", "--dry-run"), ("vary", "--dry-run"), ("embed",)),
    *(("interpolate", "--dry-run"), ("inpaint", "--dry-run"), ("edit", "--dry-run"), ("help",), ()),
)


def test_arguments_of_any_kind_are_understood_or_refused(dalle: Dalle, own_files, figures):
    chance, tried, until = random.Random(6), 0, time.monotonic() + SECONDS
    whole = {path: path.read_bytes() for path in own_files}
    while time.monotonic() < until:
        command = (*chance.choice(CHEAP), *chance.choices(WORDS, k=chance.randint(0, 5)))
        result = dalle(*command)
        tried += 1
        assert result.code in CODES, (command, result.err)
        assert "mistake" not in result.err, (command, result.err)
        for name, content in whole.items():  # some commands are meant to change them
            name.parent.mkdir(parents=True, exist_ok=True)
            if not name.is_file() or name.read_bytes() != content:
                name.write_bytes(content)
    figures["arguments of any kind"] = {"seconds": SECONDS, "tried": tried, "mistakes": 0}
    assert tried >= 100


def test_bad_inputs_among_good_ones_cost_nothing_but_themselves(tmp_path, monkeypatch, figures):
    monkeypatch.chdir(tmp_path)
    chance, lost = random.Random(7), 0
    for _ in range(4):
        names = []
        for number in range(6):
            name = f"{number}.png"
            Image.new("RGB", (64, 64), (40 * number, 90, 120)).save(name)
            if chance.random() < 0.4:
                whole = Path(name).read_bytes()
                Path(name).write_bytes(chance.choice((whole[:50], b"", chance.randbytes(99), b"<html>")))
                names.append(name)
        good = 6 - len(names)
        for line in (("vary", "--size", "16", "--steps", "2", "-s", "1", "--out", "v"), ("embed", "--out", "v")):
            shutil.rmtree("v", ignore_errors=True)
            files = [f"{number}.png" for number in range(6)]
            code, said = run(*line, *files, most=LARGE, DALLE_ENGINE="local", OMP_NUM_THREADS="1")
            lost += good - len(list(Path("v").glob("*.*")) if Path("v").is_dir() else [])
            assert code == (0 if not names else 1 if good else 2), said
            assert all(f"{name}: " in said for name in names) or not good, said
    figures["bad inputs among good ones"] = {"commands": 8, "good ones lost": lost}
    assert lost == 0
