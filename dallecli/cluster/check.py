"""Looks at every machine of a cluster: what it is, what is installed there, and whether a model is."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dallecli.cluster.connection import Connection, Crashed, Lost, Node
from dallecli.version import __version__

PATIENCE: Final = 60.0
"""Seconds for a machine to answer; one whose GPUs or cores are all in use does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A machine, and what it says of itself; `trouble` is what keeps it from painting, None if nothing does."""

    node: Node
    facts: Mapping[str, Any]
    trouble: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        node = self.node
        return {
            "host": node.host,
            "address": node.address,
            "gpus": node.gpus,
            "cpus": node.cpus,
            **{name: self.facts.get(name) for name in FACTS},
            "trouble": self.trouble,
        }


FACTS: Final = ("dallecli", "python", "torch", "device", "dtype", "gpu", "free", "models")


def look(connection: Connection, models: Sequence[str]) -> list[Looked]:
    """What every machine says, in the order of the cluster's list. A worker is started on each, and ended."""
    setup: dict[str, Any] = {"environment": {}, "memory": "auto", "batch": None, "compiled": False}
    workers = []
    for node in connection.nodes():
        gpus = min(1, node.gpus)
        actor = connection.start(node, gpus=gpus, cpus=0.0 if gpus or not node.cpus else 1.0, setup=setup)
        workers.append((node, actor, connection.call(actor, "look", list(models))))
    until = time.monotonic() + PATIENCE
    waiting = [call for _, _, call in workers]
    while waiting and time.monotonic() < until:
        ended = connection.wait(waiting, 0.5)
        waiting = [call for call in waiting if call not in ended]
    found = []
    for node, actor, call in workers:
        found.append(_looked(connection, node, call, busy=call in waiting))
        connection.kill(actor)
    there = {node.id for node in connection.nodes()}
    return [looked for looked in found if looked.facts or looked.node.id in there]  # one may have left meanwhile


def _looked(connection: Connection, node: Node, call: Any, *, busy: bool) -> Looked:
    if busy:
        return Looked(node=node, facts={}, trouble=f"no answer in {PATIENCE:.0f} s: all of it may be in use")
    try:
        facts = connection.result(call)
    except (Lost, Crashed) as error:
        missing = "No module named 'dallecli'" in str(error)
        return Looked(node=node, facts={}, trouble="dallecli is not installed" if missing else str(error))
    return Looked(node=node, facts=facts, trouble="; ".join(_troubles(facts)) or None)


def _troubles(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts["dallecli"] != __version__:
        yield f"dallecli {facts['dallecli']}, and {__version__} here"
    if "error" in facts:
        yield str(facts["error"])
    for name, state in facts["models"].items():
        if state != "here":
            yield f"{name}: {state}"
