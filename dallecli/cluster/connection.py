"""The connection to a Ray cluster: the one file that imports Ray, and translates how it fails.

A port of Ray lets whoever reaches it run programs, so nothing is started here: the cluster is there already. Its usage
statistics are switched off. No signal reaches into its calls, and its own handlers are not kept: ours let what is being
painted come to its end.
"""

import os
import platform
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import FrameType
from typing import Any, Final

from dallecli.errors import BadCluster, BadSetting, MissingExtra, NetworkError
from dallecli.installation import extra_command
from dallecli.limits import CONNECT_SECONDS
from dallecli.signals import heard_by

AUTO: Final = "auto"
NAMESPACE: Final = "dalle"
STARTED: Final = "this machine has to be part of it: ray start --head, or ray start --address=HEAD:6379"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, a signal waits until the end: an exception in the middle of one of Ray's calls would break it.

    Handlers that were put in place inside are undone. A second signal ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        came.append(number)

    with heard_by(note) as before:
        yield
    for number in came:
        before[number](number, None)


class Lost(Exception):
    """A worker is gone, and with it what it was doing. Who is to blame is not known."""


class Crashed(Exception):
    """A call ended with an exception that is none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster."""

    id: str
    host: str
    address: str
    cpus: int
    gpus: int


def check_ray() -> None:
    """Raises MissingExtra if Ray is not installed. Does not import it."""
    if find_spec("ray") is None:
        raise MissingExtra("a cluster needs ray", hint=extra_command("ray"))


class Connection:
    """The cluster at an address, until `close`.

    Raises: MissingExtra, BadSetting for what is no address, NetworkError where no cluster is, BadCluster for another
    version of Ray or Python.
    """

    def __init__(self, address: str) -> None:
        check_ray()
        _check_address(address)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray = ray
        try:
            with undisturbed():
                ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
        except (ConnectionError, TimeoutError, ValueError) as error:
            what = f"no Ray cluster is reached: {_first_line(error)}"
            raise NetworkError(what, where=address, hint=STARTED) from error
        except RuntimeError as error:
            raise _refused(error, address) from error

    def close(self) -> None:
        """Let go of the cluster; workers end with it."""
        with undisturbed():
            self._ray.shutdown()

    @property
    def version(self) -> str:
        """Of Ray."""
        return str(self._ray.__version__)

    def nodes(self) -> list[Node]:
        """The machines that are there now."""
        with undisturbed():
            nodes = self._ray.nodes()
        return [
            Node(
                id=facts["NodeID"],
                host=facts["NodeManagerHostname"],
                address=facts["NodeManagerAddress"],
                cpus=int(facts["Resources"].get("CPU", 0)),
                gpus=int(facts["Resources"].get("GPU", 0)),
            )
            for facts in nodes
            if facts["Alive"]
        ]

    def start(self, node: Node, *, gpus: int, cpus: float, setup: Mapping[str, Any]) -> Any:
        """A worker on a machine; it may take a while until it is there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from dallecli.cluster.worker import Worker

        options = {
            "num_gpus": gpus,
            "num_cpus": cpus,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        with undisturbed():
            return self._ray.remote(Worker).options(**options).remote(dict(setup))

    def request(self, workers: int, *, gpu: bool) -> None:
        """Ask an autoscaler, if there is one, for so many places."""
        from ray.autoscaler.sdk import request_resources

        with undisturbed():
            request_resources(bundles=[{"GPU" if gpu else "CPU": 1}] * workers)

    def call(self, worker: Any, name: str, *arguments: object) -> Any:
        """Call a method of a worker; what comes back is waited for with `wait`, and read with `result`."""
        with undisturbed():
            return getattr(worker, name).remote(*arguments)

    def wait(self, calls: Sequence[Any], timeout: float) -> list[Any]:
        """The calls that have ended: at least one, unless `timeout` seconds pass before."""
        with undisturbed():
            ready, rest = self._ray.wait(list(calls), num_returns=1, timeout=timeout)
            if ready and rest:
                more, _ = self._ray.wait(rest, num_returns=len(rest), timeout=0)
                ready += more
        return list(ready)

    def result(self, call: Any) -> Any:
        """What a call gave. Raises Lost, Crashed."""
        errors = self._ray.exceptions
        try:
            with undisturbed():
                return self._ray.get(call)
        except errors.RayTaskError as error:
            raise Crashed(_last_line(error)) from error
        except errors.RayError as error:
            raise Lost(_last_line(error)) from error

    def kill(self, worker: Any) -> None:
        """End a worker, whatever it is doing."""
        with undisturbed():
            self._ray.kill(worker, no_restart=True)


def _check_address(address: str) -> None:
    """Raises BadSetting for what is no address, NetworkError where nobody listens: Ray itself would try for minutes."""
    if address == AUTO:
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536) or "/" in host:
        raise BadSetting(f"--ray {address!r} is no address of a cluster", hint="HOST:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        what = f"no Ray cluster is reached: {error.strerror or error}"
        raise NetworkError(what, where=address, hint=STARTED) from error


def _refused(error: RuntimeError, address: str) -> BadCluster | NetworkError:
    text = str(error)
    if "ersion mismatch" in text:
        import ray

        here = f"here are Ray {ray.__version__} and Python {platform.python_version()}"
        hint = "the same of both on all machines"
        return BadCluster(f"the cluster has another version of Ray or Python; {here}", where=address, hint=hint)
    return NetworkError(f"Ray cannot join the cluster: {_first_line(error)}", where=address, hint=STARTED)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
