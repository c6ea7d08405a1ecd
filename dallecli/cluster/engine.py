"""The engine whose pictures are painted by the workers of a cluster. Requests are checked on this machine.

The cluster is joined when something is first asked of it. What `expect` heard of is painted ahead, as far as there are
workers for it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dallecli.batch.machines import kind_of
from dallecli.cluster.order import Able, Need, Order, Sent, received
from dallecli.engine import Engine, Progress
from dallecli.errors import DalleError
from dallecli.limits import CLUSTER_BYTES
from dallecli.recipe import Recipe
from dallecli.tasks.coding import Coding
from dallecli.tasks.embed import Embed
from dallecli.tasks.task import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.batch.execution import Executor
    from dallecli.cluster.dispatch import Dispatch, Task
    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.knowledge import Knowledge
    from dallecli.pictures.picture import Picture
    from dallecli.shortlist import Scores

log = logging.getLogger(__name__)

WAIT: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which cluster, and how its workers are started.

    address: HOST:PORT, or auto. workers: at most so many, and an autoscaler is asked for them. weights: where they get
    models from: hub, driver, a folder that all of them see; None for what each machine has. setup: what their engines
    are made with, see `Worker`. wide: whether what is painted together is divided among all workers.
    """

    address: str
    workers: int | None = None
    weights: str | None = None
    setup: Mapping[str, Any]
    wide: bool = False


@dataclass(eq=False, slots=True)
class _Job:
    """What was asked for at once, and what has come of it."""

    recipes: tuple[Recipe, ...]
    orders: deque[tuple[Order, tuple[int, ...]]]
    pictures: int
    came: dict[int, tuple[Sent, Order, Recipe]] = field(default_factory=dict)
    error: DalleError | None = None


class ClusterEngine:
    """Paints with the workers of a Ray cluster. `here` is an engine of this machine for the same models."""

    def __init__(self, here: Engine, asked: Asked) -> None:
        self._here = here
        self._asked = asked
        self._folders: dict[str, Path] = {}
        self._kinds: list[tuple[object, ...]] = []
        self._ahead: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._dispatch: Dispatch | None = None
        self._alone = threading.RLock()  # Ray may be asked by one thread at a time

    # What this machine does

    def resolve(self, request: Request) -> Recipe:
        recipe = self._here.resolve(request)
        self._note_folder(recipe.model, request.model)
        return recipe

    def revive(self, recipe: Recipe, model: str | None = None) -> Recipe:
        revived = self._here.revive(recipe, model)
        if model is not None:
            self._note_folder(revived.model, model)
        return revived

    def digest(self, recipe: Recipe) -> str:
        return self._here.digest(recipe)

    def judge_digest(self, recipe: Recipe) -> str | None:
        return self._here.judge_digest(recipe)

    def reads_ahead(self, recipe: Recipe) -> bool:
        return self._here.reads_ahead(recipe)

    def knowledge(self, model: str) -> "Knowledge":
        return self._here.knowledge(model)

    def embed(self, request: Embed, progress: Callable[[Progress], None]) -> "list[Embedded]":
        return self._here.embed(request, progress)

    def encode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Coded]":
        return self._here.encode(request, progress)

    def decode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Image]":
        return self._here.decode(request, progress)

    # What the workers say

    def group(self, recipe: Recipe) -> int:
        group = self._able(recipe).group
        return group * max(1, len(self._cluster([recipe]).pool.ready)) if self._asked.wide else group

    def machine(self, recipe: Recipe) -> str:
        able = self._able(recipe)
        return able.machines[min(able.group, recipe.together or 1) - 1]

    def memory(self, recipe: Recipe) -> str:
        able = self._able(recipe)
        workers = len(self._cluster([recipe]).pool.ready)
        return f"{workers} worker{'s' if workers > 1 else ''}; each: {able.memory}"

    # What the workers do

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Hear what will be painted next; it is begun with the first of it. What was expected before is forgotten."""
        self._ahead = deque(_Job(recipes=(recipe,), orders=deque(), pictures=recipe.count) for recipe in recipes)

    def paint(
        self, recipe: Recipe, progress: Callable[[Progress], None], scores: "Scores | None" = None
    ) -> Iterator["Picture"]:
        """Yield the pictures of a recipe in order, painted in parts on several workers.

        A best-of is painted by one worker, and its scores are there when it is done. Raises as `LocalEngine.paint`, and
        BadCluster, WorkerLost, NetworkError.
        """
        with self._alone:
            known = [job.recipes[0] for job in self._ahead]
            dispatch = self._cluster(known if recipe in known else [recipe])
            job = self._job(recipe, scores)
            yield from self._pictures(dispatch, job, progress)

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        """Yield the picture of each recipe in order; groups of them are divided among the workers."""
        with self._alone:
            dispatch = self._cluster([recipes[0]])
            size = self._able(recipes[0]).group
            orders: deque[tuple[Order, tuple[int, ...]]] = deque()
            for first in range(0, len(recipes), size):
                some = tuple(recipes[first : first + size])
                orders.append((_order(some, together=True), tuple(range(first, first + len(some)))))
            yield from self._pictures(dispatch, _Job(tuple(recipes), orders, len(recipes)), progress)

    def executor(self, recipes: Sequence[Recipe], *, format: str, metadata: bool) -> "Executor":
        """Who paints a batch in which there are such recipes. Raises what is wrong with the cluster, or with one of its
        machines: before anything is painted.
        """
        from dallecli.cluster.executor import ClusterExecutor

        return ClusterExecutor(self._cluster(recipes), format=format, metadata=metadata)

    def join(self) -> None:
        """Join the cluster now, and start its workers. Raises as `executor`."""
        self._cluster([])

    def close(self) -> None:
        """Leave the cluster; the workers end."""
        dispatch, self._dispatch = self._dispatch, None
        if dispatch is not None:
            dispatch.pool.close()
            dispatch.pool.connection.close()

    def _note_folder(self, name: str, asked: str) -> None:
        from dallecli.weights.registry import HUB, registry

        path = Path(asked).expanduser()
        if asked not in registry() and not asked.startswith(HUB) and path.is_dir():
            self._folders[name] = path.resolve()

    def _cluster(self, recipes: Sequence[Recipe]) -> "Dispatch":
        """The cluster, whose workers have been checked for such recipes. Raises as `executor`."""
        fresh = {kind_of(recipe): recipe for recipe in recipes if kind_of(recipe) not in self._kinds}
        if self._dispatch is None:
            self._dispatch = self._joined(list(fresh.values()))
        else:
            for recipe in fresh.values():
                self._dispatch.pool.require(self._need(recipe))
        self._kinds += fresh
        return self._dispatch

    def _joined(self, recipes: Sequence[Recipe]) -> "Dispatch":
        from dallecli.cluster.connection import Connection
        from dallecli.cluster.dispatch import Dispatch
        from dallecli.cluster.pool import DRIVER, Pool, Terms

        asked = self._asked
        devices = [recipe.device for recipe in recipes if recipe.device is not None]
        environment = asked.setup["environment"]
        threads = environment.get("OMP_NUM_THREADS", "").partition(",")[0]
        folders = {recipe.model: self._folder(recipe.model) for recipe in recipes} if asked.weights == DRIVER else {}
        terms = Terms(
            setup=asked.setup,
            device=devices[0] if devices else None,
            threads=int(threads) if threads.isdecimal() and int(threads) > 0 else None,
            most=asked.workers,
            weights=asked.weights,
            folders={name: folder for name, folder in folders.items() if folder is not None},
            needs=[self._need(recipe) for recipe in recipes],
        )
        with ExitStack() as unless_it_works:
            connection = Connection(asked.address)
            unless_it_works.callback(connection.close)
            pool = Pool(connection, terms)
            pool.gather()
            unless_it_works.pop_all()
        return Dispatch(pool)

    def _need(self, recipe: Recipe) -> Need:
        folder = self._folders.get(recipe.model)
        return Need(
            recipe=recipe,
            model=str(folder) if folder is not None else None,
            digest=self._here.digest(recipe),
            judge_digest=self._here.judge_digest(recipe) if recipe.settings.judge is not None else None,
        )

    def _folder(self, name: str) -> Path | None:
        """Where the files of a model are, if they are to be sent; None for one that comes with dalle."""
        if name in self._folders:
            return self._folders[name]
        from dallecli.weights.registry import find, locate

        spec = find(name)
        return None if spec.source.startswith("package:") else locate(spec).path

    def _able(self, recipe: Recipe) -> Able:
        pool = self._cluster([recipe]).pool
        return pool.said[self._kinds.index(kind_of(recipe))]

    def _job(self, recipe: Recipe, scores: "Scores | None") -> _Job:
        """The job of a recipe: begun already, or expected, or new."""
        for job in self._running:
            if job.recipes[0] is recipe:
                self._running.remove(job)
                return job
        for job in self._ahead:
            if job.recipes[0] is recipe:
                self._ahead.remove(job)
                break
        else:
            job = _Job(recipes=(recipe,), orders=deque(), pictures=recipe.count)
        job.orders = self._orders(recipe, scores)
        return job

    def _orders(self, recipe: Recipe, scores: "Scores | None" = None) -> deque[tuple[Order, tuple[int, ...]]]:
        """A recipe in the parts that are painted at a time; a best-of, whose pictures are compared, is one."""
        if recipe.settings.best_of is not None and recipe.settings.kept is None:
            known = dict(scores.known) if scores is not None else {}
            return deque([(_order((recipe,), known=known), tuple(range(recipe.count)))])
        size = self._able(recipe).group
        return deque(
            (_order((recipe.part(first, size),)), tuple(range(first, min(first + size, recipe.count))))
            for first in range(0, recipe.count, size)
        )

    def _pictures(self, dispatch: "Dispatch", job: _Job, progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        try:
            for place in range(job.pictures):
                while place not in job.came:
                    if job.error is not None:
                        raise job.error
                    self._feed(dispatch, job)
                    for task, answer in dispatch.pump(WAIT):
                        _note(task, answer.pictures, answer.error)
                    progress(_beginning(job, place))
                sent, order, asked = job.came.pop(place)
                for step in _ended(job, place):
                    progress(step)
                picture = received(sent, asked, order)
                picture.image.load()
                yield picture
        finally:
            dispatch.drop(job)

    def _feed(self, dispatch: "Dispatch", job: _Job) -> None:
        """Hand out what is left of a job, and of those that are expected after it, while there is room."""
        held = sum(len(sent.data) for other in self._running for sent, _, _ in other.came.values())
        while dispatch.room:
            if not job.orders:
                if not self._ahead or held > CLUSTER_BYTES:
                    return
                job = self._ahead.popleft()
                job.orders = self._orders(job.recipes[0])
                self._running.append(job)
                continue
            order, places = job.orders.popleft()
            _submit(dispatch, order, job, places)


def _submit(dispatch: "Dispatch", order: Order, job: _Job, places: tuple[int, ...]) -> None:
    from dallecli.cluster.dispatch import Task

    dispatch.submit(Task(order=order, tag=job, places=places))


def _note(task: "Task", pictures: Sequence[Sent], error: DalleError | None) -> None:
    """What came back of a job's order."""
    job, order = task.tag, task.order
    assert isinstance(job, _Job)
    for number, (place, sent) in enumerate(zip(task.places, pictures, strict=False)):
        job.came[place] = sent, order, order.recipes[number if order.together else 0]
    if error is not None and len(pictures) < len(task.places):
        job.error = error


def _order(recipes: tuple[Recipe, ...], *, together: bool = False, known: Mapping[int, float] | None = None) -> Order:
    """An order whose pictures are looked at here, so that they come without loss."""
    return Order(recipes=recipes, together=together, format="png", metadata=False, known=known or {})


def _beginning(job: _Job, place: int) -> Progress:
    """What is said while nothing comes back: steps elsewhere are not seen here."""
    name, steps = next(iter(_steps(job)), ("painting", 1))
    return Progress(stage=name, step=1, steps=steps, picture=place, pictures=job.pictures)


def _ended(job: _Job, place: int) -> Iterator[Progress]:
    """All stages of a picture have ended."""
    for name, steps in _steps(job):
        yield Progress(stage=name, step=steps, steps=steps, picture=place, pictures=job.pictures)


def _steps(job: _Job) -> list[tuple[str, int]]:
    return [(name, stage.count) for name, stage in job.recipes[0].stages.items() if hasattr(stage, "count")]
