"""A server that meets a thousand requests, good, bad, half-sent and left: what becomes of each, and of its memory."""

import json
import random
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.server.talking import Talk, as_form, hole, picture, png, process

pytestmark = pytest.mark.trust

REQUESTS = 1000
CALLERS = 16
WARM = 200
"""Requests before memory is measured: what is opened once is open then."""


def _good(talk: Talk, seed: int) -> str:
    count = 1 + seed % 3
    answer = talk.generate(prompt=f"a fox {seed}", seed=seed, n=count, response_format="b64_json")
    if answer.status != 200:
        return str(answer.status)
    seeds = [entry["dalle"]["seed"] for entry in answer.data]
    whole = all(picture(entry).size == (256, 256) for entry in answer.data)
    return "good" if whole and seeds == list(range(seed, seed + count)) else "mixed up"


def _edit(talk: Talk, seed: int) -> str:
    parts = (("prompt", "a couch"), ("seed", str(seed)), ("image", png()), ("mask", hole()))
    answer = talk.form("/v1/images/edits", *parts)
    if answer.status != 200:
        return str(answer.status)
    return "good" if answer.data[0]["dalle"]["seed"] == seed else "mixed up"


def _stream(talk: Talk, seed: int) -> str:
    answer = talk.generate(seed=seed, stream=True, partial_images=2)
    if answer.status != 200:
        return str(answer.status)
    last = answer.events[-1]
    return "good" if last["type"].endswith("completed") and last["dalle"]["seed"] == seed else "mixed up"


def _bad(talk: Talk, seed: int) -> str:
    body: Any = [{"prompt": ""}, {"n": 99, "prompt": "a"}, [], {"prompt": "a", "size": "big"}][seed % 4]
    answer = talk.post("/v1/images/generations", body)
    return "refused" if answer.status == 400 and "message" in answer.error else f"bad {answer.status}"


def _half(talk: Talk, seed: int) -> str:
    kind, body = as_form((("image", png()),))
    head = f"POST /v1/images/variations HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    with socket.create_connection(("127.0.0.1", talk.port)) as connection:
        whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        connection.sendall(whole[: len(whole) * (1 + seed % 9) // 10])
    return "half"


def _leave(talk: Talk, seed: int) -> str:
    data = json.dumps({"prompt": "nobody waits", "n": 2, "stream": seed % 2 == 0}).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    with socket.create_connection(("127.0.0.1", talk.port)) as connection:
        connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
        time.sleep(random.Random(seed).random() / 50)
    return "left"


KINDS = (_good, _good, _good, _edit, _stream, _bad, _bad, _half, _leave, _leave)


def _memory(process_id: int) -> int:
    """Resident memory in KiB."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def _files(process_id: int) -> int:
    return len(list(Path(f"/proc/{process_id}/fd").iterdir()))


@pytest.mark.slow
def test_a_thousand_mixed_requests_are_each_answered_right_and_leave_nothing_behind(tmp_path, figures):
    with process(tmp_path, "--queue", "64", seconds="0.0002") as talk:
        assert talk.process is not None
        number, slow = talk.process.pid, []
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.05):
                begun = time.monotonic()
                assert talk.get("/health").status == 200
                slow.append(time.monotonic() - begun)

        watcher = threading.Thread(target=watch)
        watcher.start()
        found: Counter[str] = Counter()
        with ThreadPoolExecutor(CALLERS) as threads:
            found.update(threads.map(lambda k: KINDS[k % len(KINDS)](talk, k), range(WARM)))
            before = _memory(number)
            found.update(threads.map(lambda k: KINDS[k % len(KINDS)](talk, k), range(WARM, WARM + REQUESTS)))
        done.set()
        watcher.join()
        time.sleep(1)
        slope, open_files = (_memory(number) - before) / REQUESTS, _files(number)
        health = talk.get("/health").json
        talk.process.terminate()
        assert talk.process.wait(30) == 0
        assert talk.log is not None
        log = talk.log.read_text()
    slow.sort()
    figures["server requests"] = dict(found)
    figures["server KiB a request"] = round(slope, 2)
    figures["server /health p99 ms"] = round(1000 * slow[int(0.99 * len(slow))], 1)
    total = WARM + REQUESTS
    assert sum(found.values()) == total
    assert found["good"] + found["429"] == total // 2
    assert (found["refused"], found["half"], found["left"]) == (total // 5, total // 10, total // 5)
    assert health["waiting"] == 0
    assert "Traceback" not in log
    assert "mistake" not in log
    assert slope <= 1.0
    assert open_files < 40
    assert not list(tmp_path.glob("dalle-serve-*"))
