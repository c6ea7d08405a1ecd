"""Paints what the queue says is next, in one thread, and tells each request what became of it.

The event loop chooses and hands out; the thread paints and does nothing else, so that the loop always answers. The
engine that paints is never asked by two threads: a second one, that opens no weights, checks requests meanwhile.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dallecli.engine import Engine, Progress
from dallecli.errors import (
    BadSetting,
    BadSize,
    DalleError,
    Interrupted,
    RequestError,
)
from dallecli.recipe import Recipe
from dallecli.rewriting.rewriter import Outcome, Rewriter
from dallecli.server.metrics import Metrics
from dallecli.server.queue import Queue, Unit
from dallecli.server.refusal import Refusal, refusal_of
from dallecli.server.rewriting import Elsewhere, Resolver, rewriter_of, rewritten
from dallecli.server.serving import Serving
from dallecli.server.ticket import Event, ImagesTicket, Stepped, Ticket
from dallecli.server.translate import Asked
from dallecli.size import Proportions, Size
from dallecli.tasks.builder import build_request
from dallecli.tasks.generate import Generate
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.stages import INVERSION, PRIORS, DiffusionSettings
from dallecli.tasks.task import Request

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

log = logging.getLogger(__name__)

TOLD_SECONDS: Final = 0.1
"""Between two steps that are told."""
REWRITERS: Final = 4
"""How many prompts are rewritten at once."""

_UNSEEN: Final = frozenset({INVERSION, *(stage.name for stage in PRIORS.values())})
"""Stages after which there is nothing to look at yet."""

COMING: Final = 0.05
"""Seconds in which those may join a group whose requests are being checked, or whose pictures were in the last one."""

CLOSE: Final = 0.005
"""Seconds between requests that are sent at once: after one has come, the next is waited for."""

COMING_SHARE: Final = 0.05
"""The same, as a share of the time that the last group took: no more than that is lost if nobody comes."""


class Abandoned(Exception):
    """Nobody waits for what is being painted: raised between two steps, and caught by nobody but the painter."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A request and its recipe, and the fields of the API that do nothing for its model."""

    request: Request
    recipe: Recipe
    ignored: tuple[str, ...]


class Painter:
    """The one accelerator, and who waits for it.

    engine: paints. checker: another engine for the same models; it checks requests that start from no picture. For
    those that do, weights may have to be read to say what a model knows, which the one engine does between two groups.
    """

    def __init__(self, engine: Engine, checker: Engine, serving: Serving, metrics: Metrics) -> None:
        self.queue = Queue(serving.queue)
        self.draining = False
        self.ready = False
        self.opened: str | None = None
        self._engine, self._checker = engine, checker
        self._serving, self._metrics = serving, metrics
        self._painting = ThreadPoolExecutor(1, thread_name_prefix="painting")
        self._checking = ThreadPoolExecutor(1, thread_name_prefix="checking")
        self._asking: set[asyncio.Future[Settled]] = set()
        self._rewriting = ThreadPoolExecutor(REWRITERS, thread_name_prefix="rewriting")
        self._ended = asyncio.Event()
        self._known: set[str] = set()
        self._more = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False
        self._together = 1
        self._absent, self._patience, self._newest = 0, 0.0, 0.0

    # For who asks

    async def admit(self, asked: Asked, until: float) -> tuple[Ticket, Settled]:
        """Check a request and let it wait for its turn.

        Raises: Refusal if there is no room, or the server is going down; and what an engine's `resolve` raises.
        """
        with self.room(asked.count):
            settled = await self._settle(asked)
        shape = asked.shape
        ticket = ImagesTicket(settled.request, settled.recipe, shape.partials, until, steps=shape.progress)
        self.enter(ticket)
        return ticket, settled

    @contextmanager
    def room(self, count: int) -> Iterator[None]:
        """Inside, there is room for so many pictures. Raises Refusal if there is none, or the server is going down."""
        if self.draining:
            raise going_down(self.queue.retry_after)
        self.queue.reserve(count)
        try:
            yield
        finally:
            self.queue.release(count)

    def enter(self, ticket: Ticket) -> None:
        """Let a ticket wait for its turn. Raises Refusal if there will be none."""
        if self._stopped:
            raise going_down(1)
        self._absent -= 1
        self._newest = time.monotonic()
        self.queue.add(ticket)
        self._count_queued()
        self._more.set()

    def cancel(self, ticket: Ticket, what: str = "the client has left") -> None:
        """Nobody wants it: nothing more is painted for it, and what is being painted ends at the next step."""
        if not ticket.over:
            self._metrics.cancelled.add("waiting" if ticket.started is None else "painting")
            ticket.end(Refusal(Interrupted(what), status=499, code="client_left"))
            self._more.set()

    async def preview(self, asked: Asked) -> Settled:
        """What would be painted of a request that starts from no picture; it is not let into the queue."""
        return await self.check(settle, self._checker, asked, self._serving)

    def ahead(self, ticket: Ticket) -> int:
        """How many pictures of others are painted before those of a ticket that waits."""
        return self.queue.ahead(ticket) + (len(self._current) if ticket.started is None else 0)

    async def check(self, work: Callable[..., T], *arguments: object) -> T:
        """Do something that takes time, and needs no weights: one such thing at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._checking, work, *arguments)

    async def ask(self, work: Callable[..., T], *arguments: object, weights: bool = False) -> T:
        """Ask an engine something, which is the first argument of `work`: if it may take weights, the one that paints.

        That one answers between two groups.
        """
        if not weights:
            return await self.check(work, self._checker, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._painting, work, self._engine, *arguments)

    async def _settle(self, asked: Asked) -> Settled:
        rewriter = rewriter_of(asked, self._serving)
        if rewriter is not None:
            return await self._settle_rewritten(asked, rewriter)
        return await self.ask(settle, asked, self._serving, weights=asked.has_pictures)

    async def _settle_rewritten(self, asked: Asked, rewriter: Rewriter) -> Settled:
        """The same after the prompt has been rewritten, which takes long, and is waited for by nobody else."""
        thread, engine = (self._painting, self._engine) if asked.has_pictures else (self._checking, self._checker)
        loop = asyncio.get_running_loop()
        there = Elsewhere(engine, thread)
        settling = asyncio.ensure_future(
            loop.run_in_executor(self._rewriting, settle, there, asked, self._serving, rewriter)
        )
        self._asking.add(settling)
        settling.add_done_callback(self._asking.discard)
        ended = asyncio.ensure_future(self._ended.wait())
        both: set[asyncio.Future[Any]] = {settling, ended}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if not settling.done():
            raise going_down(1)
        return settling.result()

    # For who runs it

    async def open(self, model: str, *, words: bool) -> None:
        """Open the default model before anybody asks: a picture is begun, and given up after its first step."""
        if words:
            request = Generate(model=model, prompt="a picture", seed=0)
            outcome = asyncio.get_running_loop().run_in_executor(self._painting, self._begin, request)
            await asyncio.wait([outcome])
            error = outcome.exception()
            if error is not None and not isinstance(error, Abandoned):
                log.warning("the model cannot be opened: %s", error)
                return
        self.ready = True

    def _begin(self, request: Request) -> None:
        recipe = self._engine.resolve(request)
        self._together = self._engine.group(recipe)

        def stop(_: Progress) -> None:
            raise Abandoned

        for _ in self._engine.paint(recipe, stop):
            return

    async def run(self) -> None:
        """Paint, until cancelled."""
        while True:
            self._more.clear()
            ticket = self.queue.first(self.opened)
            if ticket is None:
                self._idle.set()
                await self._more.wait()
                self._absent, self._patience = 0, time.monotonic() + COMING
                continue
            self._idle.clear()
            seconds = self._seconds_for_company(ticket)
            if seconds > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), seconds)
                continue
            await self._paint(self.queue.take(ticket, await self._group(ticket)))
            self._count_queued()

    async def drain(self, seconds: float) -> bool:
        """Let nobody in any more, and wait for those that are; whether all of them were painted."""
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                while self.queue.pictures or self.busy:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Give up all that is waiting and being painted: their clients are told at once."""
        self.draining = self._stopped = True
        self._ended.set()
        self.queue.end_all(going_down(1))
        for ticket in self._current:
            ticket.end(going_down(1))

    @property
    def busy(self) -> bool:
        """Whether a thread is painting, or waits for a language model."""
        return bool(self._asking) or not self._idle.is_set()

    _current: Sequence[Ticket] = ()

    async def _group(self, ticket: Ticket) -> int:
        """How many pictures are painted with the first of this ticket, at most."""
        if ticket.whole or self.queue.pictures == 1:
            return 1
        loop = asyncio.get_running_loop()
        outcome = loop.run_in_executor(self._painting, self._engine.group, ticket.recipe_of(0))
        await asyncio.wait([outcome])
        self._together = 1 if outcome.exception() is not None else outcome.result()  # it will fail again, and be told
        return self._together

    def _seconds_for_company(self, ticket: Ticket) -> float:
        """How long to wait for those who are about to come, if they can be painted with the first of this ticket.

        Their requests are being checked, or they are just getting their answers and may ask again at once, or they have
        started together. Without that, programs that send one request after the other would fall out of step, and paint
        in small groups.
        """
        if ticket.whole or self.queue.alone or self.queue.ready >= self._together:
            return 0.0
        coming = self.queue.reserved > 0 or self._absent > 0
        until = self._patience if coming else min(self._patience, self._newest + CLOSE)
        return until - time.monotonic()

    async def _paint(self, units: Sequence[Unit]) -> None:
        """Paint some pictures; what fails is told to its own request and no other."""
        if not units:
            return
        self._current = [unit.ticket for unit in units]
        for ticket in self._current:
            if ticket.started is None:
                ticket.start()
                self._metrics.queue_seconds.observe(ticket.waited)
        loop = asyncio.get_running_loop()
        of = units[0].ticket
        count = partial(self._metrics.images.add, of.model, of.task)
        work = Work(self._engine, units, self._known, count, loop.call_soon_threadsafe)
        begun = loop.time()
        outcome = loop.run_in_executor(self._painting, work.run)
        await asyncio.wait([outcome])
        error = outcome.exception()
        self._current = ()
        self.opened = units[0].ticket.model
        seconds = loop.time() - begun
        self._absent = len({id(unit.ticket) for unit in units if unit.ticket.over})
        self._patience = time.monotonic() + min(COMING, COMING_SHARE * seconds)
        self._count(units, work.done, seconds)
        if error is not None:
            self._blame(units[work.done :] if not units[0].ticket.whole else units, error)

    def _blame(self, units: Sequence[Unit], error: BaseException) -> None:
        """An error ended the painting of these."""
        if isinstance(error, Abandoned):
            for unit in units:
                what = "the request was not painted in the time that its client has"
                unit.ticket.end(Refusal(RequestError(what), status=503, code="timeout"))
        elif len(units) > 1:  # one of them is to blame
            self.queue.alone.extend(units)
        else:
            kind = type(error).__name__
            if not isinstance(error, DalleError):
                log.error("a mistake in dalle itself while painting: %s", kind, exc_info=error)
            for unit in units:
                self._metrics.failures.add(kind)
                unit.ticket.end(refusal_of(error))

    def _count(self, units: Sequence[Unit], done: int, seconds: float) -> None:
        if done:
            model, task = units[0].ticket.model, units[0].ticket.task
            self._metrics.together.observe(len(units))
            for _ in range(done):
                self._metrics.image_seconds.observe(seconds / done, model, task)
            self.queue.took(seconds / done)

    def _count_queued(self) -> None:
        self._metrics.queued.set(self.queue.pictures)


@dataclass(slots=True)
class Work:
    """Some pictures that are painted at once, in the thread that paints.

    known: the models that its engine has heard of. count: counts a picture. hand_over: calls something in the thread of
    the event loop. done: how many pictures are handed over. shown: how often each picture could be looked at. told:
    when a step was told last, and of which stage.
    """

    engine: Engine
    units: Sequence[Unit]
    known: set[str]
    count: Callable[[], object]
    hand_over: Callable[[Callable[[], object]], object]
    done: int = 0
    shown: dict[int, int] = field(default_factory=dict)
    told: tuple[float, str] = (0.0, "")

    @property
    def whole(self) -> bool:
        """Whether it is all pictures of one ticket."""
        return self.units[0].ticket.whole

    def run(self) -> None:
        """Paint them. Raises Abandoned when nobody waits any more, and what the engine raises."""
        ticket = self.units[0].ticket
        ticket.begin(self.engine, known=ticket.model in self.known)
        self.known.add(ticket.model)
        if self.whole:
            pictures = ticket.work(self.engine, self._step, self._teller(ticket))
        else:
            pictures = self.engine.paint_together([unit.recipe for unit in self.units], self._step)
        for picture in pictures:
            ticket, k = self._at(self.done)
            self.done += 1
            self.hand_over(self.count)  # whoever has a picture finds it counted
            self.hand_over(partial(ticket.painted, k, picture))

    def _teller(self, ticket: Ticket) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            self.hand_over(partial(ticket.tell, event))

        return tell

    def _at(self, place: int) -> tuple[Ticket, int]:
        """The ticket and the number of the picture at a place, from 0."""
        if self.whole:
            return self.units[0].ticket, place
        return self.units[place].ticket, self.units[place].k

    def _step(self, progress: Progress) -> None:
        """A step is done."""
        if all(unit.ticket.over or unit.ticket.late for unit in self.units):
            raise Abandoned
        if any(unit.ticket.steps for unit in self.units):
            self._tell(progress)
        if progress.look is not None and any(unit.ticket.partials for unit in self.units):
            self._show(progress, progress.look)
        if any(unit.ticket.watched for unit in self.units):
            self._tell_all(progress)

    def _tell_all(self, progress: Progress) -> None:
        """Tell those who watch, each of its own pictures, and show them to those who want to look."""
        places = self._places(progress)
        images: Sequence[Image] | None = None
        for ticket in {unit.ticket: None for unit in self.units if unit.ticket.watched}:
            own = [place for place in places if self.units[place].ticket is ticket] if not self.whole else []
            if not self.whole and not own:
                continue
            step = progress
            if own:
                step = replace(progress, picture=self.units[own[0]].k, pictures=ticket.count, together=len(own))
            self.hand_over(partial(ticket.progressed, step))
            if ticket.looking and progress.look is not None:
                ticket.looking = False
                images = images if images is not None else progress.look()
                of = dict(zip(places, images, strict=False))
                seen = images if self.whole else [of[place] for place in own if place in of]
                self.hand_over(partial(ticket.seen, seen))

    def _tell(self, progress: Progress) -> None:
        """Hand over how far it is, not more often than somebody can see."""
        now = time.monotonic()
        if now - self.told[0] < TOLD_SECONDS and progress.stage == self.told[1]:
            return
        self.told = (now, progress.stage)
        done = _share(self.units[0].recipe, progress, ())
        done = (progress.square + done) / max(1, progress.squares)
        for place in self._places(progress):
            ticket, k = self._at(place)
            if ticket.steps:
                event = Stepped(k, progress.stage, progress.step, progress.steps, done)
                self.hand_over(partial(ticket.stepped, event))

    def _places(self, progress: Progress) -> range:
        """The pictures that a step was for."""
        first = progress.picture if self.whole else self.done + progress.picture
        most = self.units[0].ticket.count if self.whole else len(self.units)
        return range(first, min(first + progress.together, most))

    def _show(self, progress: Progress, look: "Callable[[], Sequence[Image]]") -> None:
        """Hand over what can be looked at, where it is time to."""
        share = _share(self.units[0].recipe, progress, _UNSEEN)
        places, due = self._places(progress), []
        for place in places:
            ticket, _ = self._at(place)
            if self.shown.get(place, 0) < min(ticket.partials, int(share * (ticket.partials + 1))):
                due.append(place)
        for place, image in zip(places, look() if due else (), strict=False):
            if place in due:
                ticket, k = self._at(place)
                number = self.shown.get(place, 0)
                self.shown[place] = number + 1
                self.hand_over(partial(ticket.unfinished, k, number, image))


def settle(engine: Resolver, asked: Asked, serving: Serving, rewriter: Rewriter | None = None) -> Settled:
    """The recipe of what a client asks for, perhaps in other words: in the size that comes nearest to the one wanted.

    Raises: Refusal for a size that is not painted, if the server is strict; and as `build_request` and `resolve`.
    """
    request = build_request(asked.task, asked.values, serving.defaults)
    outcome = Outcome(request=request) if rewriter is None else rewritten(request, engine, rewriter)
    request = outcome.request
    recipe, ignored = None, asked.ignored
    if asked.effort is not None and request.effort is None:
        try:
            recipe = engine.resolve(replace(request, effort=asked.effort))
            request = replace(request, effort=asked.effort)
        except BadSetting:  # not all models have an effort
            ignored = (*ignored, "quality")
    recipe = recipe if recipe is not None else engine.resolve(request)
    if asked.shape.size is not None and not isinstance(request, Inpaint):
        recipe = _sized(engine, request, recipe, asked.shape.size, strict=serving.strict_size)
    recipe = replace(recipe, warnings=(*outcome.warnings, *recipe.warnings))
    return Settled(replace(request, seed=recipe.seed), recipe, ignored)


def _sized(engine: Resolver, request: Request, recipe: Recipe, size: Size, *, strict: bool) -> Recipe:
    """The recipe in the size that a picture of `size` is best made of: of its proportions, as far as the model can.

    A picture is never much smaller than what the model paints by itself, which it knows best: it is resampled.
    """
    ways: list[Size | Proportions] = [size] if strict or 2 * size.pixels >= recipe.size.pixels else []
    if size.is_square:
        ways = [size] if strict or size.width > recipe.size.width else []
    elif not strict:
        with suppress(ValueError):
            ways.append(Proportions(size.width, size.height))
    for way in ways:
        try:
            return engine.resolve(replace(request, size=way, seed=recipe.seed))
        except BadSize:
            if strict:
                raise
    return recipe


def _share(recipe: Recipe, progress: Progress, without: Collection[str]) -> float:
    """How much of the painting is done, from 0 to 1, `without` the work of some stages."""
    counts = {name: stage.count for name, stage in recipe.stages.items() if isinstance(stage, DiffusionSettings)}
    seen = {name: count for name, count in counts.items() if name not in without}
    share = progress.step / max(1, progress.steps)
    if progress.stage in seen:
        names = list(seen)
        before = sum(seen[name] for name in names[: names.index(progress.stage)])
        share = (before + seen[progress.stage] * share) / max(1, sum(seen.values()))
    return (progress.square + share) / progress.squares


def going_down(retry_after: int) -> Refusal:
    """What a client hears of a server that is about to end."""
    failure = Interrupted("the server is going down", hint="try again: the next one may answer")
    return Refusal(failure, status=503, code="server_is_going_down", retry_after=retry_after)
