"""The judge is asked only for what can be told, and a world of one look has the judge that it had."""

import pytest
import torch

from dallecli.training.batch import Draw
from dallecli.training.world.judge import Judge, JudgeData, JudgeObjective, accuracies
from dallecli.training.world.world import UNKNOWN


def data(look: int, mirrored: int) -> JudgeData:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=generator)
    objects = torch.eye(6)[:, :5]
    objects[5, 0] = 1
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    return JudgeData(pictures, objects, classes, classes, torch.full((6,), look), torch.full((6,), mirrored))


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
    objective = JudgeObjective(judge, known, known)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for step in range(40):
        optimizer.zero_grad()
        objective.loss(Draw(step, 6, torch.device("cpu"))).backward()
        optimizer.step()
    assert accuracies(judge, known)["look"] == 1 and accuracies(judge, known)["mirrored"] == 1


def test_the_judge_of_a_world_of_one_look_has_no_heads_for_looks() -> None:
    names = {name.split(".")[0] for name, _ in Judge(48, 18, 4).named_parameters()}
    assert names == {"body", "objects", "background", "style"}


def test_the_focus_is_what_is_where_the_thing_is() -> None:
    judge = Judge(2, 2, 2)
    verdict = judge(torch.zeros(3, 3, 64, 64))
    assert verdict.focus.shape == verdict.features.shape == (3, 128)
    assert verdict.look.shape == (3, 0)
    with pytest.raises(RuntimeError):
        judge(torch.zeros(3, 4, 64, 64))
