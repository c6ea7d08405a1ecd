"""A Ray cluster on this machine, and the command line that paints on it: real processes, real signals.

`pytest -m "ray and not slow" tests/cluster` needs an environment with the extra `ray`; the default suite needs none.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WORKERS_PATH = f"{Path(__file__).parent / 'faults'}:{ROOT}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ray)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Machines:
    """The machines of a cluster, which are all this one, with GPUs that are none."""

    cluster: Any
    address: str
    environment: dict[str, str]
    home: Path
    nodes: list[Any] = field(default_factory=list)

    @property
    def faults(self) -> Path:
        """What `faults/sitecustomize.py` does in workers that start from now on."""
        return self.home / "faults.json"

    def add(self, path: str = WORKERS_PATH, **options: Any) -> Any:
        """Another machine, on which Python finds its modules at `path`."""
        options = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 80_000_000} | options
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", path)
            node = self.cluster.add_node(**options)
        self.nodes.append(node)
        return node

    def remove(self, node: Any) -> None:
        """A machine is gone at once."""
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)

    def workers(self) -> list[int]:
        """The processes that paint, of all machines."""
        raylets = {
            info.process.pid for node in self.cluster.list_all_nodes() for info in node.all_processes.get("raylet", ())
        }
        return [pid for pid in _processes("ray::Worker") if _parent(pid) in raylets]

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Begin a painting command that uses this cluster."""
        return begin(*arguments, "--ray", self.address, **self.environment | environment)

    def dalle(self, *arguments: str, timeout: float = 300, **environment: str) -> Ended:
        """Run a painting command that uses this cluster."""
        return ended(self.start(*arguments, **environment), timeout)


def begin(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Begin a command of its own process."""
    return subprocess.Popen(
        [sys.executable, "-m", "dallecli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def ended(process: "subprocess.Popen[str]", timeout: float = 300) -> Ended:
    """Wait for a command."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"it did not end in {timeout} s: {out[-500:]} {err[-2000:]}") from None
    return Ended(process.returncode, out, err)


def here(*arguments: str, **environment: str) -> Ended:
    """Run a command without a cluster."""
    return ended(begin(*arguments, **environment))


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A cluster of two machines with a GPU each. It asks for a token."""
    home = tmp_path_factory.mktemp("ray")
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "300",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 2,
        "PYTHONPATH": WORKERS_PATH,
        "DALLE_TEST_FAULTS": str(home / "faults.json"),
        "OMP_NUM_THREADS": "1",
        "DALLE_HOME": str(home),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        pytest.importorskip("ray")  # which reads its variables when it is imported
        from ray.cluster_utils import Cluster

        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "num_gpus": 1,
                "include_dashboard": False,
                "object_store_memory": 80_000_000,
            },
        )
        found = Machines(cluster, cluster.address, {}, home)
        found.add()
        yield found
        cluster.shutdown()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and the fake engine."""
    monkeypatch.setenv("DALLE_ENGINE", "fake")
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@dataclass
class Killer:
    """Kills `most` workers at random moments: one whenever so many more pictures are in a folder."""

    machines: Machines
    folder: str
    pictures: int
    most: int
    killed: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Killer":
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _kill(self) -> None:
        chance = random.Random(0)
        seen = 0
        while self.killed < self.most and not self._over.wait(chance.random()):
            found, workers = len(list(Path(self.folder).glob("*.png"))), self.machines.workers()
            if found >= seen + self.pictures and workers:
                seen = found
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    self.killed += 1


def lines(count: int, name: str = "p.jsonl", **more: object) -> str:
    """A prompt file with so many lines, each of which names its picture."""
    Path(name).write_text(
        "".join(json.dumps({"prompt": f"a fox, number {k}", "name": f"{k:05}", **more}) + "\n" for k in range(count))
    )
    return name


def faults(folder: str, reference: str, *outs: str) -> dict[str, int]:
    """What is wrong with a folder: pictures that are lost, twice in the journal or printed, torn, or not the ones of
    the reference; and printed lines that are no paths."""
    expected = {path.name: path.read_bytes() for path in Path(reference).glob("*.png")}
    found = {path.name: path.read_bytes() for path in Path(folder).glob("*.png")}
    entries = [json.loads(line) for line in (Path(folder) / "journal.jsonl").read_text().splitlines()]
    keys = [entry["key"] for entry in entries if entry["status"] == "done"]
    printed = [line for out in outs for line in out.splitlines()]
    other = [name for name, data in found.items() if expected.get(name) != data]
    return {
        "lost": len(expected.keys() - found.keys()) + len(expected) - len(set(keys)),
        "twice": len(keys) - len(set(keys)) + len(printed) - len(set(printed)),
        "torn": sum(not found[name].endswith(b"IEND\xaeB`\x82") for name in other),
        "mixed up": len(other),
        "temporary files": len(list(Path(folder).glob(".dalle-*.tmp"))),
        "other lines on stdout": sum(not line.startswith(f"{folder}/") for line in printed),
    }


NOTHING = dict.fromkeys(("lost", "twice", "torn", "mixed up", "temporary files", "other lines on stdout"), 0)


def wait_for(true: Any, seconds: float = 60) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


def _processes(title: str) -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                if (path / "cmdline").read_bytes().startswith(title.encode()):
                    yield int(path.name)
            except OSError:
                continue


def _parent(pid: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1
