"""Processes that share a folder do everything once, whoever of them dies."""

import json
from pathlib import Path

import pytest
from cli.conftest import Dalle
from cli.test_batch import entries, pictures, start

pytestmark = [pytest.mark.trust, pytest.mark.slow]

PROCESSES = 8
EACH = 200


@pytest.mark.parametrize("lists", ["same", "different"])
def test_eight_processes_lose_nothing_and_do_nothing_twice(dalle: Dalle, figures, lists):
    """Of those with the same list three are killed; they leave claims behind, which count for nothing."""
    for p in range(PROCESSES):
        words = "fox" if lists == "same" else f"fox of {p}"
        Path(f"{p}.txt").write_text("".join(f"{words} {k}\n" for k in range(EACH)), encoding="utf-8")
    options = ("--share", "--size", "16", "--out", "o", "--no-history")
    running = [start("generate", "--prompts", f"{p}.txt", *options) for p in range(PROCESSES)]
    victims = running[:3] if lists == "same" else []
    for victim in victims:
        assert victim.stdout is not None
        victim.stdout.readline()
        victim.kill()
    said = [process.communicate(timeout=500) for process in running]
    assert [process.returncode for process in running[len(victims) :]] == [0] * (PROCESSES - len(victims)), said
    assert dalle("generate", "--prompts", "0.txt", *options).code == 0  # what the killed ones had begun
    asked = EACH * (1 if lists == "same" else PROCESSES)
    printed = [line for out, _ in said for line in out.splitlines()]
    figures[f"{PROCESSES} processes, {lists} lists of {EACH}"] = {
        "lost": asked - len(pictures("o")),
        "done twice": len(entries("o")) - len({entry["key"] for entry in entries("o")}),
        "printed twice": len(printed) - len(set(printed)),
        "killed": len(victims),
    }
    assert len(pictures("o")) == asked
    assert len({json.dumps(entry["key"]) for entry in entries("o")}) == len(entries("o")) == asked
    assert len(set(printed)) == len(printed)
    assert dalle("check", "o").err == f"o: {asked} intact\n"
