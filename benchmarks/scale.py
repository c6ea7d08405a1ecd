"""What a batch on many workers costs its driver, and from how many workers on the driver is what everybody waits for.

    python benchmarks/scale.py [--lines 4000] [--side 256] [--seconds 2.0] [--group 8] [--ray HOST:PORT]
    python benchmarks/scale.py --finished 100000

The first measures what the driver does for a picture, with the real code (reading lines, resolving, keys, handing out,
publishing, the journal) and workers that answer at once with a picture of that side; with --ray also what Ray takes for
an order. It then simulates 1 to 1000 workers that take --seconds for a group of --group pictures. The second measures
what it takes to go on over a batch in which nothing is left to do.
"""

import argparse
import heapq
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
DEPTH = 2
RUNS = 3
"""How often the driver is measured; the middle one counts."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the driver does, in seconds: its CPU for a picture, and Ray for an order besides, None if that was not
    measured; the disk for a picture.

    The disk has threads of its own, so that the larger of the two is what a picture costs.
    """

    cpu: float
    disk: float
    order: float | None
    megabytes: float
    bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--ray", metavar="HOST:PORT")
    parser.add_argument("--finished", type=int, metavar="LINES")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]  # of what else is at work
    os.environ["DALLE_ENGINE"] = "fake"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DALLE_HOME"] = folder
        if options.finished is not None:
            figures = {"lines": options.finished, "runs": go_on(Path(folder), options.finished)}
            keep(options.json, "scale finished", "finished", figures)
            return
        order = ray_order(options.ray) if options.ray is not None else None
        small = drive(Path(folder), options.lines // 4, options.side, 64)
        runs = [drive(Path(folder) / str(k), options.lines, options.side, 64) for k in range(RUNS)]
        large = sorted(runs, key=lambda run: run.cpu)[RUNS // 2]
    figures = {**asdict(replace(large, order=order)), "seconds": options.seconds, "group": options.group}
    figures |= {"lines": options.lines, "memory": [small.megabytes, large.megabytes], "load": load}
    figures["workers"] = {
        workers: simulate(workers, replace(large, order=order), options.seconds, options.group) for workers in WORKERS
    }
    show(figures)
    keep(options.json, "scale", "scale", figures)


def keep(path: Path | None, name: str, table: str, figures: Mapping[str, Any]) -> None:
    """Write figures for the page, if there is a place for them."""
    if path is None:
        return
    import measuring
    import torch

    machine = measuring.machine(torch.device("cpu"))
    command = measuring.command_line("json", "ray")
    measuring.write(path, name, {"table": table, "machine": machine, "command": command, **figures})


def show(figures: Mapping[str, Any]) -> None:
    """Print the figures."""
    print(f"the driver's CPU, a picture of {figures['bytes'] / 1e3:.0f} kB   {1000 * figures['cpu']:.2f} ms")
    print(f"the disk, to publish and journal it        {1000 * figures['disk']:.2f} ms")
    if figures["order"] is not None:
        print(f"Ray, an order                             {1000 * figures['order']:.2f} ms")
    few, many = figures["memory"]
    print(f"memory, {figures['lines'] // 4} lines and {figures['lines']} lines    {few:.0f} and {many:.0f} MB")
    for workers, (rate, busy) in figures["workers"].items():
        most = workers * figures["group"] / figures["seconds"]
        print(f"{workers:5} workers   {rate:7.1f} pictures a second, {rate / most:4.0%}; the driver works {busy:4.0%}")


def simulate(workers: int, costs: Costs, seconds: float, group: int) -> tuple[float, float]:
    """Pictures a second, and the share of its time that the driver works, with so many workers.

    Events by a clock that nobody waits for: a worker has up to `DEPTH` orders, and the driver takes what has ended one
    after the other, and hands out the next for each.
    """
    handing = costs.order if costs.order is not None else 0.0
    own = group * max(costs.cpu, costs.disk) + handing
    ends: list[tuple[float, int]] = []
    waiting = [DEPTH - 1] * workers
    now = 0.0
    for worker in range(workers):
        now += handing
        heapq.heappush(ends, (now + seconds, worker))
    painted, busy, until = 0, 0.0, max(200 * seconds, 40 * workers * own)
    free = now
    finished: deque[tuple[float, int]] = deque()
    while free < until:
        end, worker = heapq.heappop(ends)
        if waiting[worker]:  # it goes on with the order that it has
            waiting[worker] -= 1
            heapq.heappush(ends, (end + seconds, worker))
            idle = False
        else:
            idle = True
        finished.append((end, worker))
        start = max(free, end)
        free = start + own
        busy += own
        painted += group
        if idle:
            heapq.heappush(ends, (free + seconds, worker))
        else:
            waiting[worker] += 1
    return painted / free, min(1.0, busy / free)


class Instant:
    """A cluster whose workers answer at once, each with the same picture."""

    def __init__(self, workers: int, data: bytes) -> None:
        from dallecli.cluster.connection import Node

        self._data = data
        self._answers: dict[int, Any] = {}
        self._calls = 0
        self._nodes = [Node(id=str(k), host=f"m{k}", address=f"10.0.0.{k}", cpus=1, gpus=1) for k in range(workers)]

    def nodes(self) -> list[Any]:
        return self._nodes

    def start(self, node: Any, *, gpus: int, cpus: float, setup: Mapping[str, Any]) -> object:
        return node

    def call(self, worker: Any, name: str, *arguments: Any) -> int:
        self._calls += 1
        self._answers[self._calls] = getattr(self, f"_{name}")(*arguments)
        return self._calls

    def wait(self, calls: Sequence[int], timeout: float) -> list[int]:
        return list(calls)

    def result(self, call: int) -> Any:
        return self._answers.pop(call)

    def kill(self, worker: object) -> None:
        """It has no process."""

    def close(self) -> None:
        """It has no connection."""

    def _facts(self) -> dict[str, Any]:
        from dallecli.version import __version__

        return {"dallecli": __version__, "torch": "missing"}

    def _check(self, needs: Sequence[Any], pull: bool) -> Any:
        from dallecli.cluster.order import Able, Checked

        return Checked(able=tuple(Able(machines=("cpu",) * 8, group=8, memory="") for _ in needs))

    def _paint(self, order: Any) -> Any:
        from dallecli.cluster.order import Answer, Sent

        return Answer(
            pictures=tuple(
                Sent(data=self._data, recipe=recipe, seconds=1.0, scores={"prior": 0.5}) for recipe in order.recipes
            )
        )


def drive(folder: Path, count: int, side: int, workers: int) -> Costs:
    """What the driver does for a picture, in a process of its own: memory is measured at its fullest."""
    found = subprocess.run(
        [sys.executable, __file__, "_drive", str(folder / f"{count}"), str(count), str(side), str(workers)],
        check=True,
        capture_output=True,
        text=True,
    )
    return Costs(**json.loads(found.stdout.splitlines()[-1]))


def _drive(folder: Path, count: int, side: int, workers: int) -> None:
    from dallecli.batch.jobs import Reader
    from dallecli.batch.journal import Journal
    from dallecli.batch.presence import Presence
    from dallecli.batch.prompt_file import PromptFile
    from dallecli.batch.runner import Batch, Runner, survey
    from dallecli.batch.wildcards import Wildcards
    from dallecli.cli.batch_progress import Progressing
    from dallecli.cli.options import PaintingReporting
    from dallecli.cluster.dispatch import Dispatch
    from dallecli.cluster.executor import ClusterExecutor
    from dallecli.cluster.pool import Pool, Terms
    from dallecli.fake_engine import FakeEngine

    folder.mkdir(parents=True)
    file = folder / "p.jsonl"
    with file.open("w", encoding="ascii") as opened:
        for k in range(count):
            opened.write(json.dumps({"prompt": f"a car, number {k}", "name": f"{k // 1000}/{k}", "seed": k}) + "\n")
    data = _picture(side)
    engine, instant = _Wide(), Instant(workers, data)
    terms = Terms(setup={}, device=None, threads=None, most=None, weights=None, folders={}, needs=())
    pool = Pool(instant, terms)  # type: ignore[arg-type]
    pool.gather()
    executor = ClusterExecutor(Dispatch(pool), format="png", metadata=True)
    with closing(PromptFile(str(file), "prompt")) as prompts:
        reader = Reader(command="generate", defaults={"model": "starter"}, wildcards=Wildcards(folder))
        batch = Batch(file=prompts, reader=reader, folder=folder / "o")
        batch.folder.mkdir()
        watcher = Progressing(batch, PaintingReporting(quiet=True, no_history=True))
        disk = _disk(batch.folder, data)
        cpu = time.process_time()
        with closing(watcher), closing(Journal(batch.folder)) as journal:
            found = survey(batch, engine, watcher)
            runner = Runner(batch, engine, journal, Presence(batch.folder, share=False), watcher, found, executor)
            tally = runner.run()
        cpu = time.process_time() - cpu
    assert tally.done == count, tally
    assert isinstance(engine, FakeEngine)
    most = _most_memory()
    print(json.dumps({"cpu": cpu / count, "disk": disk, "order": None, "megabytes": most, "bytes": len(data)}))


def _most_memory() -> float:
    """Megabytes that this process held at its fullest; by `getrusage` it would inherit those of who started it."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _disk(folder: Path, data: bytes) -> float:
    """Seconds by the clock to publish a picture and to journal it, by as many threads as a batch has."""
    from dallecli.batch.commits import Commits
    from dallecli.batch.journal import Entry, Journal
    from dallecli.batch.runner import WRITERS
    from dallecli.publish import publish

    count = 50 * WRITERS
    with tempfile.TemporaryDirectory(dir=folder) as own, closing(Journal(Path(own))) as journal:
        commits = Commits(journal)

        def write(k: int) -> None:
            publish(Path(own) / f"{k}.png", data, force=False)
            commits.append(Entry(key=f"{k:064x}", status="done", line=k, prompt="a car", seed=k, model="fake"))

        begun = time.perf_counter()
        with ThreadPoolExecutor(WRITERS) as threads:
            list(threads.map(write, range(count)))
        return (time.perf_counter() - begun) / count


def _Wide() -> Any:  # stands for a class, whose module is imported late
    from dallecli.fake_engine import FakeEngine

    class Wide(FakeEngine):
        """Paints eight at a time, as a GPU does."""

        GROUP = 8

    return Wide()


def _picture(side: int) -> bytes:
    """A PNG that is about as large as one of a painted picture: noise in the lower half of the bits."""
    noise = Image.frombytes("RGB", (side, side), bytes(byte & 31 | 64 for byte in os.urandom(3 * side * side)))
    target = io.BytesIO()
    noise.save(target, "PNG")
    return target.getvalue()


def ray_order(address: str) -> float:
    """Seconds of the driver's CPU that Ray takes for an order and its answer of eight pictures."""
    from dallecli.cluster.connection import Connection

    with closing(Connection(address)) as connection:
        setup = {"environment": {"DALLE_ENGINE": "fake"}, "memory": "auto", "batch": None, "compiled": False}
        worker = connection.start(connection.nodes()[0], gpus=0, cpus=0.0, setup=setup)
        connection.result(connection.call(worker, "facts"))
        begun, count = time.process_time(), 200
        for _ in range(count):
            (call,) = connection.wait([connection.call(worker, "facts")], 60)
            connection.result(call)
        return (time.process_time() - begun) / count


def go_on(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """What it takes to paint a batch of so many small pictures, and then to go on over it; it is printed as well."""
    lines = folder / "lines.txt"
    lines.write_text("".join(f"a car, number {k}\n" for k in range(count)), encoding="ascii")
    command = [sys.executable, "-m", "dallecli", "generate", "--prompts", str(lines), "--out", str(folder / "o"), "-q"]
    found = {}
    for what in ("painted", "gone over"):
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--size", "16", "--no-history"], check=True, stdout=subprocess.DEVNULL)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime
        megabytes = usage.ru_maxrss / 1024
        found[what] = {"cpu": cpu, "seconds": time.perf_counter() - begun, "megabytes": megabytes}
        print(f"{count} lines {what}: {cpu:.1f} s of CPU, {found[what]['seconds']:.1f} s by the clock", end="")
        print(f", at most {megabytes:.0f} MB")
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["_drive"]:
        os.environ["DALLE_ENGINE"] = "fake"
        _drive(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
