"""The judge is asked only for what can be told, and a world of one look has the judge that it had."""

import numpy as np
import pytest
import torch

from dallecli.training.batch import Draw
from dallecli.training.world.judge import Judge, JudgeData, JudgeObjective, accuracies
from dallecli.training.world.world import MOST_THINGS, UNKNOWN


def data(look: int, mirrored: int) -> JudgeData:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)
    objects = torch.eye(6)[:, :5]
    objects[5, 0] = 1
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    number = torch.tensor([1, 2, 3, 1, 2, 3])
    return JudgeData(pictures, objects, number, classes, classes, torch.full((6,), look), torch.full((6,), mirrored))


def teach(judge: Judge, known: JudgeData, *, steps: int, batch: int, rate: float) -> None:
    objective = JudgeObjective(judge, known, known)
    optimizer = torch.optim.Adam(judge.parameters(), lr=rate)
    for step in range(steps):
        optimizer.zero_grad()
        objective.loss(Draw(step, batch, torch.device("cpu"))).backward()
        optimizer.step()


def test_what_cannot_be_told_teaches_nothing() -> None:
    torch.manual_seed(0)
    judge = Judge(5, 3, 3, looks=4)
    unknown = data(UNKNOWN, UNKNOWN)
    JudgeObjective(judge, unknown, unknown).loss(Draw(0, 6, torch.device("cpu"))).backward()
    for head in (judge.look, judge.mirrored):
        assert all(weight.grad is None or weight.grad.abs().max() == 0 for weight in head.parameters())
    assert {"look", "mirrored"}.isdisjoint(accuracies(judge, unknown))


def test_what_can_be_told_is_learned_and_reported() -> None:
    torch.manual_seed(0)
    judge = Judge(5, 3, 3, looks=4)
    known = data(2, 1)
    teach(judge, known, steps=40, batch=6, rate=1e-2)
    assert accuracies(judge, known)["look"] == 1 and accuracies(judge, known)["mirrored"] == 1


def squares(count: int, seed: int) -> JudgeData:
    """Grey pictures of one, two or three white squares that do not touch."""
    rng = np.random.default_rng(seed)
    pictures = np.full((count, 3, 32, 32), 60, dtype=np.uint8)
    numbers = rng.integers(1, MOST_THINGS + 1, count)
    for picture, number in zip(pictures, numbers, strict=True):
        for cell in rng.permutation(9)[:number]:
            y, x = 11 * (cell // 3) + rng.integers(3), 11 * (cell % 3) + rng.integers(3)
            picture[:, y : y + 7, x : x + 7] = 250
    nothing = torch.zeros(count, dtype=torch.int64)
    return JudgeData(torch.from_numpy(pictures), torch.ones(count, 1), torch.from_numpy(numbers), nothing, nothing)


@pytest.mark.long
def test_how_many_things_there_are_is_learned_wherever_they_stand() -> None:
    torch.manual_seed(0)
    judge, seen, unseen = Judge(1, 1, 1), squares(512, 0), squares(128, 1)
    teach(judge, seen, steps=60, batch=16, rate=3e-3)
    assert accuracies(judge, unseen)["number"] > 0.95  # guessing finds a third


def test_the_judge_of_a_world_of_one_look_has_no_heads_for_looks() -> None:
    names = {name.split(".")[0] for name, _ in Judge(48, 18, 4).named_parameters()}
    assert names == {"body", "objects", "number", "background", "style"}


def test_the_focus_is_what_is_where_the_thing_is() -> None:
    judge = Judge(2, 2, 2)
    verdict = judge(torch.zeros(3, 3, 64, 64))
    assert verdict.focus.shape == verdict.features.shape == (3, 128)
    assert verdict.look.shape == (3, 0)
    with pytest.raises(RuntimeError):
        judge(torch.zeros(3, 4, 64, 64))
