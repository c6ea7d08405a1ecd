"""A long night does not wear a batch out, and its pictures are the same whichever way they come to be."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from batch.test_ways import LINES, WAYS, hashes, paint
from cli.conftest import command, environment
from cli.test_batch import start
from PIL import Image

from dallecli.studio.engine import LocalEngine

pytestmark = [pytest.mark.trust, pytest.mark.slow]

ITEMS = 2000
EVERY = 20


def test_two_thousand_pictures_take_no_more_memory_than_two_hundred(figures):
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(ITEMS)), encoding="utf-8")
    running = start("generate", "--prompts", "p.txt", "--size", "16", "--quiet")
    assert running.stdout is not None
    done, kib, files = [], [], []
    for k, _ in enumerate(running.stdout):
        if k % EVERY == 0 and k >= ITEMS // 10 and running.poll() is None:
            status = Path(f"/proc/{running.pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert found is not None
            done.append(k)
            kib.append(int(found[1]))
            files.append(len(list(Path(f"/proc/{running.pid}/fd").iterdir())))
    assert (running.wait(timeout=60), k) == (0, ITEMS - 1)
    slope = float(np.polyfit(done, kib, 1)[0])
    figures["memory"] = {
        "pictures": ITEMS,
        "KiB a picture": round(slope, 3),
        "peak MiB": round(max(kib) / 1024),
        "open files more": max(files) - files[0],
    }
    assert slope <= 5
    assert max(files) - min(files) <= 2  # the one that is just being written, and its folder


def test_all_ways_give_the_same_bytes(figures, tmp_path):
    engine = LocalEngine()
    sets = set()
    for k, way in enumerate([lambda engine, folder: paint(engine, LINES, folder), *WAYS]):
        (tmp_path / str(k)).mkdir()
        way(engine, tmp_path / str(k) / "o")
        sets.add(tuple(hashes(tmp_path / str(k) / "o")))
    figures["determinism"] = {"ways": len(WAYS) + 1, "sets of hashes": len(sets)}
    assert len(sets) == 1


def _on_threads(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `dalle` with its own settings on so many threads, which share a core here and shall not spin."""
    threads = environment(DALLE_ENGINE="local", OMP_NUM_THREADS=str(count), OMP_WAIT_POLICY="PASSIVE")
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=True, env=threads, timeout=600)


def test_what_two_threads_painted_with_the_commands_own_settings_is_made_again_where_one_is_the_default(figures):
    Path("p.txt").write_text("a red car\na house in the snow\n", encoding="utf-8")
    batch = ("generate", "--prompts", "p.txt", "--out", "o")
    paths = _on_threads(2, *batch).stdout.splitlines()
    assert len(paths) == 2
    Path(paths[0]).rename("kept.png")
    resumed = _on_threads(1, *batch)
    assert "2 threads; the missing ones are with" in resumed.stderr
    again = _on_threads(1, "replay", "kept.png", "-o", "again.png")
    figures["threads"] = {"levels apart": _apart("kept.png", paths[0]), "made again": _apart("kept.png", "again.png")}
    assert "differ" not in again.stderr
    assert figures["threads"]["made again"] == 0


def _apart(one: str, other: str) -> int:
    with Image.open(one) as first, Image.open(other) as second:
        return int(np.abs(np.asarray(first, np.int16) - np.asarray(second, np.int16)).max())


def test_the_corpus_of_pictures_is_read_as_their_makers_meant(figures):
    corpus = Path(__file__).parents[1] / "pictures" / "test_reading.py"
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(corpus)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=300)
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None, done.stdout
    assert done.returncode == 0, done.stdout
    assert int(counted[1]) >= 40
    figures["pictures of known pixels and damage"] = {"cases": int(counted[1]), "wrong": 0}
