"""Whoever starts, ends or is killed beside them, other processes lose nothing that they are writing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import Dalle, environment
from cli.test_batch import pictures
from fewer import fewer

pytestmark = pytest.mark.trust

SLOW = Path(__file__).parent / "slow_disk.py"


def slow(seconds: float, *arguments: str) -> subprocess.Popen[bytes]:
    """A process for which the disk is slow."""
    return subprocess.Popen(
        [sys.executable, str(SLOW), str(seconds), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )


def hidden(folder: str) -> list[Path]:
    return list(Path(folder).rglob(".dalle-*.tmp"))


def wait_for_hidden(folder: str) -> None:
    until = time.monotonic() + 30
    while not hidden(folder):
        assert time.monotonic() < until, "nothing is being written"
        time.sleep(0.005)


NEIGHBOURS = {
    "a batch in a subfolder": (("generate", "--prompts", "p.txt", "--out", "o/sub", "--size", "16"), "o/sub", 6),
    "single pictures": (("generate", "a fox", "-n", "6", "--layout", "files", "--out", "o", "--size", "16"), "o", 6),
    "a sheet": (("generate", "a fox", "-n", "4", "-o", "o/sheet.png", "--size", "16"), "o", 1),
    "variations": (("vary", "cat.png", "-n", "4", "--layout", "files", "--out", "o", "--size", "16"), "o", 4),
    "an animation": (("interpolate", "a cat", "a dog", "-o", "o/way.gif", "--size", "16"), "o", 0),
}


@pytest.mark.parametrize("neighbour", fewer(NEIGHBOURS, next(iter(NEIGHBOURS))))
@pytest.mark.long
def test_a_batch_that_starts_leaves_alone_what_a_slow_neighbour_is_writing(dalle: Dalle, figures, neighbour):
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save("cat.png")
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(6)), encoding="utf-8")
    Path("o/sub").mkdir(parents=True)
    arguments, folder, count = NEIGHBOURS[neighbour]
    running = slow(0.25, *arguments)
    wait_for_hidden(folder)
    starts = 0
    while running.poll() is None:
        line = b'{"prompt": "a dog", "name": "dog", "size": 16}\n'
        assert dalle("generate", "--prompts", "-", "--out", "o", "--quiet", stdin=line).code == 0
        starts += 1
    out, err = running.communicate(timeout=60)
    counted = figures.setdefault("slow neighbours", {"neighbours": 0, "batches started beside them": 0, "lost": 0})
    counted["neighbours"] += 1
    counted["batches started beside them"] += starts
    assert (running.returncode, starts > 0) == (0, True), err.decode()
    made = [Path(line) for line in out.decode().splitlines()]
    assert made
    assert all(path.is_file() for path in made)
    assert len([name for name in pictures(folder) if "dog" not in name]) == count
    assert not hidden("o")


def test_what_a_killed_neighbour_was_writing_is_removed_by_the_next_batch(dalle: Dalle):
    Path("o/sub").mkdir(parents=True)
    killed = slow(30, "generate", "a fox", "--out", "o/sub", "--size", "16")
    wait_for_hidden("o/sub")
    killed.kill()
    killed.communicate()
    assert hidden("o")
    assert dalle("generate", "--prompts", "-", "--out", "o", stdin=b"a dog\n").code == 0
    assert not hidden("o")
