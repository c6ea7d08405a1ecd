"""Whenever a batch is killed, or the disk fails it, what is there is whole, and the same command makes the rest, once.

All points, in five ways: `pytest -m slow tests/batch/test_kill_points.py`. A few of them run always.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLER = Path(__file__).parent / "killer.py"


def kill(folder: Path, *arguments: str) -> dict[str, object]:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(KILLER), str(folder), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_nothing_is_lost_torn_or_done_twice_at_some_points(tmp_path):
    found = kill(tmp_path, "5", "53", "once")
    assert found["wrong"] == []
    assert int(str(found["points"])) >= 2
    assert int(str(found["most_painted_again"])) <= 9


def test_an_error_of_the_disk_harms_nothing(tmp_path):
    found = kill(tmp_path, "9", "67", "ENOSPC")
    assert found["wrong"] == []
    assert int(str(found["points"])) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "twice", "ENOSPC", "EIO", "EACCES"])
def test_nothing_is_lost_torn_or_done_twice_at_any_point(tmp_path, how):
    found = kill(tmp_path, "1", "1", how)
    assert found["wrong"] == []
    assert int(str(found["points"])) >= 100
