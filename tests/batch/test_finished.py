"""A batch that goes on looks once at the lines that are finished, and at all others as before."""

from pathlib import Path
from typing import Any

import pytest

from dallecli.fake_engine import FakeEngine
from dallecli.recipe import Recipe
from dallecli.tasks.task import Request

from .test_ways import Quiet, paint

LINES = ['{"prompt": "a cat", "n": 2}', '{"prompt": "a {dog|fox}"}', '{"prompt": "a cow"}', "", '{"prompt": "a cow"}']
DEFAULTS = {"model": "starter", "size": 16}


class Counting(FakeEngine):
    """Counts what it resolves, by the sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.resolved: list[str] = []

    def resolve(self, request: Request) -> Recipe:
        self.resolved.append(request.words)
        return super().resolve(request)


def go_on(folder: Path, **changes: Any) -> tuple[list[str], Any]:
    """What is resolved in a further run over the folder, and its tally."""
    engine = Counting()
    tally = paint(engine, LINES, folder, changes.pop("watcher", Quiet()), defaults=DEFAULTS, **changes)
    return engine.resolved, tally


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    resolved, tally = go_on(tmp_path / "o")
    assert len(resolved) == 8
    assert (tally.done, tally.repeated, tally.there) == (4, 1, 0)
    return tmp_path / "o"


def test_finished_lines_are_resolved_once(folder):
    resolved, tally = go_on(folder)
    assert len(resolved) == 4
    assert (tally.done, tally.there, tally.left) == (0, 5, 0)


def test_a_line_of_which_a_picture_is_missing_is_resolved_again_and_only_that_picture_is_painted(folder):
    next(folder.glob("*-1-a-cat-*")).unlink()
    resolved, tally = go_on(folder)
    assert resolved.count("a cat") == 2
    assert len(resolved) == 5
    assert (tally.done, tally.there) == (1, 4)
    assert len(list(folder.glob("*.png"))) == 4


def test_a_picture_that_was_changed_fails_its_line_and_no_other(folder):
    watcher = Quiet()
    next(folder.glob("*-a-cow-*")).write_bytes(b"mine")
    _, tally = go_on(folder, watcher=watcher)
    assert [error.what for error in watcher.errors] == ["this picture was changed since it was painted"] * 2
    assert (tally.there, tally.failed) == (3, 2)
    assert next(folder.glob("*-a-cow-*")).read_bytes() == b"mine"


def test_a_picture_that_was_only_touched_is_finished(folder):
    for path in folder.glob("*.png"):
        path.touch()
    resolved, tally = go_on(folder)
    assert (len(resolved), tally.there) == (4, 5)


def test_each_shard_counts_its_own_pictures(folder):
    tallies = [go_on(folder, shard=(k, 2), share=True)[1] for k in range(2)]
    assert sum(tally.there for tally in tallies) == 5
    assert all(tally.there + tally.others == 5 and tally.done == 0 for tally in tallies)


def test_what_painted_finished_lines_is_compared_with_what_paints_the_missing_ones(folder):
    class Other(FakeEngine):
        def machine(self, recipe: Recipe) -> str:
            return "another machine"

    next(folder.glob("*-a-cow-*")).unlink()
    watcher = Quiet()
    paint(Other(), LINES, folder, watcher, defaults=DEFAULTS)
    assert [now for _, now in watcher.mixtures] == ["another machine"]
