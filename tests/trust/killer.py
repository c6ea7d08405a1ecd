"""Runs a batch in forks of itself, each killed at another call to the system: `killer.py FOLDER FIRST STEP HOW`.

HOW is "once"; or "twice", where the fork that goes on is killed as well; or the name of an error, as ENOSPC, with which
the call fails instead.

Every fork dies at one call of those that change something on the disk, some die half-way through a write. What is there
then is looked at, and another fork goes on, perhaps to be killed as well. At the end one line of JSON says how many
points there were, and what was wrong. The last point is the first at which nobody was killed.
"""

import contextlib
import errno
import hashlib
import io
import json
import mmap
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from dallecli.batch.journal import NAME
from dallecli.cli.app import run
from dallecli.fake_engine import FakeEngine

CALLS = ("open", "write", "fsync", "link", "replace", "rename", "unlink", "mkdir", "ftruncate", "close")
ITEMS = 9
OPTIONS = ("--quiet", "--retry-failed", "--no-history")
HIT = mmap.mmap(-1, 1)  # a byte that forks share: whether a call was made to fail
PROMPTS = "".join(f'{{"prompt": "fox {k}", "name": "{k}", "size": 16}}\n' for k in range(ITEMS))


def forked(folder: Path, kill_at: int | None, error: int | None = None) -> int:
    """Paint in a fork that dies at a call, or for which it fails; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
            if kill_at is not None:
                arm(kill_at, error)
            count_paintings(folder / "painted")
            os._exit(run(["generate", "--prompts", str(folder / "p.jsonl"), "--out", str(folder / "o"), *OPTIONS]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def arm(kill_at: int, error: int | None) -> None:
    """Die at the call with this number, from 1: before it, or in every other case of a write in the middle of it.

    With an error, it fails instead, and so do all after it that are of this kind and no `close`.
    """
    calls = 0
    failing = ""

    def deadly(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls, failing
            calls += 1
            if error is not None:
                if calls == kill_at:
                    failing = name
                    HIT[0] = 1
                if name == failing != "close":
                    raise OSError(error, os.strerror(error))
                return real(*arguments, **options)
            if calls == kill_at:
                if name == "write" and kill_at % 2:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, deadly(getattr(os, name), name))


def count_paintings(log: Path) -> None:
    real = FakeEngine.paint

    def paint(self: FakeEngine, recipe: Any, progress: Any) -> Any:
        with log.open("a") as file:
            file.write(f"{recipe.prompt}\n")
        return real(self, recipe, progress)

    FakeEngine.paint = paint


def hashes(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("o/*.png")):
        with Image.open(path) as image:
            image.load()  # whole
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def check(folder: Path, reference: dict[str, str]) -> list[str]:
    """What is wrong after the last fork has ended well."""
    wrong = []
    if hashes(folder) != reference:
        wrong.append("other files than without a kill")
    lines = [json.loads(line) for line in (folder / "o" / NAME).read_text().splitlines()]
    done = Counter(line["key"] for line in lines if line["status"] == "done")
    if len(done) != ITEMS or done.total() != ITEMS:
        wrong.append("the journal has not one line a picture")
    if list((folder / "o").glob(".dalle-*.tmp")):
        wrong.append("a temporary file is left")
    return wrong


def main() -> None:
    root, point, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    how = sys.argv[4]
    error = getattr(errno, how, None)
    os.environ["DALLE_ENGINE"] = "fake"
    # What is imported on the way is then there for all forks.
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        (root / "warm.jsonl").write_text(PROMPTS)
        run(["generate", "--prompts", str(root / "warm.jsonl"), "--out", str(root / "warm"), "--quiet"])
    (root / "reference").mkdir()
    (root / "reference" / "p.jsonl").write_text(PROMPTS)
    assert forked(root / "reference", None) == 0
    reference = hashes(root / "reference")
    assert len(reference) == ITEMS
    tried, wrong, most_again = 0, [], 0
    while True:
        folder = root / str(point)
        folder.mkdir()
        (folder / "p.jsonl").write_text(PROMPTS)
        HIT[0] = 0
        code = forked(folder, point, error)
        if code == 0 and not HIT[0]:
            break
        if error is None:
            assert code == -signal.SIGKILL, code
        elif code not in (0, 1, 2, 5):
            wrong.append(f"{point}: {how} ended with {code}")
        seen = hashes(folder)
        wrong += [f"{point}: {name} is torn" for name, found in seen.items() if reference[name] != found]
        if how == "twice" and forked(folder, point // 2 + 3) == -signal.SIGKILL:
            tried += 1
        assert forked(folder, None) == 0
        tried += 1
        wrong += [f"{point}: {what}" for what in check(folder, reference)]
        paintings = (folder / "painted").read_text().splitlines()
        most_again = max(most_again, len(paintings) - ITEMS)
        point += step
    sys.stdout.write(json.dumps({"points": tried, "wrong": wrong, "most_painted_again": most_again}) + "\n")


if __name__ == "__main__":
    main()
