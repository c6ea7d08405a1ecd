"""A long night does not wear a batch out, and its pictures are the same whichever way they come to be."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from batch.test_ways import LINES, WAYS, hashes, paint
from cli.conftest import environment
from cli.test_batch import start

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


def test_the_corpus_of_pictures_is_read_as_their_makers_meant(figures):
    corpus = Path(__file__).parents[1] / "pictures" / "test_reading.py"
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(corpus)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=300)
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted is not None, done.stdout
    assert done.returncode == 0, done.stdout
    assert int(counted[1]) >= 40
    figures["pictures of known pixels and damage"] = {"cases": int(counted[1]), "wrong": 0}
