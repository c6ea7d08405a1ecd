"""Whenever a batch is killed or the disk fails it, what is there is whole, and the same command does the rest, once."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Dalle, environment

from dallecli.batch.journal import NAME

pytestmark = pytest.mark.trust

KILLER = Path(__file__).parent / "killer.py"


def faults(folder: Path, first: int, step: int, how: str) -> dict[str, Any]:
    """What `killer.py` found."""
    line = [sys.executable, str(KILLER), str(folder), str(first), str(step), how]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_lost_torn_or_done_twice_at_some_points(tmp_path):
    found = faults(tmp_path, 5, 53, "once")
    assert found["wrong"] == []
    assert found["points"] >= 2
    assert found["most_painted_again"] <= 9


@pytest.mark.slow
@pytest.mark.parametrize(("how", "step", "least"), [("once", 1, 130), ("twice", 2, 110)])
def test_nothing_is_lost_torn_or_done_twice_at_any_point(tmp_path, figures, how, step, least):
    found = faults(tmp_path, 1, step, how)
    figures[f"killed {how}"] = {
        "points": found["points"],
        "wrong": len(found["wrong"]),
        "most painted again": found["most_painted_again"],
    }
    assert found["wrong"] == []
    assert found["points"] >= least


@pytest.mark.slow
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES"])
def test_an_error_of_the_disk_harms_nothing(tmp_path, figures, error):
    found = faults(tmp_path, 1, 3, error)
    figures[error] = {"points": found["points"], "wrong": len(found["wrong"])}
    assert found["wrong"] == []
    assert found["points"] >= 40


# A kill leaves what was written in the system's memory; a power failure does not. So the order counts.


class Order:
    """Watches the calls that reach the disk. `wrong` is what a power failure between two of them could tear."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, blind: bool = False) -> None:
        self.wrong: list[str] = []
        self.named = 0
        self._blind = blind  # to fsync, which shows that its absence is seen
        self._paths: dict[int, str] = {}
        self._unsynced: set[str] = set()
        self._folders: set[str] = set()
        for name in ("open", "write", "fsync", "link", "replace", "rename"):
            real = getattr(os, name)
            note = self._named if name in ("link", "replace", "rename") else getattr(self, f"_{name}")
            monkeypatch.setattr(os, name, lambda *a, _real=real, _note=note, **k: self._watched(_real, _note, a, k))

    @staticmethod
    def _watched(real: Any, note: Any, arguments: Any, options: Any) -> Any:
        result = real(*arguments, **options)
        note(result, *arguments)
        return result

    def _open(self, descriptor: int, path: Any, flags: int, *_: Any) -> None:
        self._paths[descriptor] = os.fspath(path)
        if flags & os.O_EXCL:
            self._unsynced.add(os.fspath(path))

    def _write(self, _: int, descriptor: int, *__: Any) -> None:
        if Path(self._paths.get(descriptor, "")).name == NAME:
            self.wrong += [f"the journal names what {folder} does not" for folder in self._folders]
            if NAME in self._unsynced:
                self.wrong.append("a line of the journal is not on the disk before the next one")
            self._unsynced.add(NAME)

    def _fsync(self, _: None, descriptor: int) -> None:
        path = self._paths[descriptor]
        if not self._blind:
            self._unsynced -= {path, Path(path).name}
            self._folders.discard(path)

    def _named(self, _: None, source: Any, target: Any, **__: Any) -> None:
        if Path(target).suffix == ".png":
            self.named += 1
            self._folders.add(str(Path(target).parent))
            if os.fspath(source) in self._unsynced:
                self.wrong.append(f"{target} has a name before it has its bytes")


@pytest.mark.parametrize("blind", [False, True])
def test_bytes_reach_the_disk_before_names_and_names_before_the_journal(
    dalle: Dalle, monkeypatch, figures, blind: bool
):
    Path("p.txt").write_text("".join(f"fox {k}\n" for k in range(20)), encoding="utf-8")
    with monkeypatch.context() as patch:
        order = Order(patch, blind=blind)
        assert dalle("generate", "--prompts", "p.txt", "--size", "16", "--no-history").code == 0
    assert order.named == 20
    if blind:
        assert len(order.wrong) >= 3 * 19
    else:
        figures["fsync order"] = {"pictures": order.named, "wrong": len(order.wrong)}
        assert order.wrong == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_what_stood_there_stands_when_a_replacement_fails(dalle: Dalle, monkeypatch, error):
    line = b'{"prompt": "a fox", "name": "fox"}\n'
    assert dalle("generate", "--prompts", "-", "--out", "o", "--size", "16", stdin=line).code == 0
    before = Path("o/fox.png").read_bytes()

    def failing(_: int) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        failed = dalle(
            "generate", "--prompts", "-", "--out", "o", "--size", "64", "--force", "--no-history", stdin=line
        )
    assert failed.code in (1, 2, 5)
    assert "mistake" not in failed.err
    assert Path("o/fox.png").read_bytes() == before
