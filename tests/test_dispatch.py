"""Who is blamed for a lost worker: a cluster of which the dice decide what is lost, without Ray."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dallecli.cluster.connection import Lost, Node
from dallecli.cluster.dispatch import STRIKES, Dispatch, Task
from dallecli.cluster.order import Able, Answer, Checked, Order, Sent
from dallecli.cluster.pool import Pool, Terms
from dallecli.errors import WorkerLost
from dallecli.fake_engine import FakeEngine
from dallecli.recipe import Recipe
from dallecli.tasks.generate import Generate
from dallecli.version import __version__

GROUP = 4


class Dice:
    """Workers that are lost when `lost` says so of what they paint."""

    def __init__(self, workers: int, lost: Callable[[Order], bool]) -> None:
        self._lost = lost
        self._answers: dict[int, Any] = {}
        self._nodes = [Node(id=str(k), host=f"m{k}", address=f"10.0.0.{k}", cpus=1, gpus=1) for k in range(workers)]

    def nodes(self) -> list[Node]:
        return self._nodes

    def start(self, node: Node, **terms: Any) -> object:
        return object()

    def call(self, worker: object, name: str, *arguments: Any) -> int:
        answer: Any = {"dallecli": __version__, "torch": "missing"}
        if name == "check":
            answer = Checked(able=(Able(machines=("cpu",) * GROUP, group=GROUP, memory=""),))
        elif name == "paint":
            (order,) = arguments
            answer = Lost("it has died") if self._lost(order) else Answer(pictures=tuple(map(_sent, order.recipes)))
        self._answers[len(self._answers)] = answer
        return len(self._answers) - 1

    def wait(self, calls: Sequence[int], timeout: float) -> list[int]:
        return [min(calls)]

    def result(self, call: int) -> Any:
        if isinstance(self._answers[call], Lost):
            raise self._answers[call]
        return self._answers[call]

    def kill(self, worker: object) -> None:
        """It has no process."""


def _sent(recipe: Recipe) -> Sent:
    return Sent(data=b"", recipe=recipe, seconds=0.1, scores={})


def paint(pictures: int, lost: Callable[[Order], bool]) -> Mapping[int, list[str]]:
    """What came of each picture: "" for one that was painted, else the error."""
    terms = Terms(setup={}, device=None, threads=None, most=None, weights=None, folders={}, needs=())
    pool = Pool(Dice(4, lost), terms)  # type: ignore[arg-type]
    pool.gather()
    dispatch, engine = Dispatch(pool), FakeEngine()
    waiting = [engine.resolve(Generate(model="starter", prompt="a cat", seed=k)) for k in range(pictures)]
    came: dict[int, list[str]] = {k: [] for k in range(pictures)}
    while waiting or not dispatch.idle:
        while waiting and dispatch.room:
            some, waiting = tuple(waiting[:GROUP]), waiting[GROUP:]
            order = Order(recipes=some, together=True, format="png", metadata=True)
            dispatch.submit(Task(order=order, tag=None, places=tuple(range(len(some)))))
        for task, answer in dispatch.pump(0.0):
            assert answer.error is None or isinstance(answer.error, WorkerLost)
            for recipe in task.order.recipes:
                came[recipe.seed].append("" if answer.error is None else answer.error.what)
    return came


def test_every_picture_comes_once_although_a_third_of_all_orders_is_lost() -> None:
    dice = random.Random(0)
    came = paint(400, lambda _: dice.random() < 1 / 3)
    assert all(outcomes == [""] for outcomes in came.values())


def test_a_picture_in_which_every_worker_dies_fails_after_three_strikes_and_no_other() -> None:
    came = paint(60, lambda order: any(recipe.seed == 17 for recipe in order.recipes))
    assert came.pop(17) == [f"{STRIKES} workers were lost while they painted nothing but this: it has died"]
    assert all(outcomes == [""] for outcomes in came.values())


def test_each_of_several_such_pictures_fails_and_no_other() -> None:
    bad = {5, 6, 40, 77, 110}
    came = paint(120, lambda order: any(recipe.seed in bad for recipe in order.recipes))
    assert {seed for seed, outcomes in came.items() if outcomes != [""]} == bad
    assert all(len(outcomes) == 1 for outcomes in came.values())


def test_such_a_picture_is_found_among_workers_that_are_lost_anyway() -> None:
    dice = random.Random(1)
    came = paint(200, lambda order: dice.random() < 0.2 or any(recipe.seed == 17 for recipe in order.recipes))
    assert {seed for seed, outcomes in came.items() if outcomes != [""]} == {17}
