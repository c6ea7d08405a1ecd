"""A best-of that is killed goes on with what it has scored, and leaves nothing behind when it is done."""

from pathlib import Path
from typing import Any

import pytest

from dallecli.batch.scores import STALE, ScoreFile, own_scores
from dallecli.errors import BadOutput
from dallecli.fake_engine import FakeEngine
from dallecli.tasks.generate import Generate

from .test_ways import paint

LINE = '{"prompt": "a fox", "best_of": 12, "n": 3, "seed": 5}'


class Stopping(FakeEngine):
    """Counts the pictures that it paints, and is stopped after so many."""

    def __init__(self, most: int = 1000) -> None:
        super().__init__()
        self.painted = 0
        self.most = most

    def _paint(self, recipe: Any, progress: Any) -> Any:
        for picture in super()._paint(recipe, progress):
            if self.painted == self.most:
                raise KeyboardInterrupt
            self.painted += 1
            yield picture


def bytes_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def test_a_killed_batch_paints_only_what_it_has_not_scored(tmp_path: Path) -> None:
    paint(FakeEngine(), [LINE], tmp_path / "whole", defaults={"model": "fake"})
    with pytest.raises(KeyboardInterrupt):
        paint(Stopping(7), [LINE], tmp_path / "killed", defaults={"model": "fake"})
    (left,) = (tmp_path / "killed" / ".dalle").glob("scores-*")
    with left.open("a") as file:
        file.write('{"seed": 12, "sc')  # torn
    engine = Stopping()
    paint(engine, [LINE], tmp_path / "killed", defaults={"model": "fake"})
    assert 5 <= engine.painted <= 5 + 3  # those that were kept have to be painted again
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert not list((tmp_path / "killed" / ".dalle").glob("scores-*"))


def test_lines_that_are_no_scores_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_bytes(
        b'{"seed": 1, "score": 0.5}\n[]\n{"seed": "2", "score": 1.0}\n{"seed": 3, "score": NaN}\n\xff\n{"se'
    )
    scores = ScoreFile(file)
    assert scores.known == {1: 0.5}
    scores.note(4, 0.25)
    assert ScoreFile(file).known == {1: 0.5, 4: 0.25}


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "scores.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadOutput):
        ScoreFile(tmp_path / "scores.jsonl")
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_scores_that_nobody_came_back_for_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    engine = FakeEngine()
    recipes = [engine.resolve(Generate(prompt="a fox", model="fake", seed=k, best_of=4)) for k in (1, 2)]
    first = own_scores(recipes[0])
    assert isinstance(first, ScoreFile)
    os.utime(first.path, (0, STALE))
    second = own_scores(recipes[1])
    assert isinstance(second, ScoreFile)
    assert (first.path.exists(), second.path.exists()) == (False, True)


def test_where_there_is_no_place_scores_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "file"))
    recipe = FakeEngine().resolve(Generate(prompt="a fox", model="fake", seed=1, best_of=4))
    assert not own_scores(recipe).lasts
