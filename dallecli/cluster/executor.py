"""Paints the units of a batch on a cluster. Only the driver writes: pictures come back as the bytes of their files."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from dallecli.batch.execution import Failed, Outcome, Painted, Unit, Waiting
from dallecli.cluster.dispatch import Dispatch, Task
from dallecli.cluster.order import Answer, Order, received

WAIT: Final = 0.5
"""Seconds between two looks around while nothing comes back."""

DRAIN: Final = 20.0
"""Seconds that workers get to finish what they paint, when somebody wants the process to end."""


class ClusterExecutor:
    """The workers of a cluster. `format` and `metadata` say what the files are like."""

    def __init__(self, dispatch: Dispatch, *, format: str, metadata: bool) -> None:
        self._dispatch = dispatch
        self._format = format
        self._metadata = metadata
        self._came: deque[Outcome] = deque()

    def paint(self, unit: Unit) -> Iterator[Outcome]:
        yield from self._until_room()
        self._dispatch.submit(Task(order=self._order(unit), tag=unit, places=tuple(range(len(unit.items)))))
        yield from self._arrived()

    def finish(self) -> Iterator[Outcome]:
        while self._came or not self._dispatch.idle:
            self._pump(WAIT)
            yield from self._arrived()

    def drain(self) -> Iterator[Outcome]:
        until = time.monotonic() + DRAIN
        self._dispatch.drop()
        while (self._came or self._dispatch.busy) and time.monotonic() < until:
            self._pump(WAIT)
            yield from self._arrived()

    def _until_room(self) -> Iterator[Outcome]:
        while not self._dispatch.room:
            self._pump(WAIT)
            yield from self._arrived()

    def _pump(self, timeout: float) -> None:
        if self._came:
            timeout = 0.0
        for task, answer in self._dispatch.pump(timeout):
            self._came.extend(_outcomes(task, answer))

    def _arrived(self) -> Iterator[Outcome]:
        while self._came:
            yield self._came.popleft()
        yield Waiting(self._dispatch.busy, len(self._dispatch.pool.ready))

    def _order(self, unit: Unit) -> Order:
        known = dict(unit.scores.known) if unit.scores is not None else {}
        return Order(
            recipes=unit.recipes,
            together=unit.together,
            format=self._format,
            metadata=self._metadata,
            known=known,
        )


def _outcomes(task: Task, answer: Answer) -> Iterator[Outcome]:
    unit, order = task.tag, task.order
    assert isinstance(unit, Unit)
    for number, (place, sent) in enumerate(zip(task.places, answer.pictures, strict=False)):
        item = unit.items[place]
        if item is not None:
            asked = order.recipes[number if order.together else 0]
            yield Painted(item, received(sent, asked, order))
    left = task.places[len(answer.pictures) :]
    if answer.error is not None and left:
        yield Failed(unit, left, answer.error)
