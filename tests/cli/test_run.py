"""How long a run takes yet: of work whose time is known exactly."""

from collections.abc import Iterator, Mapping

import pytest

from dallecli.cli.run import Part, Run
from dallecli.engine import Progress

STAGES = {"prior": 4, "decoder": 6}
SECONDS: Mapping[str, float] = {"prior": 0.5, "decoder": 2.0, "inversion": 1.0}
"""How long a step takes."""


def painted(
    run: Run, part: Part, now: float, *, squares: int = 1, together: int = 1, first: str = ""
) -> Iterator[float]:
    """Let a part be painted. Yields the time after every step; `first` is a stage that runs once, before all others."""
    run.begin()
    for picture in range(0, part.pictures, together):
        for square in range(squares):
            for stage, steps in {**({first: 3} if first and picture == 0 else {}), **part.stages}.items():
                for step in range(1, steps + 1):
                    now += SECONDS[stage]
                    where = {"picture": picture, "pictures": part.pictures, "square": square, "squares": squares}
                    run.take(Progress(stage=stage, step=step, steps=steps, together=together, **where), now)
                    yield now


@pytest.mark.parametrize("squares", [1, 3])
def test_from_the_second_picture_on_the_time_that_is_left_is_exact(squares):
    part = Part(pictures=3, stages=STAGES)
    run, whole = Run([part, part]), 14.0 * squares * 6
    told = [
        (now, run.left(now)) for number in range(2) for now in painted(run, part, number * whole / 2, squares=squares)
    ]
    known = [(now, left) for now, left in told if now > 14 * squares]
    assert [left for _, left in known] == pytest.approx([whole - now for now, _ in known])


def test_of_a_single_picture_the_time_is_known_when_its_last_stage_runs():
    run = Run([Part(pictures=1, stages=STAGES)])
    told = [(now, run.left(now)) for now in painted(run, Part(pictures=1, stages=STAGES), 0.0)]
    assert [left for now, left in told if now <= 4] == [None] * 5
    assert [left for now, left in told if now > 4] == pytest.approx([8, 6, 4, 2, 0])


def test_a_part_with_more_steps_takes_longer():
    parts = [Part(pictures=1, stages={"decoder": steps}) for steps in (5, 10, 20)]
    run = Run(parts)
    *_, now = painted(run, parts[0], 0.0)
    now = next(painted(run, parts[1], now))
    assert run.left(now) == pytest.approx(18 + 40)
    assert run.share(now) == pytest.approx(12 / 70, abs=0.03)  # when the run began is not known


def test_what_runs_once_is_not_expected_again():
    part = Part(pictures=3, stages=STAGES)
    run = Run([Part(pictures=3, stages={"inversion": 3, **STAGES})])
    *_, now = (now for _, now in zip(range(2 * 10 + 3), painted(run, part, 0.0, first="inversion"), strict=False))
    assert run.left(now) == pytest.approx(14)


def test_pictures_that_are_painted_together_share_the_time():
    part = Part(pictures=6, stages=STAGES)
    run = Run([part])
    *_, now = (now for _, now in zip(range(15), painted(run, part, 0.0, together=2), strict=False))
    assert run.position == "pictures 3 to 4 of 6"
    assert run.left(now) == pytest.approx(5 * 2 + 14)


def test_the_share_never_falls_and_ends_at_one():
    part = Part(pictures=2, stages=STAGES)
    run = Run([part])
    shares = [run.share(now) for now in painted(run, part, 0.0)]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_time_that_passes_without_a_step_counts():
    part = Part(pictures=2, stages=STAGES)
    run = Run([part])
    *_, now = (now for _, now in zip(range(12), painted(run, part, 0.0), strict=False))
    assert run.left(now) == pytest.approx(13)
    assert run.left(now + 3) == pytest.approx(10)
    assert run.left(now + 60) == 0


def test_a_square_of_a_single_picture_is_named_by_itself():
    run = Run([Part(pictures=1, stages=STAGES)])
    next(painted(run, Part(pictures=1, stages=STAGES), 0.0, squares=6))
    assert run.position == "square 1 of 6"


def test_a_first_stage_that_is_done_is_not_the_whole_of_a_picture_whose_stages_nobody_knew():
    run = Run([Part(pictures=1)])
    run.begin()
    run.take(Progress(stage="text", step=1, steps=1, picture=0, pictures=1), 1.0)
    assert run.share(1.0) < 0.5
    for step in range(1, 9):
        run.take(Progress(stage="codes", step=step, steps=16, picture=0, pictures=1), 1.0 + step)
    assert 0.4 < run.share(9.0) < 0.6
