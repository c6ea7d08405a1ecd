"""What the page has asked for: jobs that belong to the server, so that they go on when the page is reloaded or closed.

A request of the API ends with its client; a job of the page ends when it is done, or when somebody cancels it. Whoever
follows it is told first what has happened so far.
"""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final

from dallecli.errors import DalleError, Interrupted
from dallecli.limits import PAGE_JOB_SECONDS, PAGE_JOBS
from dallecli.recipe import Recipe
from dallecli.server.answer import Answerer
from dallecli.server.api_fields import MOST_PARTIALS
from dallecli.server.painter import Painter
from dallecli.server.refusal import Refusal, refusal_of
from dallecli.server.stream import KEEP_ALIVE_SECONDS, STILL, Stream, written
from dallecli.server.translate import Asked

log = logging.getLogger(__name__)

DONE: Final = "dalle.done"
"""The last event of a job that was not refused."""

CANCELLED: Final = "it was cancelled"


class PageJob:
    """One request of the page. `held` is what ends with it: its share of the memory for bodies."""

    def __init__(self, id: str, stream: Stream, held: AsyncExitStack) -> None:
        self.id = id
        self.stream = stream
        self.made = time.time()
        self.over: float | None = None
        self._held = held
        self._progress: dict[int, dict[str, Any]] = {}
        self._partials: dict[int, dict[str, Any]] = {}
        self._completed: list[dict[str, Any]] = []
        self._end: dict[str, Any] | None = None
        self._followers: set[asyncio.Queue[dict[str, Any]]] = set()

    @property
    def status(self) -> str:
        """What it does: waiting, painting, done or failed."""
        if self._end is not None:
            return "done" if self._end["type"] == DONE else "failed"
        return "waiting" if self.stream.ticket.started is None else "painting"

    def facts(self, painter: Painter) -> dict[str, Any]:
        """What the page's list of jobs has of it."""
        asked, recipe = self.stream.asked, self.stream.settled.recipe
        return {
            "id": self.id,
            "task": recipe.task,
            "status": self.status,
            "ahead": painter.ahead(self.stream.ticket) if self.status == "waiting" else 0,
            "title": recipe.title,
            "prompt": asked.prompt,
            "model": recipe.model,
            "seed": recipe.seed,
            "count": recipe.count,
            "completed": len(self._completed),
            "made": self.made,
            **doubts(recipe),
        }

    async def run(self) -> None:
        """Follow the painting to its end, and keep what comes of it. Raises what ended it."""
        async with self._held:
            async for event in self.stream.happening():
                self._tell(event)

    def end(self, error: BaseException | None) -> None:
        """It is over."""
        self._tell({"type": DONE} if error is None else {"type": "error", "error": refusal_of(error).body})

    async def follow(self) -> AsyncIterator[bytes]:
        """What has happened to it, and then what happens, to its end."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for event in (*self._progress.values(), *self._partials.values(), *self._completed):
            queue.put_nowait(event)
        if self._end is not None:
            queue.put_nowait(self._end)
        self._followers.add(queue)
        try:
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        event = await queue.get()
                except TimeoutError:
                    yield STILL
                    continue
                yield written(event)
                if event["type"] in (DONE, "error"):
                    return
        finally:
            self._followers.discard(queue)

    def _tell(self, event: dict[str, Any]) -> None:
        """Remember an event as far as it still matters, and tell all who follow."""
        kind = event["type"].rpartition(".")[2]
        if event["type"] in (DONE, "error"):
            self._end, self.over = event, time.monotonic()
            self._progress.clear()
            self._partials.clear()
        elif kind == "completed":
            self._completed.append(event)
            self._progress.pop(event["dalle"]["index"], None)
            self._partials.pop(event["dalle"]["index"], None)
        else:
            (self._progress if kind == "progress" else self._partials)[event["dalle"]["index"]] = event
        for queue in self._followers:
            queue.put_nowait(event)


def doubts(recipe: Recipe) -> dict[str, list[str]]:
    """What the page says beside a request: the words that the model does not know or read, and what else to know."""
    pictures = replace(recipe.unknown, words=()).notices(recipe.model)
    words = {"unknown": list(recipe.unknown.words), "dropped": list(recipe.dropped)}
    return {**words, "warnings": [*recipe.warnings, *pictures]}


class PageJobs:
    """All jobs of the page: those that go on, and for a while those that are over."""

    def __init__(self, painter: Painter, answerer: Answerer) -> None:
        self._painter = painter
        self._answerer = answerer
        self._jobs: dict[str, PageJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, asked: Asked, held: AsyncExitStack) -> PageJob:
        """Let a request wait for its turn. What `held` holds is taken over, and let go when the job is over.

        Raises: as `Painter.admit`.
        """
        shape = replace(asked.shape, url=False, base64=False, keep=True, progress=True, partials=MOST_PARTIALS)
        asked = replace(asked, shape=shape)
        ticket, settled = await self._painter.admit(asked, math.inf)
        found = PageJob(secrets.token_hex(16), Stream(self._answerer, asked, settled, ticket), held.pop_all())
        self._forget()
        self._jobs[found.id] = found
        task = asyncio.create_task(found.run())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, found))
        return found

    def _ended(self, job: PageJob, task: asyncio.Task[None]) -> None:
        """Whatever ended a job, those who follow it hear of it."""
        self._tasks.discard(task)
        error = Interrupted(CANCELLED) if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, DalleError | Refusal | MemoryError):
            log.error("a mistake in dalle itself after painting: %s", type(error).__name__, exc_info=error)
        job.end(error)

    def find(self, id: str) -> PageJob | None:
        """The job with this id, if there is one."""
        return self._jobs.get(id)

    def cancel(self, job: PageJob) -> None:
        """End a job; one that is over is forgotten."""
        if job.over is not None:
            self._jobs.pop(job.id, None)
        self._painter.cancel(job.stream.ticket, CANCELLED)

    def listed(self) -> list[dict[str, Any]]:
        """The jobs, the oldest first."""
        self._forget()
        return [job.facts(self._painter) for job in self._jobs.values()]

    async def settle(self) -> None:
        """Wait until what was painted is also kept."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self) -> None:
        over = [job for job in self._jobs.values() if job.over is not None]
        for place, job in enumerate(over):
            old = job.over is not None and time.monotonic() - job.over > PAGE_JOB_SECONDS
            if old or place < len(over) - PAGE_JOBS:
                del self._jobs[job.id]
