"""One request on its way through the queue: what is to be painted, for whom, until when, and what became of it."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

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


Event = Painted | Unfinished | Stepped
"""What happens to a ticket before it is over."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes: the pictures are there, or an error is."""

    error: BaseException | None = None


class Ticket:
    """A request with its recipe, waiting for its pictures.

    request, recipe: of all its pictures. partials: how many unfinished pictures of each are wanted. until: when nobody
    waits any more, by `time.monotonic`. steps: whether its steps are wanted.
    """

    def __init__(self, request: Request, recipe: Recipe, partials: int, until: float, *, steps: bool = False) -> None:
        self.request = request
        self.recipe = recipe
        self.partials = partials
        self.steps = steps
        self.until = until
        self.since = time.monotonic()
        self.started: float | None = None
        self.done = 0
        self.over = False
        whole = recipe.settings.best_of is not None or recipe.single(0).alike is None
        self.whole = whole
        """Whether its pictures are painted with each other alone."""
        self.alike = None if whole else recipe.single(0).alike
        """What others have in common with it that can be painted together with its pictures."""
        self.left: deque[int] = deque(range(recipe.count))
        """Its pictures that nobody has begun."""
        self._events: asyncio.Queue[Event | Ended] = asyncio.Queue()

    @property
    def work(self) -> int:
        """How many pictures are painted for it, also those that are not kept."""
        best_of = self.recipe.settings.best_of
        return best_of if best_of is not None else self.recipe.count

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
        if self.done == self.recipe.count:
            self.end()

    def unfinished(self, k: int, number: int, image: "Image") -> None:
        """A picture can be looked at."""
        if not self.over:
            self._events.put_nowait(Unfinished(k, number, image))

    def stepped(self, event: Stepped) -> None:
        """A step is done."""
        if not self.over:
            self._events.put_nowait(event)

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more is painted of it."""
        if not self.over:
            self.over = True
            self.left.clear()
            self._events.put_nowait(Ended(error))

    async def events(self) -> AsyncIterator[Event]:
        """What happens, until it is over. Raises the error that it ended with."""
        while True:
            event = await self._events.get()
            if not isinstance(event, Ended):
                yield event
            elif event.error is None:
                return
            else:
                raise event.error
