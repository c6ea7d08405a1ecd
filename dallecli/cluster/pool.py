"""The workers of a cluster: one a GPU, or on machines without any one for as many cores as it may use.

Machines may come and go. Each worker is checked before its first picture: its version, the weights of every model that
is needed, and that there is memory for them.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dallecli.cluster.connection import Connection, Crashed, Lost, Node
from dallecli.cluster.order import Able, Checked, Need
from dallecli.errors import BadCluster, DalleError, NotDownloaded
from dallecli.safe import safe
from dallecli.version import __version__

if TYPE_CHECKING:
    from dallecli.cluster.dispatch import Task

log = logging.getLogger(__name__)

DRIVER: Final = "driver"
HUB: Final = "hub"

TRIES: Final = 10
"""So often a worker is started on a machine where none comes up."""

SYNC_SECONDS: Final = 2.0
"""Between two looks at which machines there are."""

GATHER_SECONDS: Final = 120.0
"""For the workers to come up and be checked; after that, those begin that are there."""

PULL_SECONDS: Final = 3600.0
"""The same where they fetch weights first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all workers are started with.

    setup: the options of their engine, see `Worker`. device: what was asked for. threads: of a CPU, None for all. most:
    no more workers than this. weights: where they get models from, None for what is on each machine. folders: of models
    that are sent, by name.
    """

    setup: Mapping[str, Any]
    device: str | None
    threads: int | None
    most: int | None
    weights: str | None
    folders: Mapping[str, Path]
    needs: Sequence[Need]


@dataclass(slots=True, eq=False)
class Member:
    """A worker, from its start on. `call` is the question about itself that it has not answered yet."""

    actor: Any
    node: Node
    call: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    able: tuple[Able, ...] | None = None
    tasks: "deque[Task]" = field(default_factory=deque)
    model: str = ""
    kinds: set[tuple[object, ...]] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        """Whether it can paint."""
        return self.able is not None

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.node.host} ({self.node.address})"


class Pool:
    """The workers that there are, and those that are about to be."""

    def __init__(self, connection: Connection, terms: Terms) -> None:
        """Raises BadCluster where no machine has what is asked for."""
        self.connection = connection
        self.terms = terms
        self.members: list[Member] = []
        self.refused: dict[str, DalleError] = {}
        self._failures: dict[str, int] = {}
        self._sent: set[str] = set()
        self._synced = 0.0
        self._said: tuple[Able, ...] = ()
        nodes = connection.nodes()
        self.gpu = terms.device != "cpu" and (terms.device is not None or any(node.gpus for node in nodes))
        if terms.most is not None:
            connection.request(terms.most, gpu=self.gpu)
        elif not any(self.places(node) for node in nodes):
            raise BadCluster("no machine of the cluster has a GPU", hint="--device cpu paints without")

    def places(self, node: Node) -> int:
        """How many workers a machine has."""
        if self.gpu:
            return node.gpus
        threads = self.terms.threads
        return min(1, node.cpus) if threads is None else max(min(1, node.cpus), node.cpus // threads)

    @property
    def ready(self) -> list[Member]:
        """The workers that can paint."""
        return [member for member in self.members if member.ready]

    @property
    def said(self) -> tuple[Able, ...]:
        """What the first of them says of all that is needed; what it said, if it is gone."""
        if self.ready:
            self._said = self.ready[0].able or ()
        return self._said

    @property
    def calls(self) -> dict[Any, Member]:
        """What workers are asked about themselves."""
        return {member.call: member for member in self.members if member.call is not None}

    def sync(self, *, now: bool = False) -> None:
        """Start workers where there is place for them."""
        if not now and time.monotonic() - self._synced < SYNC_SECONDS:
            return
        self._synced = time.monotonic()
        for member in [member for member in self.members if member.node.id in self.refused and not member.tasks]:
            self.remove(member)
        for node in self.connection.nodes():
            if node.id in self.refused:
                continue
            here = sum(member.node.id == node.id for member in self.members)
            for _ in range(self.places(node) - here):
                if self.terms.most is None or len(self.members) < self.terms.most:
                    self._start(node)

    def require(self, need: Need) -> None:
        """Something else is needed. Nothing may be painted meanwhile. Raises as `gather`."""
        self.terms = replace(self.terms, needs=(*self.terms.needs, need))
        for member in self.ready:
            member.able = None
            self._ask(member)
        self.gather()

    def gather(self) -> None:
        """Wait until the workers have come up, and all are checked.

        Raises: what is wrong with one of them; BadCluster if none comes up.
        """
        until = time.monotonic() + (GATHER_SECONDS if self.terms.weights is None else PULL_SECONDS)
        self.sync(now=True)
        while self.calls or not self.members:
            if time.monotonic() > until:
                break
            self.sync()
            for call in self.connection.wait(list(self.calls), 0.5) if self.calls else _pause():
                self.take(call)
            for error in self.refused.values():
                raise error
        if not self.ready:
            hint = "ray status shows what is free; dalle ray check looks at every machine"
            raise BadCluster(f"no worker came up in {GATHER_SECONDS:.0f} seconds", hint=hint)

    def take(self, call: Any) -> None:
        """A worker has answered what it was asked about itself."""
        member = self.calls[call]
        try:
            answer = self.connection.result(call)
        except (Lost, Crashed) as error:
            self._failed(member, str(error))
            return
        member.call = None
        if isinstance(answer, Checked):
            self._checked(member, answer)
        else:
            self._greeted(member, answer)

    def remove(self, member: Member) -> None:
        """A worker is gone, or has to go."""
        self.members.remove(member)
        self.connection.kill(member.actor)

    def refuse(self, member: Member, error: DalleError) -> None:
        """A machine cannot do what is needed: nothing is started on it any more."""
        named = _named(error, member)
        if member.node.id not in self.refused and self.ready:
            log.warning("%s is left out: %s", safe(member.name), safe(named.what))
        self.refused[member.node.id] = named
        for other in [other for other in self.members if other.node.id == member.node.id and not other.tasks]:
            self.remove(other)

    def close(self) -> None:
        """End all workers."""
        for member in list(self.members):
            self.remove(member)

    def _start(self, node: Node) -> None:
        cpus = 0.0 if self.gpu else float(self.terms.threads or node.cpus)
        setup = self.terms.setup
        actor = self.connection.start(node, gpus=int(self.gpu), cpus=min(cpus, float(node.cpus)), setup=setup)
        self.members.append(Member(actor=actor, node=node, call=self.connection.call(actor, "facts")))

    def _failed(self, member: Member, why: str) -> None:
        """A worker has not come up."""
        self.remove(member)
        failures = self._failures[member.node.id] = self._failures.get(member.node.id, 0) + 1
        if "No module named 'dallecli'" in why:
            self.refuse(member, BadCluster("dallecli is not installed there", hint="install it, as it is here"))
        elif failures >= TRIES:
            self.refuse(member, BadCluster(f"no worker comes up there: {why}"))

    def _greeted(self, member: Member, facts: Mapping[str, Any]) -> None:
        member.facts = facts
        if facts["dallecli"] != __version__:
            what = f"dallecli {facts['dallecli']} is installed there, and {__version__} here"
            self.refuse(member, BadCluster(what, hint="the same version on all machines"))
            return
        self._ask(member)

    def _ask(self, member: Member) -> None:
        """Ask a worker whether it can do all that is needed; before that it gets what it lacks."""
        try:
            if self.terms.weights == DRIVER:
                self._send(member)
        except (Lost, Crashed) as error:
            self._failed(member, str(error))
            return
        needs, pull = list(self.terms.needs), self.terms.weights == HUB
        member.call = self.connection.call(member.actor, "check", needs, pull)

    def _send(self, member: Member) -> None:
        """Send a machine the files of models that it lacks."""
        from dallecli.cluster.weights import files_of, pieces

        for name, folder in self.terms.folders.items():
            files = files_of(folder)
            link, actor = self.connection, member.actor
            missing = link.result(link.call(actor, "missing", name, files))
            if missing and member.node.id not in self._sent:
                log.info("sending %s to %s", safe(name), safe(member.name))
            for file in missing:
                for offset, data in pieces(folder / file):
                    link.result(link.call(actor, "receive", name, files, file, offset, data))
        self._sent.add(member.node.id)

    def _checked(self, member: Member, answer: Checked) -> None:
        if answer.error is not None:
            self.refuse(member, answer.error)
            return
        self._failures.pop(member.node.id, None)
        others = self.ready
        member.able = answer.able
        if others and _machines(others[0]) != _machines(member):
            here, there = _machines(others[0]), _machines(member)
            log.warning("%s", safe(f"{member.name} paints with {there}, others with {here}: pixels may differ", 400))


def _machines(member: Member) -> str:
    torch = f", torch {member.facts['torch']}" if member.facts["torch"] != "missing" else ""
    return "; ".join(able.machines[0] for able in member.able or ()) + torch


def _named(error: DalleError, member: Member) -> DalleError:
    """The same error, with the machine where it was met."""
    place = member.name if error.where is None else f"{member.name}: {error.where}"
    hint = error.hint
    if isinstance(error, NotDownloaded):
        hint = f"{hint} on that machine; or --weights-from hub, driver, or a shared folder"
    return type(error)(error.what, place, hint)


def _pause() -> list[Any]:
    time.sleep(0.2)
    return []
