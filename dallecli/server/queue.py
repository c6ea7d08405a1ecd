"""What is painted next: a bounded queue of requests, of which alike ones are painted together.

The oldest request comes first, but one of many pictures lets those of one or two pass that come a little later, since
somebody sits before a screen and waits for them. As many others as fit are painted with it that are like it, and nobody
is waited for: while one group is painted the next one gathers. A model that has to be opened first waits a while for
those that want the open one, because every change of it costs the time of many pictures.
"""

import math
import time
from bisect import insort
from dataclasses import dataclass
from typing import Final

from dallecli.errors import RequestError
from dallecli.limits import RETRY_SECONDS
from dallecli.recipe import Recipe
from dallecli.server.refusal import Refusal
from dallecli.server.ticket import Ticket

SWITCH_SECONDS: Final = 10.0
"""How long a request waits at most for those of the model that is open."""

FEW: Final = 2
"""So many pictures are what somebody waits for; more are a bulk."""

BULK_SECONDS: Final = 10.0
"""For so long a bulk lets those pass that come later, and no longer: then it is its turn."""

GUESSED_SECONDS: Final = 1.0
"""For a picture, until one was painted."""

_NEW: Final = 0.2
"""The weight of the newest picture in the mean of their seconds."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Picture `k` of a ticket; of one that is painted by itself, all of them."""

    ticket: Ticket
    k: int

    @property
    def recipe(self) -> Recipe:
        return self.ticket.recipe_of(self.k)


class Queue:
    """Tickets of requests that wait. `most` is how many pictures may, also of requests that are still being checked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tickets: list[Ticket] = []
        """In the order of their turns."""
        self.alone: list[Unit] = []
        """Pictures of a group that failed: one of them is to blame, and is found by painting each by itself."""
        self.reserved = 0
        self._seconds = GUESSED_SECONDS

    @property
    def pictures(self) -> int:
        """How many wait, or will when their requests have been checked."""
        return self.reserved + self.ready

    @property
    def ready(self) -> int:
        """How many could be painted now."""
        return len(self.alone) + sum(len(ticket.left) for ticket in self.tickets)

    def ahead(self, ticket: Ticket) -> int:
        """How many pictures of others are before those of a ticket that waits."""
        before = self.tickets[: self.tickets.index(ticket)] if ticket in self.tickets else []
        return len(self.alone) + sum(len(other.left) for other in before)

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

    def add(self, ticket: Ticket) -> None:
        """Let a ticket wait for its turn."""
        insort(self.tickets, ticket, key=_turn)

    def took(self, seconds: float) -> None:
        """A picture took so long."""
        self._seconds += _NEW * (seconds - self._seconds)

    def first(self, opened: str | None) -> Ticket | None:
        """The ticket whose turn it is, while the model `opened` is open; late ones are ended."""
        for ticket in self.tickets:
            if ticket.late:
                what = "the request waited for longer than its client does"
                ticket.end(Refusal(RequestError(what), status=503, code="timeout", retry_after=self.retry_after))
        self.tickets = [ticket for ticket in self.tickets if ticket.left]
        self.alone = [unit for unit in self.alone if not unit.ticket.over]
        if self.alone or not self.tickets:
            return self.alone[0].ticket if self.alone else None
        first = self.tickets[0]
        if first.model != opened and time.monotonic() - first.since < SWITCH_SECONDS:
            return next((ticket for ticket in self.tickets if ticket.model == opened), first)
        return first

    def take(self, ticket: Ticket, size: int) -> list[Unit]:
        """The pictures that are painted next: of this ticket, and of others that are like it, up to `size`."""
        if self.alone:
            return [self.alone.pop(0)]
        if ticket.whole:
            ticket.left.clear()
            return [Unit(ticket, 0)]
        found: list[Unit] = []
        for other in [
            ticket,
            *(other for other in self.tickets if other is not ticket and other.alike == ticket.alike),
        ]:
            while other.left and len(found) < size:
                found.append(Unit(other, other.left.popleft()))
        return found

    def end_all(self, error: BaseException) -> None:
        """Tell all who wait that nothing is painted any more."""
        for ticket in [*self.tickets, *(unit.ticket for unit in self.alone)]:
            ticket.end(error)
        self.tickets.clear()
        self.alone.clear()


def _turn(ticket: Ticket) -> float:
    """When it would have come if all were as urgent."""
    return ticket.since + (BULK_SECONDS if ticket.pictures > FEW else 0.0)
