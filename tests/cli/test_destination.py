"""Folders of --out are made where they are missing, and --open shows what was made: in every command the same."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Dalle

COMMANDS = {
    "generate": ["generate", "a fox"],
    "sheet": ["generate", "a fox", "-n", "3", "--layout", "both"],
    "axes": ["generate", "a fox", "--x", "steps=2,3"],
    "vary": ["vary", "cat.png"],
    "interpolate": ["interpolate", "cat.png", "a dog"],
    "inpaint": ["inpaint", "cat.png", "--mask", "1,1,8,8"],
    "show-mask": ["inpaint", "cat.png", "--mask", "1,1,8,8", "--show-mask"],
    "edit": ["edit", "cat.png", "--from", "a cat", "--to", "a dog"],
    "replay": ["replay", "made.png"],
    "grid": ["grid", "cat.png", "made.png"],
    "embed": ["embed", "cat.png"],
    "batch": ["generate", "--prompts", "prompts.txt"],
}


@pytest.fixture(autouse=True)
def inputs(dalle: Dalle) -> None:
    Image.new("RGB", (32, 32), (30, 60, 200)).save("cat.png")
    Path("prompts.txt").write_text("a fox\n")
    assert dalle("generate", "a fox", "-o", "made.png").code == 0


@pytest.fixture
def viewed(monkeypatch, tmp_path) -> Path:
    """Where a viewer of this test writes what it was given."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("xdg-open", "open"):
        (programs / name).write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path / "viewed"}\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return tmp_path / "viewed"


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_missing_output_folder_is_made_and_named_once(dalle: Dalle, arguments):
    result = dalle(*arguments, "--out", "new/deep")
    assert result.code == 0, result.err
    assert result.err.splitlines().count("made the folder new/deep") == 1
    assert result.lines and all(Path(line).parent == Path("new/deep") and Path(line).is_file() for line in result.lines)
    assert "made the folder" not in dalle(*arguments, "--out", "new/deep").err


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_quiet_makes_the_folder_and_says_nothing(dalle: Dalle, arguments):
    result = dalle(*arguments, "--out", "new", "--quiet")
    assert (result.code, result.remarks) == (0, "")
    assert Path("new").is_dir()


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "a fox", "--dry-run"],
        ["generate", "--prompts", "prompts.txt", "--dry-run"],
        ["generate", "a fox", "--model", "nope"],
        ["grid", "missing.png"],
        ["vary", "missing.png"],
        ["embed", "cat.png", "--minus", "missing.png"],
    ],
    ids=" ".join,
)
def test_what_writes_nothing_makes_no_folder(dalle: Dalle, arguments):
    assert "made the folder" not in dalle(*arguments, "--out", "new").err
    assert not Path("new").exists()


def test_an_output_folder_that_cannot_be_made_is_refused(dalle: Dalle):
    Path("file").write_text("x")
    assert "the output folder is not a folder" in dalle("generate", "a fox", "--out", "file").err
    result = dalle("generate", "a fox", "--out", "file/below")
    assert (result.code, result.err.splitlines()[:2]) == (
        2,
        ["error: cannot write here: Not a directory", "where: file/below"],
    )


@pytest.mark.parametrize(
    "arguments", [words for name, words in COMMANDS.items() if name not in ("embed", "batch", "sheet")], ids=" ".join
)
def test_open_shows_the_finished_picture(dalle: Dalle, viewed: Path, arguments):
    result = dalle(*arguments, "--out", "-x", "--open")
    assert result.code == 0, result.err
    (line,) = result.lines
    assert viewed.read_text() == str(Path(line).absolute())


@pytest.mark.parametrize("name", ["batch", "sheet"])
def test_open_shows_the_folder_of_several_files(dalle: Dalle, viewed: Path, name):
    assert dalle(*COMMANDS[name], "--out", "new", "--open").code == 0
    assert viewed.read_text() == str(Path("new").absolute())


def test_a_viewer_that_is_missing_or_fails_is_a_warning(dalle: Dalle, viewed: Path, monkeypatch):
    program = "open" if sys.platform == "darwin" else "xdg-open"
    (viewed.parent / "programs" / program).write_text("#!/bin/sh\nexit 3\n")
    failed = dalle("generate", "a fox", "-o", "x.png", "--open")
    assert failed.code == 0
    assert f"x.png cannot be shown: {program} ended with code 3" in failed.err
    monkeypatch.setenv("PATH", "")
    missing = dalle("generate", "a fox", "-o", "y.png", "--open")
    assert missing.code == 0
    assert f"y.png cannot be shown: {program} is not installed" in missing.err
    piped = dalle("generate", "a fox", "-o", "-", "--open")
    assert (piped.code, piped.remarks) == (0, "warning: --open: there is no file to show\n")
