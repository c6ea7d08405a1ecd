"""However a file is painted, with the starter: its pictures are the same to the last bit."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dallecli.batch.jobs import Reader
from dallecli.batch.journal import Journal, item_key
from dallecli.batch.presence import Presence
from dallecli.batch.prompt_file import PromptFile
from dallecli.batch.runner import AHEAD, Batch, Runner, Tally, survey, write_failures
from dallecli.batch.wildcards import Wildcards
from dallecli.engine import Progress
from dallecli.errors import NonFinite, OutOfMemory
from dallecli.fake_engine import FakeEngine
from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.picture import Picture
from dallecli.placement import threads
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials

LINES = [
    '{"prompt": "a red car", "seed": 1, "n": 2}',
    '{"prompt": "a {tree|house} in the snow", "seed": 3}',
]
FAST = {
    "model": "starter",
    "size": 16,
    "steps": 2,
    "prior_steps": 2,
    "prior_candidates": 1,
    "dtype": "fp32",
    "device": "cpu",
}


class Quiet:
    """Hears everything and says nothing; may throw something after so many pictures."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.errors: list[Exception] = []
        self.mixtures: list[tuple[str, str]] = []

    def bad(self, line: Any) -> None:
        raise AssertionError(line)

    def warn(self, line: int, text: str) -> None:
        pass

    def checked(self, survey: Any) -> None:
        pass

    def unknown(self, survey: Any) -> None:
        pass

    def mixed(self, before: str, now: str) -> None:
        self.mixtures.append((before, now))

    def step(self, progress: Progress, tally: Tally) -> None:
        if self.stop_after is not None and tally.done >= self.stop_after:
            raise KeyboardInterrupt

    def done(self, item: Any, picture: Picture, path: Path, tally: Tally) -> None:
        pass

    def failed(self, item: Any, error: Exception, tally: Tally) -> None:
        self.errors.append(error)


def paint(
    engine: Any, lines: list[str], folder: Path, watcher: Quiet | None = None, *, defaults: Any = FAST, **changes: Any
) -> Tally:
    source = folder.with_suffix(".jsonl")
    source.write_text("\n".join(lines), encoding="utf-8")
    folder.mkdir(exist_ok=True)
    watcher = watcher if watcher is not None else Quiet()
    with closing(PromptFile(str(source), "prompt")) as file:
        reader = Reader(command="generate", defaults=defaults, wildcards=Wildcards(Path()))
        batch = replace(Batch(file=file, reader=reader, folder=folder), **changes)
        presence = Presence(folder, share=batch.share)
        try:
            with closing(Journal(folder)) as journal:
                with closing(survey(batch, engine, watcher, journal=journal)) as found:
                    tally = Runner(batch, engine, journal, presence, watcher, found).run()
                write_failures(folder, [], journal)
                return tally
        finally:
            presence.leave()


def hashes(folder: Path) -> list[str]:
    """Of the pictures, sorted; the names have the numbers of lines in them, which may differ."""
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.png"))


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine()


@pytest.fixture(scope="module")
def reference(engine, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("reference") / "o"
    paint(engine, LINES, folder)
    return hashes(folder)


def test_in_one_go_there_are_three_different_pictures(reference):
    assert len(set(reference)) == 3


def _reversed(engine: LocalEngine, folder: Path) -> None:
    paint(engine, LINES[::-1], folder)


def _line_by_line(engine: LocalEngine, folder: Path) -> None:
    for line in LINES:
        paint(engine, [line], folder)


def _resumed(engine: LocalEngine, folder: Path) -> None:
    one_by_one = LocalEngine(batch=1)
    for stop_after in (1, 1):
        with pytest.raises(KeyboardInterrupt):
            paint(one_by_one, LINES, folder, Quiet(stop_after))
    paint(engine, LINES, folder)


def _sharded(engine: LocalEngine, folder: Path) -> None:
    for part in range(3):
        paint(engine, LINES, folder, share=True, shard=(part, 3))


def _shared(engine: LocalEngine, folder: Path) -> None:
    paint(engine, LINES, folder, share=True)


def _lost_and_found(engine: LocalEngine, folder: Path) -> None:
    paint(engine, LINES, folder)
    sorted(folder.glob("*.png"))[1].unlink()
    paint(engine, LINES, folder)


def _one_by_one_by_hand(engine: LocalEngine, folder: Path) -> None:
    folder.mkdir()
    asked = [("a red car", 1, 2), ("a red car", 2, 2)]
    asked.append((Wildcards(Path()).template("a {tree|house} in the snow").chosen(3), 3, 2))
    for k, (prompt, seed, steps) in enumerate(asked):
        stage = Dials(steps=2)
        request = Generate(
            prompt=prompt,
            seed=seed,
            model="starter",
            size=16,
            prior=stage,
            prior_candidates=1,
            decoder=Dials(steps=steps),
            device="cpu",
            dtype="fp32",
        )
        (picture,) = engine.paint(engine.resolve(request), lambda step: None)
        (folder / f"{k}.png").write_bytes(picture.encode("png"))


WAYS = [_reversed, _line_by_line, _resumed, _sharded, _shared, _lost_and_found, _one_by_one_by_hand]


# All of them: tests/trust.
@pytest.mark.parametrize("way", [_resumed, _sharded, _one_by_one_by_hand], ids=lambda way: way.__name__.strip("_"))
def test_some_ways_give_the_same_bytes(engine, reference, tmp_path, way: Callable[[LocalEngine, Path], None]):
    way(engine, tmp_path / "o")
    assert hashes(tmp_path / "o") == reference


def test_groups_are_filled_up_so_that_order_and_resuming_change_nothing(tmp_path, large):
    together = LocalEngine(batch=2)
    lines = [LINES[1], '{"prompt": "a cat", "seed": 7}', '{"prompt": "a red car", "seed": 2}']
    paint(together, lines, tmp_path / "once")
    paint(together, lines[::-1], tmp_path / "reversed")
    assert hashes(tmp_path / "once") == hashes(tmp_path / "reversed")
    assert len(set(hashes(tmp_path / "once"))) == 3


# Other machines


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them, so that a recipe may have a few threads."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)


def test_a_run_on_other_threads_says_so_before_it_paints_the_rest(tmp_path, cores, large):
    engine = LocalEngine()
    first, second, third = Quiet(stop_after=1), Quiet(), Quiet()
    with threads(1), pytest.raises(KeyboardInterrupt):
        paint(engine, LINES, tmp_path / "o", first)
    with threads(2):
        tally = paint(engine, LINES, tmp_path / "o", second)
        assert 0 < tally.there < 3
        assert paint(engine, LINES, tmp_path / "o", third).there == 3
    assert (first.mixtures, third.mixtures) == ([], [])
    ((before, now),) = second.mixtures
    assert (before, now) == (before, before.replace("1 thread", "2 threads"))
    assert "torch" in before
    assert "cpu" in before


def test_what_asks_for_other_numbers_is_not_compared(engine, tmp_path):
    watcher = Quiet()
    paint(engine, LINES[:1], tmp_path / "o", watcher)
    other = FAST | {"dtype": "bf16"}
    paint(engine, LINES[:1], tmp_path / "o", watcher, defaults=other)
    assert watcher.mixtures == []


def test_the_machine_is_no_part_of_a_pictures_key(engine):
    recipe = engine.resolve(Generate(prompt="a cat", model="starter", seed=1))
    other = replace(recipe, device="cuda:1", threads=64, versions={"torch": "9"})
    assert item_key(recipe, 0, "png") == item_key(other, 0, "png")


def test_a_run_on_other_threads_says_nothing_of_a_small_model(engine, tmp_path, cores, reference):
    watcher = Quiet()
    with threads(1):
        paint(engine, LINES[:1], tmp_path / "o", watcher)
    with threads(3):
        assert paint(engine, LINES, tmp_path / "o", watcher).there == 2
    assert watcher.mixtures == []
    assert hashes(tmp_path / "o") == reference


@pytest.mark.parametrize("small", [False, True])
def test_what_several_threads_painted_is_made_again_by_a_process_of_one(tmp_path, cores, monkeypatch, small):
    if not small:
        monkeypatch.setattr("dallecli.studio.batches.MOST_NUMBERS", 0)
    engine = LocalEngine()
    with threads(3):
        paint(engine, LINES, tmp_path / "o")
    for path in (tmp_path / "o").glob("*.png"):
        recipe = read_recipe(path)
        assert recipe.threads == (None if small else 3)
        (again,) = engine.paint(engine.revive(recipe), lambda step: None)
        assert again.encode("png") == path.read_bytes()


def test_a_recipe_does_not_start_a_hundred_thousand_threads(engine):
    recipe = replace(engine.resolve(Generate(prompt="a cat", model="starter", seed=1)), threads=100_000)
    revived = engine.revive(recipe)
    assert [text for text in revived.warnings if "100000 threads" in text]
    assert "100000" not in engine.machine(revived)


# What goes wrong


class Faulty(FakeEngine):
    """Paints groups, as far as its memory goes, and one prompt never."""

    def __init__(self, most: int = 99, broken: str = "") -> None:
        super().__init__()
        self.most = most
        self.broken = broken
        self.sizes: list[int] = []

    def paint_together(self, recipes: Any, progress: Any) -> Iterator[Picture]:
        self.sizes.append(len(recipes))
        if len(recipes) > self.most:
            raise OutOfMemory("there is not enough memory")
        if self.broken in [recipe.prompt for recipe in recipes]:
            raise NonFinite("the decoder gave numbers that are not finite")
        yield from super().paint_together(recipes, progress)


def prompts(count: int) -> list[str]:
    return [f'{{"prompt": "fox {k}", "size": 16}}' for k in range(count)]


def test_prompts_of_many_lines_are_painted_together(tmp_path):
    engine = Faulty()
    tally = paint(engine, prompts(10), tmp_path / "o", defaults={"model": "fake"})
    assert (tally.done, engine.sizes) == (10, [4, 4, 2])


def test_like_is_painted_with_like(tmp_path):
    engine = Faulty()
    lines = [f'{{"prompt": "fox {k}", "steps": {5 + k % 2}}}' for k in range(8)]
    paint(engine, lines, tmp_path / "o", defaults={"model": "fake"})
    assert engine.sizes == [4, 4]


class Hearing(FakeEngine):
    """Writes down what it is told of, and when it paints it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[list[str]] = []

    def reads_ahead(self, recipe: Any) -> bool:
        return True

    def expect(self, recipes: Any) -> None:
        self.heard.append([recipe.prompt for recipe in recipes])

    def paint(self, recipe: Any, progress: Any) -> Iterator[Picture]:
        assert any(recipe.prompt in heard for heard in self.heard)
        yield from super().paint(recipe, progress)


def test_the_engine_hears_of_prompts_before_they_are_painted_and_not_of_those_that_are_there(tmp_path):
    names = [f"fox {k}" for k in range(100)]
    engine = Hearing()
    paint(engine, prompts(70), tmp_path / "o", defaults={"model": "fake"})
    assert engine.heard == [names[:AHEAD], names[AHEAD:70]]
    engine = Hearing()
    tally = paint(engine, prompts(100), tmp_path / "o", defaults={"model": "fake"})
    assert (tally.done, tally.there, engine.heard) == (30, 70, [names[70:]])


def test_of_work_that_is_shared_no_more_is_claimed_than_is_painted_next(tmp_path):
    engine = Hearing()
    paint(engine, prompts(3), tmp_path / "o", defaults={"model": "fake"}, share=True)
    assert engine.heard == [["fox 0"], ["fox 1"], ["fox 2"]]


def test_pictures_that_are_painted_over_are_not_kept_in_memory_for_long(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "fox.png")
    lines = [
        *prompts(2),
        *(f'{{"prompt": "owl {k}", "init": "{tmp_path / "fox.png"}"}}' for k in range(2)),
        prompts(3)[2],
    ]
    engine = Hearing()
    paint(engine, lines, tmp_path / "o", defaults={"model": "fake"})
    assert [len(heard) for heard in engine.heard] == [3, 1, 1]


def test_one_that_fails_does_not_take_the_others_along(tmp_path):
    watcher = Quiet()
    tally = paint(Faulty(broken="fox 2"), prompts(6), tmp_path / "o", watcher, defaults={"model": "fake"})
    assert (tally.done, tally.failed) == (5, 1)
    assert [type(error) for error in watcher.errors] == [NonFinite]
    assert '"prompt": "fox 2"' in (tmp_path / "o" / "failed.jsonl").read_text()
    again = paint(Faulty(), prompts(6), tmp_path / "o", defaults={"model": "fake"}, retry_failed=True)
    assert (again.done, again.there) == (1, 5)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_where_memory_is_short_all_pictures_are_made_nevertheless(tmp_path, most):
    tally = paint(Faulty(most=most), prompts(7), tmp_path / "o", defaults={"model": "fake"})
    assert (tally.done, tally.failed) == (7, 0)


def test_where_there_is_no_memory_at_all_nothing_is_gone_through(tmp_path):
    with pytest.raises(OutOfMemory):
        paint(Faulty(most=0), prompts(7), tmp_path / "o", defaults={"model": "fake"})


def test_finished_pictures_are_published_when_something_ends_the_run(tmp_path):
    engine = FakeEngine()
    with pytest.raises(KeyboardInterrupt):
        paint(engine, prompts(30), tmp_path / "o", Quiet(stop_after=3), defaults={"model": "fake"})
    kept = len(hashes(tmp_path / "o"))
    assert 3 <= kept < 30
    assert paint(engine, prompts(30), tmp_path / "o", defaults={"model": "fake"}).there == kept


def test_a_batch_that_goes_on_with_another_number_at_a_time_says_so(tmp_path, large):
    fast = FAST | {"dtype": "bf16"}
    vary = ['{"prompt": "a red car", "seed": 1, "best_of": 2}']
    paint(LocalEngine(batch=2), [*LINES, *vary], tmp_path / "o", defaults=fast)
    same, other = Quiet(), Quiet()
    paint(LocalEngine(batch=2), [*LINES, *vary, '{"prompt": "a boat"}'], tmp_path / "o", same, defaults=fast)
    assert same.mixtures == []
    paint(LocalEngine(), [*LINES, '{"prompt": "a tree"}'], tmp_path / "o", other, defaults=fast)
    ((before, now),) = other.mixtures
    assert before == f"{now}, 2 at a time"
