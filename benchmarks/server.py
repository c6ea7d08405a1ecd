"""What a server costs over painting, and what it gains.

    python benchmarks/server.py [--callers 16] [--pictures 64] [--batch 8] [--runs 9] [--json FILE]

Every figure is of the starter on this machine, the median of the runs: the time from a start to the first answer of
/health; of one warm request, and of a command that uses the server, the time that is not painting; pictures a second of
many callers, against the same prompts in a prompt file; and what health takes meanwhile.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from operator import truediv
from pathlib import Path
from typing import Any

ROUNDS = 3
"""How often a server is started, and many callers are compared with a prompt file."""

JSON = {"Content-Type": "application/json"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"callers": options.callers, "pictures": options.pictures, "batch": options.batch}
    found["start"] = [started() for _ in range(ROUNDS)]
    with serving("--batch", "1") as (port, _):
        found["request"] = [overhead(port, seed) for seed in range(options.runs + 1)][1:]
        found["command_line"] = [of_a_command(port, seed) for seed in range(options.runs + 1)][1:]
    found |= {"served": [], "offline": [], "health": []}
    for _ in range(ROUNDS):
        found["offline"].append(in_a_file(options.pictures, options.batch))
        with serving("--batch", str(options.batch), "--queue", str(2 * options.callers)) as (port, _):
            ask(port, 0)
            served, slowest = many(port, options.pictures, options.callers)
        found["served"].append(served)
        found["health"].append(slowest)
    show(found)
    if options.json is not None:
        import measuring
        import torch

        machine = measuring.machine(torch.device("cpu"))
        command = measuring.command_line("json")
        table = {"table": "server", "machine": machine, "command": command, "rounds": ROUNDS, **found}
        measuring.write(options.json, "server", table)


def show(found: Mapping[str, Any]) -> None:
    """Print the medians."""
    middle = {name: statistics.median(value) for name, value in found.items() if isinstance(value, list)}
    share = statistics.median(map(truediv, found["served"], found["offline"]))
    print(f"start to healthy        {middle['start']:.2f} s")
    print(f"a warm request          {1000 * middle['request']:.1f} ms over painting")
    print(f"a command with --server {middle['command_line']:.2f} s over painting")
    print(f"{found['callers']} callers              {middle['served']:.2f} pictures a second")
    print(f"a prompt file           {middle['offline']:.2f} pictures a second with --batch {found['batch']}")
    print(f"share                   {share:.2f}")
    print(f"health meanwhile within {1000 * max(found['health']):.0f} ms")


@contextmanager
def serving(*more: str) -> Iterator[tuple[int, float]]:
    """A server, its port, and the seconds until it was healthy."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "dallecli", "serve", "--port", "0", "-q", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        match = re.search(rb":(\d+)/v1", process.stdout.readline())
        assert match is not None
        port = int(match[1])
        assert get(port, "/health")["model"] == "starter"
        healthy = time.perf_counter() - begun
        while get(port, "/health")["status"] != "ok":
            time.sleep(0.05)
        try:
            yield port, healthy
        finally:
            process.terminate()


def started() -> float:
    """Seconds from a start to the first answer."""
    with serving() as (_, healthy):
        return healthy


def get(port: int, path: str) -> Any:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def ask(port: int, seed: int) -> dict[str, Any]:
    """One picture."""
    body = json.dumps({"prompt": f"a red car {seed}", "seed": seed, "response_format": "b64_json"})
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("POST", "/v1/images/generations", body, JSON)
        answer = connection.getresponse()
        data: dict[str, Any] = json.loads(answer.read())
    assert answer.status == 200, data
    return data


def overhead(port: int, seed: int) -> float:
    """Seconds of a request that are not painting."""
    begun = time.perf_counter()
    answer = ask(port, seed)
    return time.perf_counter() - begun - float(answer["dalle"]["seconds"])


def of_a_command(port: int, seed: int) -> float:
    """Seconds of `dalle generate --server` that are not painting."""
    command = [sys.executable, "-m", "dallecli", "generate", f"a red car {seed}", "--seed", str(seed), "--json", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, "--no-history", "--out", folder, "--server", f"http://127.0.0.1:{port}"],
            check=True,
            capture_output=True,
        )
        took = time.perf_counter() - begun
    return took - float(json.loads(done.stdout)["seconds"])


def many(port: int, pictures: int, callers: int) -> tuple[float, float]:
    """Pictures a second of so many callers at once, and the slowest answer of /health meanwhile, in seconds."""
    done, slow = threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.1):
            begun = time.perf_counter()
            get(port, "/health")
            slow.append(time.perf_counter() - begun)

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(lambda seed: ask(port, seed), range(pictures)))
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    return pictures / seconds, max(slow)


def in_a_file(pictures: int, batch: int) -> float:
    """Pictures a second of a prompt file, without what one picture less costs: the start and the opening."""
    with tempfile.TemporaryDirectory() as folder:
        times = {count: _painted(Path(folder), count, batch) for count in (batch, batch + pictures)}
    return pictures / (times[batch + pictures] - times[batch])


def _painted(folder: Path, count: int, batch: int) -> float:
    file = folder / f"{count}.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"a red car {seed}", "seed": seed}) + "\n" for seed in range(count)))
    command = [sys.executable, "-m", "dallecli", "generate", "--prompts", str(file), "--batch", str(batch), "-q"]
    begun = time.perf_counter()
    subprocess.run(
        [*command, "--out", str(folder / str(count)), "--no-history"],
        check=True,
        stdout=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
