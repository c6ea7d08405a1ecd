"""What was checked is what is painted, whoever edits the files meanwhile; or it is said what is missing."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import Dalle
from cli.test_batch import pictures, start
from fewer import fewer
from PIL import Image

from dallecli.pictures.metadata import read_recipe

pytestmark = pytest.mark.trust

LINES = 30


def run_and_edit(edit: Callable[[], None], *arguments: str) -> tuple[int, list[str], str]:
    """Start a batch, and change its files as soon as its first picture is there."""
    running = start(*arguments, "--size", "16", DALLE_FAKE_SECONDS="0.002")
    assert running.stdout is not None
    first = running.stdout.readline().decode().strip()
    edit()
    assert running.poll() is None, "the batch was over before anything was edited"
    out, err = running.communicate(timeout=60)
    return running.returncode, [first, *out.decode().splitlines()], err.decode()


def overwrite(path: str, data: bytes) -> None:
    """As an editor does that keeps the file, not its content."""
    with Path(path).open("r+b") as file:
        file.truncate(0)
        file.write(data)


EDITS: dict[str, bytes] = {
    "emptied": b"",
    "made invalid": b"{\n" * LINES,
    "given one name": b'{"prompt": "a hen", "name": "same"}\n' * LINES,
    "given more lines": b'{"prompt": "a hen"}\n' * (4 * LINES),
    "turned into another kind": b"\xff\xfe" + "a hen\n".encode("utf-16-le") * LINES,
}


@pytest.mark.parametrize(
    "edit", ["made invalid", *(pytest.param(edit, marks=pytest.mark.slow) for edit in EDITS if edit != "made invalid")]
)
@pytest.mark.long
def test_a_prompt_file_that_is_edited_is_painted_as_it_was_checked(figures, edit):
    lines = [f'{{"prompt": "fox {k}", "name": "{k}"}}\n' for k in range(LINES)]
    Path("p.jsonl").write_text("".join(lines), encoding="utf-8")
    code, printed, err = run_and_edit(
        lambda: overwrite("p.jsonl", EDITS[edit]), "generate", "--prompts", "p.jsonl", "--out", "o"
    )
    assert (code, len(printed)) == (0, LINES), err
    assert pictures("o") == sorted(f"{k}.png" for k in range(LINES))
    assert all(read_recipe(Path("o") / f"{k}.png").prompt == f"fox {k}" for k in range(LINES))
    counted = figures.setdefault("prompt files edited while they are painted", {"promised": 0, "missing": 0})
    counted["promised"] += LINES
    counted["missing"] += LINES - len(pictures("o"))


@pytest.mark.parametrize("content", ["blue\n", "", None], ids=["other words", "emptied", "removed"])
@pytest.mark.long
def test_a_list_that_is_edited_is_used_as_it_was_checked(content):
    Path("colour.txt").write_text("red\n", encoding="utf-8")
    Path("p.txt").write_text("".join(f"a __colour__ fox {k}\n" for k in range(LINES)), encoding="utf-8")

    def edit() -> None:
        if content is None:
            Path("colour.txt").unlink()
        else:
            overwrite("colour.txt", content.encode())

    code, printed, err = run_and_edit(edit, "generate", "--prompts", "p.txt", "--out", "o")
    assert (code, len(printed)) == (0, LINES), err
    assert {read_recipe(Path(line)).prompt for line in printed} == {f"a red fox {k}" for k in range(LINES)}


def noise(path: str, seed: int) -> None:
    Image.frombytes("RGB", (32, 32), bytes((seed * 7 + k) % 256 for k in range(3 * 32 * 32))).save(path)


def mask(path: str, side: int) -> None:
    image = Image.new("L", (32, 32), 0)
    image.paste(255, (0, 0, side, side))
    image.save(path)


# A line with the file that is changed, and what is done to that file.
INPUTS = {
    "a picture to vary": {"command": "vary", "image": "late.png", "n": 3},
    "a picture to paint over": {"prompt": "a fox", "init": "late.png", "n": 3},
    "a picture to inpaint": {"command": "inpaint", "image": "late.png", "mask": "0,0,8,8", "n": 3},
    "a mask": {"command": "inpaint", "image": "cat.png", "mask": "late.png", "n": 3},
    "a picture to edit": {"command": "edit", "image": "late.png", "from": "a cat", "to": "a dog", "n": 3},
    "an end of a way": {"command": "interpolate", "ends": ["a cat", "late.png"], "frames": 3},
}


@pytest.mark.parametrize(
    "change", ["other", *(pytest.param(how, marks=pytest.mark.slow) for how in ("removed", "made a pipe"))]
)
@pytest.mark.parametrize("what", fewer(INPUTS, each=3))
@pytest.mark.long
def test_a_file_that_is_changed_between_check_and_use_is_named_and_not_painted(dalle: Dalle, figures, what, change):
    for name, seed in (("cat.png", 1), ("late.png", 2)):
        noise(name, seed)
    if what == "a mask":
        mask("late.png", 8)
    lines = [{"prompt": f"fox {k}"} for k in range(LINES)] + [INPUTS[what]]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def edit() -> None:
        Path("late.png").unlink()
        if change == "other" and what == "a mask":
            mask("late.png", 12)
        elif change == "other":
            noise("late.png", 3)
        elif change == "made a pipe":
            os.mkfifo("late.png")

    code, printed, err = run_and_edit(edit, "generate", "--prompts", "p.jsonl", "--out", "o")
    assert (code, len(printed), len(pictures("o"))) == (1, LINES, LINES), err
    assert f"p.jsonl:{LINES + 1}: " in err
    assert "late.png" in err
    assert f"3 of {LINES + 3} pictures failed" in err
    left = [json.loads(line) for line in Path("o/failed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert left == [INPUTS[what]]
    counted = figures.setdefault("inputs changed between check and use", {"tried": 0, "painted all the same": 0})
    counted["tried"] += 1
    if change == "other":
        # Who says so once more means the new file.
        again = dalle("generate", "--prompts", "p.jsonl", "--out", "o", "--size", "16")
        assert (again.code, len(again.lines)) == (0, 3), again.err


@pytest.mark.long
def test_words_that_become_a_file_are_not_painted_as_one():
    lines = [{"prompt": f"fox {k}"} for k in range(LINES)] + [
        {"command": "interpolate", "ends": ["tree", "a cat"], "frames": 2}
    ]
    Path("p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, printed, err = run_and_edit(
        lambda: noise("tree.png", 3) or Path("tree.png").rename("tree"),
        "generate",
        "--prompts",
        "p.jsonl",
        "--out",
        "o",
    )
    assert (code, len(printed)) == (1, LINES)
    assert "this file has changed since the line was checked (tree)" in err


def test_what_has_no_end_is_not_copied_for_ever(dalle: Dalle, figures):
    began = time.monotonic()
    result = dalle("generate", "--prompts", "/dev/zero")
    assert (result.code, "it is a device, and not a file" in result.err) == (2, True)
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_stream_without_an_end_is_refused_within_its_bound(tmp_path):
    from cli.conftest import command, environment

    words = " ".join(f"'{word}'" for word in command("generate", "--prompts", "-"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 4000000; yes fox | {words}"],
        capture_output=True,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == 2
    assert b"there are more than 1 GiB in it" in done.stderr
