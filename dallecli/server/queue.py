"""What is painted next: a bounded queue of requests, of which alike ones are painted together.

The oldest request comes first. As many others as fit are painted with it that are like it, and nobody is waited for:
while one group is painted the next one gathers. A model that has to be opened first waits a while for those that want
the open one, because every change of it costs the time of many pictures.
"""

import math
import time
from dataclasses import dataclass
from typing import Final

from dallecli.errors import RequestError
from dallecli.limits import RETRY_SECONDS
from dallecli.recipe import Recipe
from dallecli.server.job import Job
from dallecli.server.refusal import Refusal

SWITCH_SECONDS: Final = 10.0
"""How long a request waits at most for those of the model that is open."""

GUESSED_SECONDS: Final = 1.0
"""For a picture, until one was painted."""

_NEW: Final = 0.2
"""The weight of the newest picture in the mean of their seconds."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Picture `k` of a job; of one that is painted as a whole, all of them."""

    job: Job
    k: int

    @property
    def recipe(self) -> Recipe:
        return self.job.recipe if self.job.whole else self.job.recipe.single(self.k)


class Queue:
    """Jobs that wait. `most` is how many pictures, also of requests that are still being checked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.jobs: list[Job] = []
        self.alone: list[Unit] = []
        """Pictures of a group that failed: one of them is to blame, and is found by painting each by itself."""
        self.reserved = 0
        self._seconds = GUESSED_SECONDS

    @property
    def pictures(self) -> int:
        """How many wait."""
        return self.reserved + len(self.alone) + sum(len(job.left) for job in self.jobs)

    @property
    def retry_after(self) -> int:
        """Seconds after which there is probably room."""
        return max(1, min(RETRY_SECONDS, math.ceil(self.pictures * self._seconds)))

    def reserve(self, count: int) -> None:
        """Keep room for a request. Raises Refusal if there is none."""
        waiting = self.pictures
        if waiting and waiting + count > self.most:
            what = f"{waiting} pictures are waiting, and no more than {self.most} may"
            failure = RequestError(what, hint=f"try again in {self.retry_after} s")
            raise Refusal(failure, status=429, code="rate_limit_exceeded", retry_after=self.retry_after)
        self.reserved += count

    def release(self, count: int) -> None:
        """Give back what was reserved."""
        self.reserved -= count

    def add(self, job: Job) -> None:
        self.jobs.append(job)

    def took(self, seconds: float) -> None:
        """A picture took so long."""
        self._seconds += _NEW * (seconds - self._seconds)

    def first(self, opened: str | None) -> Job | None:
        """The job whose turn it is, while the model `opened` is open; late ones are ended."""
        for job in self.jobs:
            if job.late:
                what = "the request waited for longer than its client does"
                job.end(Refusal(RequestError(what), status=503, code="timeout", retry_after=self.retry_after))
        self.jobs = [job for job in self.jobs if job.left]
        self.alone = [unit for unit in self.alone if not unit.job.over]
        if self.alone or not self.jobs:
            return self.alone[0].job if self.alone else None
        oldest = self.jobs[0]
        if oldest.recipe.model != opened and time.monotonic() - oldest.since < SWITCH_SECONDS:
            return next((job for job in self.jobs if job.recipe.model == opened), oldest)
        return oldest

    def take(self, job: Job, size: int) -> list[Unit]:
        """The pictures that are painted next: of this job, and of others that are like it, up to `size`."""
        if self.alone:
            return [self.alone.pop(0)]
        if job.whole:
            job.left.clear()
            return [Unit(job, 0)]
        found: list[Unit] = []
        for other in [job, *(other for other in self.jobs if other is not job and other.alike == job.alike)]:
            while other.left and len(found) < size:
                found.append(Unit(other, other.left.popleft()))
        return found

    def end_all(self, error: BaseException) -> None:
        """Tell all who wait that nothing is painted any more."""
        for job in [*self.jobs, *(unit.job for unit in self.alone)]:
            job.end(error)
        self.jobs.clear()
        self.alone.clear()
