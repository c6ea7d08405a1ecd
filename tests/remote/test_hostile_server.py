"""A server that is none, or that means harm: an error in three lines and exit code 4, in time, and nothing written."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from dallecli import limits
from dallecli.fake_engine import FakeEngine
from dallecli.remote import connection
from dallecli.remote.protocol import PROTOCOL, recipe_said, settled_said
from dallecli.tasks.builder import build_request
from tests.remote.conftest import Dalle

RECIPE = FakeEngine().resolve(build_request("generate", {"model": "starter", "prompt": "a fox", "seed": 3}))
OTHER = FakeEngine().resolve(build_request("generate", {"model": "starter", "prompt": "a bear", "seed": 3}))
SETTLED = {"settled": settled_said(RECIPE)}
END = b'{"end": true}\n'
HEALTH = {"status": "ok", "version": "9", "model": "starter", "engine": PROTOCOL}


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def answer(body: bytes, kind: str = "application/x-dalle-frames", status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def picture(**changes: object) -> bytes:
    facts = {"recipe": recipe_said(RECIPE), "seconds": 0.1, "scores": {}, "width": 4, "height": 4, **changes}
    return line({"picture": facts, "bytes": 48})


GOOD = answer(line(SETTLED) + END)
PIXELS = bytes(48)

FIRST = {
    "nothing": b"",
    "noise": bytes(range(256)) * 10,
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a mail server": b"220 mail.example.org ESMTP\r\n",
    "a web page": answer(b"<html>hello</html>", "text/html"),
    "a page that is missing": answer(b"<html>404</html>", "text/html", "404 Not Found"),
    "a redirect": answer(b"", status="302 Found", more="Location: http://127.0.0.1:1/\r\n"),
    "an odd status": answer(b"{}", "application/json", "299 What"),
    "an error that is none": answer(b'{"error": {"dalle": 3}}', "application/json", "400 Bad Request"),
    "an error of no shape": answer(b"[1, 2", "application/json", "500 Oops"),
    "another version": answer(
        line({"error": {"code": "other_protocol", "dalle": {"error": "NetworkError", "what": "dalle-engine/2"}}}),
        "application/json",
        "404 Not Found",
    ),
    "an older dalle": answer(
        line({"error": {"code": "unknown_url", "dalle": {"error": "RequestError", "what": "nothing"}}}),
        "application/json",
        "404 Not Found",
    ),
    "no frame": answer(b"hello\n"),
    "an empty answer": answer(b""),
    "only an end": answer(END),
    "no end": answer(line(SETTLED)),
    "half a frame": answer(line(SETTLED)[:100]),
    "two answers": answer(line(SETTLED) * 2 + END),
    "a frame without a name": answer(line({}) + END),
    "a frame with two names": answer(line({"a": 1, "b": 2}) + END),
    "a key that is there twice": answer(b'{"end": true, "end": true}\n'),
    "a list": answer(b"[]\n"),
    "not a number": answer(b'{"settled": NaN}\n'),
    "a deep list": answer(b'{"settled": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"),
    "a long line": answer(b"x" * (limits.FRAME_BYTES + 10) + b"\n"),
    "bytes without end": answer(b'{"settled": {}, "bytes": 10000000000000}\n'),
    "bytes below nothing": answer(b'{"settled": {}, "bytes": -1}\n'),
    "bytes that do not come": answer(b'{"settled": {}, "bytes": 100}\nabc'),
    "a recipe that is none": answer(line({"settled": {"recipe": {}, "warnings": [], "unknown": {}}}) + END),
    "a recipe of something else": answer(line({"settled": settled_said(OTHER)}) + END),
    "a recipe with a file": answer(
        line(
            {
                "settled": {
                    **settled_said(RECIPE),
                    "recipe": {
                        **recipe_said(RECIPE),
                        "inputs": [{"kind": "picture", "name": "a" * 64, "sha256": "a" * 64}],
                    },
                }
            }
        )
        + END
    ),
    "a file that it never has": answer(
        line({"error": {"code": "input_missing", "dalle": {"error": "BadInput", "what": "gone"}}}),
        "application/json",
        "409 Conflict",
    ),
    "chunks that are none": b"HTTP/1.1 200 OK\r\nContent-Type: application/x-dalle-frames\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 5000,
    "a header without end": b"HTTP/1.1 200 OK\r\nx-a: " + b"b" * 20_000,
}

THEN = {
    "nothing": b"",
    "only an end": answer(END),
    "a picture too few": answer(picture() + PIXELS + END),
    "a picture too many": answer((picture() + PIXELS) * 3 + END),
    "too few pixels": answer(picture(width=5) + PIXELS + END),
    "no pixels": answer(line({"picture": {"recipe": recipe_said(RECIPE), "seconds": 1, "scores": {}}}) + END),
    "sides that no picture has": answer(picture(width=-4, height=-4) + PIXELS + END),
    "sides without end": answer(picture(width=2**40, height=2**40) + PIXELS + END),
    "another picture": answer(picture(recipe=recipe_said(OTHER)) + PIXELS + END),
    "odd scores": answer(picture(scores={"a": []}) + PIXELS + END),
    "odd seconds": answer(picture(seconds=-1) + PIXELS + END),
    "a step that is none": answer(line({"step": {"stage": "\x1b[31m", "step": 1}}) + END),
    "a step below nothing": answer(
        line(
            {
                "step": dict.fromkeys(("step", "steps", "pictures", "together", "squares"), 0)
                | {"stage": "prior", "picture": 0, "square": 0, "look": False}
            }
        )
        + END
    ),
    "a number of no work": answer(line({"job": "../../etc"}) + END),
    "odd waiting": answer(line({"waiting": "long"}) + END),
    "something unknown": answer(line({"reboot": True}) + END),
    "an error in the middle": answer(
        line({"error": {"dalle": {"error": "NonFinite", "what": "NaN\x1b[31m\n\n\n"}, "status": 500}})
    ),
}


@contextmanager
def serving(*answers: bytes, pause: float = 0.0) -> Iterator[tuple[int, list[bytes]]]:
    """Somebody who gives the answers in turn, the last again and again; what came is kept."""
    listener = socket.create_server(("127.0.0.1", 0))
    came: list[bytes] = []

    def serve() -> None:
        for number in range(1000):
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(10)
                came.append(_request(client))
                time.sleep(pause)
                client.sendall(answers[min(number, len(answers) - 1)])

    thread = threading.Thread(target=_quietly, args=(serve,), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], came
    finally:
        listener.close()


def _quietly(work: Callable[[], None]) -> None:
    with suppress(OSError):
        work()


def _request(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        if not chunk:
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0)
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def failed(dalle: Dalle, port: int, *more: str) -> str:
    began = time.monotonic()
    result = dalle("generate", "a fox", "--seed", "3", "-n", "2", *more, "--server", f"http://127.0.0.1:{port}")
    assert result.code in (4, 5), result.said
    beside = ("warning: ", "the server paints for others first")  # what was finished is kept, as always
    lines = [said for said in result.err.splitlines() if not said.startswith(beside)]
    assert lines[0].startswith("error: ")
    assert len(lines) <= 3
    assert not set(result.err) & {"\x1b"}
    assert (result.out == "") == (result.files == {})
    assert time.monotonic() - began < 10
    return result.err


@pytest.mark.parametrize("data", FIRST.values(), ids=FIRST)
def test_an_answer_that_is_none_is_an_error_of_the_network(data, dalle: Dalle):
    with serving(data) as (port, _):
        failed(dalle, port)


@pytest.mark.parametrize("data", THEN.values(), ids=THEN)
def test_a_painting_that_is_none_is_one_too(data, dalle: Dalle):
    two = answer(line({"settled": settled_said(FakeEngine().resolve(_two()))}) + END)
    with serving(two, data) as (port, _):
        failed(dalle, port)


def _two():
    return build_request("generate", {"model": "starter", "prompt": "a fox", "seed": 3, "n": 2})


def test_nobody_who_is_silent_is_waited_for(dalle: Dalle, monkeypatch):
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.2)
    with serving(GOOD, pause=1.0) as (port, _):
        assert "does not answer" in failed(dalle, port)


def test_nobody_there_is_said_with_what_to_do(dalle: Dalle):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = failed(dalle, port)
    assert "no server answers" in said
    assert "dalle serve" in said
    assert "none" in said


def test_who_has_no_time_is_asked_again_when_it_says_and_that_is_said(dalle: Dalle, monkeypatch):
    busy = answer(
        line({"error": {"code": "rate_limit_exceeded", "dalle": {"error": "RequestError", "what": "40 are waiting"}}}),
        "application/json",
        "429 Too Many Requests",
        "Retry-After: 7\r\n",
    )
    slept: list[float] = []
    monkeypatch.setattr(connection, "time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    with serving(busy, busy, answer(b"x", "text/html", "503 Busy", "Retry-After: 999999\r\n"), b"") as (port, came):
        assert (
            "40 are waiting; trying again in 7 s"
            in dalle("generate", "a fox", "--server", f"http://127.0.0.1:{port}").err
        )
    assert slept[:3] == [7, 7, limits.RETRY_SECONDS]
    assert len(came) == 4


def test_a_token_travels_in_a_header_and_nowhere_else_and_no_path_travels_at_all(dalle: Dalle, monkeypatch, tmp_path):
    token = "0123456789abcdef-secret"
    monkeypatch.setenv("DALLE_TOKEN", token)
    wanted = answer(
        line({"error": {"code": "invalid_api_key", "dalle": {"error": "RequestError", "what": "no"}}}),
        "application/json",
        "401 Unauthorized",
    )
    missing, created = answer(b"", status="404 No"), answer(b"{}", "application/json", "201 Created")
    with serving(missing, created, wanted) as (port, came):
        dog = str(tmp_path / "work" / ".." / "0" / "dog.jpg")
        result = dalle("vary", "cat.png", dog, "--server", f"http://127.0.0.1:{port}")
        assert result.code == 2
        assert "--token-file FILE" in result.err
        assert token not in result.err
    assert len(came) >= 3
    for data in came:
        assert data.count(token.encode()) == 1
        assert f"Authorization: Bearer {token}".encode() in data
        assert b"cat.png" not in data
        assert b"dog.jpg" not in data
        assert str(tmp_path).encode() not in data


def test_a_server_that_sends_for_ever_is_left_when_somebody_says_so(dalle: Dalle, monkeypatch):
    # Nothing that it sends adds up: the process keeps its size however much comes.
    import resource

    steps = line({"waiting": 1}) * 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-dalle-frames\r\n\r\n"
    with serving(head + steps) as (port, _):
        failed(dalle, port)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
