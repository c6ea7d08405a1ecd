"""Hands orders to the workers of a cluster, and decides what it means when one is lost.

A worker has two orders at a time, so that it never waits for the next. When it is lost, nobody knows which of them was
to blame: all are suspects, divided into single pictures, and painted alone. Only who loses a worker while it is alone
there gets a strike, and with three of them it has failed; where workers are lost all the time anyway, with as many as
chance does not explain. A worker that takes far longer than others counts as lost.
"""

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dallecli.cluster.connection import Crashed, Lost
from dallecli.cluster.order import Answer, Order
from dallecli.cluster.pool import Member, Pool
from dallecli.errors import BadCluster, DalleError, MachineError, NonFinite, OutOfMemory, WeightsError, WorkerLost
from dallecli.limits import CLUSTER_BYTES, CLUSTER_SECONDS
from dallecli.safe import safe

log = logging.getLogger(__name__)

DEPTH: Final = 2
"""Orders that a worker has at a time: one that it paints, and the next."""

STRIKES: Final = 3
MOST_STRIKES: Final = 12

LUCK: Final = 1e-4
"""A picture is to blame where so many strikes in a row, by the share of other orders that are lost, are less likely."""

DEADLINE: Final = 60.0
"""Seconds that an order may always take, once it is known how long its like takes."""

FACTOR: Final = 5.0
"""How many times as long as its like it may take."""

FIRST_SECONDS: Final = 1800.0
"""For the first of a kind, and what a worker has for the first of its own: it opens the model, and may compile it."""

KEPT: Final = 99
"""Times of one kind that are remembered."""


@dataclass(slots=True, eq=False, kw_only=True)
class Task:
    """An order, whose it is (`tag`), and which of that one's pictures it paints (`places`)."""

    order: Order
    tag: object
    places: tuple[int, ...]
    losses: int = 0
    """Workers that were lost while they had it."""
    strikes: int = 0
    """Those among them that had nothing else."""
    alone: bool = False
    avoided: set[str] = field(default_factory=set)
    call: Any = None
    began: float = 0.0

    def parts(self) -> "list[Task]":
        """The same picture by picture, as suspects."""
        if not self.order.together or len(self.places) == 1:
            self.alone = True
            return [self]
        return [
            replace(self, order=replace(self.order, recipes=(recipe,)), places=(place,), alone=True, avoided=set())
            for recipe, place in zip(self.order.recipes, self.places, strict=True)
        ]


class Dispatch:
    """The driver's loop: `submit` while there is `room`, `pump` for what came back."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.lost = 0
        """How many workers were lost."""
        self._ended = 0
        self._explained = 0
        self._queue: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._weight = 0
        self._times: dict[tuple[object, ...], deque[float]] = {}
        self._absent: float | None = None

    @property
    def busy(self) -> int:
        """How many workers paint."""
        return sum(bool(member.tasks) for member in self.pool.ready)

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do."""
        return self._weight == 0 and not self._queue and not self._suspects and self.busy == 0

    @property
    def room(self) -> bool:
        """Whether another order should come: a worker waits for it, and what is on the way fits into memory."""
        if self._queue or self._suspects:
            return False
        return any(len(member.tasks) < DEPTH for member in self.pool.ready) and self._weight < CLUSTER_BYTES

    def submit(self, task: Task) -> None:
        """Take an order. Its pictures come out of `pump` some time."""
        self._weight += task.order.weight
        self._queue.append(task)
        self._assign()

    def drop(self, tag: object = None) -> None:
        """Nobody waits for what is of this tag, or for anything, as far as it is not being painted."""
        for queue in (self._queue, self._suspects):
            for task in [task for task in queue if tag is None or task.tag is tag]:
                queue.remove(task)
                self._weight -= task.order.weight

    def pump(self, timeout: float) -> list[tuple[Task, Answer]]:
        """Do what is due, and wait up to `timeout` seconds for something to come back.

        Raises: BadCluster if no worker is left for a long time; what was wrong with the last machine that was left.
        """
        self.pool.sync()
        self._assign()
        found = self._overdue()
        starting = self.pool.calls
        working = {task.call: member for member in self.pool.ready for task in member.tasks}
        calls = [*working, *starting]
        if not calls:
            self._check_absence()
            time.sleep(min(timeout, 0.2))
            return found
        for call in self.pool.connection.wait(calls, 0.0 if found else timeout):
            if call in starting:
                if starting[call] in self.pool.members:
                    self.pool.take(call)
            elif working[call] in self.pool.members:
                found += self._take(working[call], call)
        self._check_absence()
        self._assign()
        return found

    def _assign(self) -> None:
        while self._suspects or self._queue:
            queue = self._suspects if self._suspects else self._queue
            member = self._free(queue[0])
            if member is None:
                return
            self._give(member, queue.popleft())

    def _free(self, task: Task) -> Member | None:
        """The worker that is best for a task: an idle one, that has its model open, where it was not lost before."""
        depth = 1 if self._suspects else DEPTH
        free = [
            member
            for member in self.pool.ready
            if len(member.tasks) < depth
            and not any(other.alone for other in member.tasks)
            and member.node.id not in self.pool.refused
        ]
        return min(free, key=lambda member: _fitness(member, task), default=None)

    def _give(self, member: Member, task: Task) -> None:
        task.call = self.pool.connection.call(member.actor, "paint", task.order)
        member.model = task.order.recipes[0].model
        member.tasks.append(task)
        if len(member.tasks) == 1:
            task.began = time.monotonic()

    def _take(self, member: Member, call: Any) -> list[tuple[Task, Answer]]:
        """A call of a worker has ended."""
        task = next(task for task in member.tasks if task.call == call)
        try:
            answer: Answer = self.pool.connection.result(call)
        except (Lost, Crashed) as error:
            return self._gone(member, str(error))
        self._ended += 1
        member.tasks.remove(task)
        self._note_time(member, task)
        if answer.error is not None and _of_machine(answer.error):
            self.pool.refuse(member, answer.error)
            self._queue.extendleft(reversed([task, *member.tasks]))
            member.tasks.clear()
            if member in self.pool.members:
                self.pool.remove(member)
            return []
        return [self._done(task, answer)]

    def _done(self, task: Task, answer: Answer) -> tuple[Task, Answer]:
        self._weight -= task.order.weight
        return task, answer

    def _gone(self, member: Member, why: str) -> list[tuple[Task, Answer]]:
        """A worker is lost: what it had goes back, and whoever was alone with it gets a strike."""
        self.lost += 1
        self.pool.remove(member)
        tasks = list(member.tasks)
        member.tasks.clear()
        count = sum(len(task.places) for task in tasks)
        log.warning("a worker on %s was lost; %d pictures are tried again: %s", safe(member.name), count, safe(why))
        failed: list[tuple[Task, Answer]] = []
        for task in tasks:
            task.avoided.add(member.node.id)
            task.losses += 1
            if task.alone:
                task.strikes += 1
            if task.strikes >= self._enough(task):
                self._explained += task.losses
                what = f"{task.strikes} workers were lost while they painted nothing but this: {why}"
                failed.append(self._done(task, Answer(pictures=(), error=WorkerLost(what))))
                continue
            self._weight -= task.order.weight
            parts = task.parts()
            self._weight += sum(part.order.weight for part in parts)
            self._suspects.extend(parts)
        self.pool.sync(now=True)
        return failed

    def _enough(self, task: Task) -> int:
        """How many strikes show that a picture is to blame, and not whatever else takes workers away."""
        others = self.lost - self._explained - task.losses
        if others <= 0:
            return STRIKES
        share = others / (others + self._ended)
        in_a_row = math.log(LUCK) / math.log(share) if share < 1 else math.inf
        return math.ceil(min(max(STRIKES, in_a_row), MOST_STRIKES))

    def _overdue(self) -> list[tuple[Task, Answer]]:
        found: list[tuple[Task, Answer]] = []
        for member in self.pool.ready:
            if member.tasks:
                took, limit = time.monotonic() - member.tasks[0].began, self._limit(member, member.tasks[0])
                if took > limit:
                    found += self._gone(member, f"no answer in {took:.0f} seconds")
        return found

    def _limit(self, member: Member, task: Task) -> float:
        times = self._times.get(task.order.kind)
        if times is None:
            return FIRST_SECONDS
        usual = max(DEADLINE, FACTOR * statistics.median(times) * task.order.pictures)
        return usual if task.order.kind in member.kinds else max(usual, DEADLINE) + self._opening(times)

    def _opening(self, times: "deque[float]") -> float:
        """What a worker has besides for the first of a kind: as long as any of these took, with the opening."""
        return FACTOR * max(times)

    def _note_time(self, member: Member, task: Task) -> None:
        now = time.monotonic()
        if task.began > 0:
            times = self._times.setdefault(task.order.kind, deque(maxlen=KEPT))
            times.append((now - task.began) / task.order.pictures)
            member.kinds.add(task.order.kind)
        if member.tasks:
            member.tasks[0].began = now

    def _check_absence(self) -> None:
        """Raises BadCluster, or what the last machine was refused for, if nobody is left to do what is left."""
        if self.pool.members or not (self._queue or self._suspects):
            self._absent = None
            return
        if self._absent is None:
            self._absent = time.monotonic()
            log.warning("no worker is left; waiting for one to join")
        refused: Mapping[str, DalleError] = self.pool.refused
        there = {node.id for node in self.pool.connection.nodes() if self.pool.places(node)}
        if there and there <= set(refused):
            raise next(iter(refused.values()))
        if time.monotonic() - self._absent > CLUSTER_SECONDS:
            raise BadCluster(f"no worker joined in {CLUSTER_SECONDS:.0f} seconds", hint="run the same command again")


def _fitness(member: Member, task: Task) -> tuple[int, bool, bool]:
    """How well a worker fits a task; less is better."""
    return len(member.tasks), member.node.id in task.avoided, member.model != task.order.recipes[0].model


def _of_machine(error: DalleError) -> bool:
    """Whether a machine is to blame for an error, and not what it was asked."""
    return isinstance(error, WeightsError | MachineError) and not isinstance(error, NonFinite | OutOfMemory)
