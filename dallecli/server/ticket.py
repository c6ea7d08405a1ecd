"""One request on its way through the queue: what is to be painted, for whom, until when, and what became of it."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dallecli.engine import Engine, Progress
from dallecli.recipe import Recipe
from dallecli.tasks.task import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.pictures.picture import Picture


@dataclass(frozen=True, slots=True)
class Painted:
    """Picture `k` is done."""

    k: int
    picture: "Picture"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Picture `k` as it is before it is done, for the time `number`, from 0."""

    k: int
    number: int
    image: "Image"


@dataclass(frozen=True, slots=True)
class Stepped:
    """Picture `k` is so far: at `step` of the `steps` of a stage, and `done` from 0 to 1 of all."""

    k: int
    stage: str
    step: int
    steps: int
    done: float


@dataclass(frozen=True, slots=True)
class Scored:
    """A picture of a best-of has a score."""

    seed: int
    score: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes: the pictures are there, or an error is."""

    error: BaseException | None = None


@dataclass(slots=True)
class Progressed:
    """A step is done: the latest one, where nobody has heard of those before."""

    progress: Progress


class Ticket(ABC):
    """A request waiting for its turn, and what comes of it. Kinds of requests have kinds of tickets.

    The event loop's thread changes it; the thread that paints reads `over` and `looking` alone. model, task: for the
    order in the queue, and for the books. count: how many pictures come of it, or other results. alike: what others
    have in common with it that can be painted together with its pictures; None if they are painted with each other
    alone. until: when nobody waits any more, by `time.monotonic`.
    """

    partials: int = 0
    """How many unfinished pictures of each are wanted."""
    steps: bool = False
    """Whether somebody wants to hear now and then how far it is."""
    watched: bool = False
    """Whether every step is to be told."""

    def __init__(self, *, model: str, task: str, count: int, alike: Recipe | None, until: float) -> None:
        self.model = model
        self.task = task
        self.count = count
        self.until = until
        self.since = time.monotonic()
        self.started: float | None = None
        self.done = 0
        self.over = False
        self.alike = alike
        self.looking = False
        """Whether somebody wants to see it as it is."""
        self.left: deque[int] = deque(range(count))
        """Its pictures that nobody has begun."""
        self._events: asyncio.Queue[Event | Ended] = asyncio.Queue()
        self._step: Progressed | None = None
        self._looks: list[asyncio.Future[Sequence[Image]]] = []

    @abstractmethod
    def recipe_of(self, k: int) -> Recipe:
        """What is painted as its picture `k`; all of it, where it is not painted with others."""

    @abstractmethod
    def begin(self, engine: Engine, *, known: bool) -> None:
        """Its turn has come, before others' whose pictures are painted with its own.

        known: whether the engine has heard of its model; a folder is known by its name from then on.
        """

    @abstractmethod
    def work(
        self, engine: Engine, progress: Callable[[Progress], None], tell: "Callable[[Event], None]"
    ) -> "Iterable[Picture]":
        """All its pictures, or whatever else it is about, where it is not painted with others.

        In the thread that paints: `tell` tells what else happens.
        """

    @property
    def whole(self) -> bool:
        """Whether its pictures are painted with each other alone."""
        return self.alike is None

    @property
    def pictures(self) -> int:
        """How many pictures are painted for it, also those that are not kept."""
        return self.count

    @property
    def late(self) -> bool:
        """Whether nobody waits for it any more."""
        return time.monotonic() > self.until

    @property
    def waited(self) -> float:
        """Seconds from its arrival to the painting of its first picture; 0 before that."""
        return self.started - self.since if self.started is not None else 0.0

    def start(self) -> None:
        """Its first picture is being painted now."""
        self.started = time.monotonic()

    def painted(self, k: int, picture: "Picture") -> None:
        """A picture is done; after the last one the ticket is over."""
        if self.over:
            return
        self.done += 1
        self._events.put_nowait(Painted(k, picture))
        if self.done == self.count:
            self.end()

    def unfinished(self, k: int, number: int, image: "Image") -> None:
        """A picture can be looked at."""
        if not self.over:
            self._events.put_nowait(Unfinished(k, number, image))

    def stepped(self, event: Stepped) -> None:
        """A step is done."""
        self.tell(event)

    def progressed(self, progress: Progress) -> None:
        """A step is done, for who watches all of them. Nobody who is slow to hear of it makes them add up."""
        if self._step is not None:
            self._step.progress = progress
        elif not self.over:
            self._step = Progressed(progress)
            self._events.put_nowait(self._step)

    def tell(self, event: "Event") -> None:
        """Something else has happened."""
        if not self.over:
            self._events.put_nowait(event)

    async def look(self) -> "Sequence[Image]":
        """The unfinished pictures after the next step of which there is something to see; none if there is no more."""
        if self.over:
            return ()
        seen: asyncio.Future[Sequence[Image]] = asyncio.get_running_loop().create_future()
        self._looks.append(seen)
        self.looking = True
        return await seen

    def seen(self, images: "Sequence[Image]") -> None:
        """Here is what somebody wanted to see."""
        looks, self._looks = self._looks, []
        for look in looks:
            if not look.done():
                look.set_result(images)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more is painted of it."""
        if not self.over:
            self.over = True
            self.left.clear()
            self.seen(())
            self._events.put_nowait(Ended(error))

    async def events(self) -> "AsyncIterator[Event]":
        """What happens, until it is over. Raises the error that it ended with."""
        while True:
            event = await self._events.get()
            if event is self._step:
                self._step = None
            if not isinstance(event, Ended):
                yield event
            elif event.error is None:
                return
            else:
                raise event.error


class ImagesTicket(Ticket):
    """A request of the images API, or of the page, with its recipe."""

    def __init__(self, request: Request, recipe: Recipe, partials: int, until: float, *, steps: bool = False) -> None:
        alike = None if recipe.settings.best_of is not None else recipe.single(0).alike
        super().__init__(model=recipe.model, task=recipe.task, count=recipe.count, alike=alike, until=until)
        self.request = request
        self.recipe = recipe
        self.partials = partials
        self.steps = steps

    @property
    def pictures(self) -> int:
        best_of = self.recipe.settings.best_of
        return best_of if best_of is not None else self.count

    def recipe_of(self, k: int) -> Recipe:
        return self.recipe if self.whole else self.recipe.single(k)

    def begin(self, engine: Engine, *, known: bool) -> None:
        if not known:
            engine.resolve(self.request)

    def work(
        self, engine: Engine, progress: Callable[[Progress], None], tell: "Callable[[Event], None]"
    ) -> "Iterable[Picture]":
        return engine.paint(self.recipe, progress)


Event = Painted | Unfinished | Stepped | Progressed | Scored
"""What happens to a ticket before it is over."""
