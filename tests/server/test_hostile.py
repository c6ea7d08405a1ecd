"""What nobody should send: malformed bodies, bombs, slow senders. Each gets the right status; nothing is painted."""

import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dallecli.fake_engine import FakeEngine
from dallecli.server import body, connections
from dallecli.server.body import Bodies
from tests.server.talking import JSON, Talk, as_form, hole, png, process, service

REFUSED = {400, 403, 404, 408, 413, 415, 431}

FIELDS = (
    *("prompt", "n", "size", "model", "quality", "response_format", "output_format", "background", "stream"),
    *("partial_images", "seed", "steps", "guidance", "sampler", "strict", "effort", "negative", "best_of"),
    *("prior_steps", "prior_guidance", "upsampler_steps", "temperature"),
)
WRONG: tuple[object, ...] = ([], {}, [1], {"a": 1}, "\ud800", "\0", -1, 10**30, 1e308, "nan", "../../etc/passwd")

Case = tuple[str, str, bytes, dict[str, str]]
"""A name, a path, a body and headers."""


def _json_cases() -> Iterator[Case]:
    path = "/v1/images/generations"
    for field in FIELDS:
        for value in WRONG:
            yield f"{field}={value!r}"[:60], path, json.dumps({"prompt": "a fox", field: value}).encode(), JSON
    broken = (
        *(b"", b"null", b"[]", b'"x"', b"7", b"{", b'{"prompt": "a"', b'{"prompt": "a"}x', b"{'prompt': 'a'}"),
        *(b'{"prompt": NaN}', b'{"prompt": "a", "guidance": Infinity}', b'{"prompt": "a", "prompt": "b"}'),
        *(b'{"prompt": "\xff\xfe"}', '{"prompt": "a"}'.encode("utf-16"), b"\xef\xbb\xbf" + b'{"prompt": "a"}'),
        *(b"[" * 5000, b'{"a":' * 3000, b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}"),
        *(b'{"prompt": "a", "x": [' + b"{}," * 20_000 + b"{}]}", b'{"prompt": "' + b"a" * 40_000 + b'"}'),
        *(b'{"prompt": "a", "x": "' + b"a" * 2_000_000 + b'"}', b"\0" * 1000, b"PK\x03\x04" * 100),
        *(b'{"prompt": "a", "image": "https://e.org/x.png"}', b'{"prompt": "a", "mask": "file:///etc/passwd"}'),
    )
    for k, data in enumerate(broken):
        yield f"JSON {k}", path, data, JSON
    for kind in ("text/plain", "application/xml", "multipart/mixed; boundary=x", "", "json", "image/png"):
        yield f"type {kind!r}", path, b'{"prompt": "a"}', {"Content-Type": kind}
    for host in ("evil.com", "127.0.0.1.nip.io", "a" * 300, "localhost:99999999x"):
        yield f"host {host[:20]}", path, b'{"prompt": "a"}', {**JSON, "Host": host}
    for origin in ("null", "https://evil.com", "file://", "http://localhost:1", "chrome-extension://x"):
        yield f"origin {origin}", path, b'{"prompt": "a"}', {**JSON, "Origin": origin}


def _form_cases() -> Iterator[Case]:
    path = "/v1/images/edits"
    good = (("prompt", "a fox"), ("image", png()), ("mask", hole()))
    kind, data = as_form(good)
    for k, type in enumerate(
        ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x")
    ):
        yield f"boundary {k}", path, data, {"Content-Type": type}
    yield "a long boundary", path, data, {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000}
    for k, cut in enumerate((10, 60, 120, 200, len(data) // 2, len(data) - 300)):
        yield f"cut {k}", path, data[:cut], {"Content-Type": kind}
    wholes = {
        "no name": b"--edge\r\nContent-Disposition: form-data\r\n\r\nx\r\n--edge--\r\n",
        "no disposition": b"--edge\r\nX: y\r\n\r\nx\r\n--edge--\r\n",
        "a long header": b"--edge\r\nX: " + b"y" * 50_000 + b"\r\n\r\nx\r\n--edge--\r\n",
        "many headers": b"--edge\r\n" + b"X: y\r\n" * 5000 + b"\r\nx\r\n--edge--\r\n",
        "only an end": b"--edge--\r\n",
        "nothing": b"",
        "no form": b"hello",
        "JSON in a form": b'{"prompt": "a"}',
    }
    for name, whole in wholes.items():
        yield name, path, whole, {"Content-Type": kind}
    parts: dict[str, tuple[tuple[str, str | bytes], ...]] = {
        "no image": (("prompt", "a"),),
        "no prompt": (("image", png()), ("mask", hole())),
        "an empty prompt": (("prompt", ""), *good[1:]),
        "a prompt as a file": (("prompt", b"a fox"), *good[1:]),
        "two prompts": (("prompt", "b"), *good),
        "two images": (("image", png()), *good),
        "two images, once as a list": (("image[]", png()), *good),
        "two masks": (("mask", hole()), *good),
        "an unknown file": (*good, ("markup", png())),
        "an unknown field": (*good, ("colour", "red")),
        "too many files": tuple(("image", png()) for _ in range(20)),
        "too many fields": tuple((f"field{k}", "x") for k in range(80)),
        "a large field": (*good, ("user", "x" * 70_000)),
        "n is text": (*good, ("n", "two")),
        "n is too much": (*good, ("n", "11")),
        "a size that is none": (*good, ("size", "big")),
        "stream is text": (*good, ("stream", "perhaps")),
        "a nested object": (*good, ("dalle[seed]", "7")),
        "a URL": (("prompt", "a"), ("image", "http://127.0.0.1/x.png")),
        "a path": (("prompt", "a"), ("image", "/etc/passwd")),
        "an object": (("prompt", "a"), ("image", '{"file_id": "file-7"}')),
        "a mask of another size": (*good[:2], ("mask", hole((50, 80), (1, 1, 9, 9)))),
        "a mask without transparency": (*good[:2], ("mask", png())),
        "a mask that marks nothing": (*good[:2], ("mask", png((0, 0, 0, 255), mode="RGBA"))),
        "a mask that marks all": (*good[:2], ("mask", png((0, 0, 0, 0), mode="RGBA"))),
        "a box for a mask": (*good[:2], ("mask", "1,1,9,9")),
        "a mask mode that is none": (*good, ("mask_mode", "red")),
        "edges that are none": (*good, ("expand", "left=-4")),
        "edges that are huge": (*good, ("expand", "99999")),
    }
    for name, some in parts.items():
        type, whole = as_form(some)
        yield name, path, whole, {"Content-Type": type}


def _picture_cases() -> Iterator[Case]:
    for route in ("edits", "variations"):
        for name, data in _no_pictures().items():
            parts: tuple[tuple[str, str | bytes], ...] = (("prompt", "a"), ("image", data))
            kind, whole = as_form(parts if route == "edits" else parts[1:])
            yield f"{route}: {name}", f"/v1/images/{route}", whole, {"Content-Type": kind}


def _no_pictures() -> dict[str, bytes]:
    whole = png()
    return {
        "text": b"hello",
        "one byte": b"\x89",
        "a GIF": b"GIF89a" + bytes(100),
        "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "a PDF": b"%PDF-1.7",
        "a page": b"<!DOCTYPE html><script>",
        "a ZIP": b"PK\x03\x04" + bytes(100),
        "a TIFF": b"II*\0" + bytes(100),
        "an embedding": struct.pack("<Q", 2) + b"{}",
        "half a PNG": whole[: len(whole) // 2],
        "only a signature": whole[:8],
        "a PNG of 30,000 pixels a side": _bomb(30_000, 30_000),
        "a PNG of 2^31 pixels": _bomb(2**16, 2**15),
        "a PNG without pixels": _bomb(0, 0),
        "a JPEG without a picture": b"\xff\xd8\xff\xe0" + bytes(200),
        "a WebP without a picture": b"RIFF\x10\0\0\0WEBPVP8 " + bytes(8),
    }


def _bomb(width: int, height: int) -> bytes:
    """A PNG that says that it is large, with pixels that are packed well."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


CASES = (*_json_cases(), *_form_cases(), *_picture_cases())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with process(tmp_path_factory.mktemp("hostile")) as talk:
        yield talk


def test_three_hundred_malformed_requests_are_refused_by_name_and_nothing_is_painted(server):
    assert len(CASES) >= 300
    wrong = []
    for name, path, data, headers in CASES:
        answer = server.ask("POST", path, data, headers)
        error = answer.json.get("error", {}) if answer.headers["content-type"] == "application/json" else {}
        good = set(error) == {"message", "type", "param", "code", "dalle"} and answer.status in REFUSED
        told = good and len(error["message"].splitlines()) <= 3 and "Traceback" not in error["message"]
        if not (told and "dallecli/" not in answer.body.decode() and "/tmp" not in answer.body.decode()):
            wrong.append((name, answer.status, answer.body[:200]))
    # A number where words are read, or words where a number is, may mean something: those are named here.
    meant = {name for name, status, _ in wrong if status == 200}
    words = {f"{field}={value!r}" for field in ("prompt", "negative") for value in ("nan", "../../etc/passwd")}
    numbers = {f"{field}={value!r}" for field in ("guidance", "prior_guidance") for value in (10**30, 1e308)}
    assert meant <= words | numbers
    assert [case for case in wrong if case[1] != 200] == []
    assert server.metric("dalle_images_total") == len(meant)
    assert server.generate().status == 200
    assert server.log is not None
    assert "mistake" not in server.log.read_text()


RAW = (
    b"GARBAGE\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /health HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
    b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/json\r\n\r\nzz\r\n",
    b"GET /he alth HTTP/1.1\r\nHost: localhost\r\n\r\n",
)


def test_what_is_no_http_is_answered_in_the_shape_of_the_api(server):
    for data in RAW:
        answer = server.raw(data)
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (data[:80], answer[:200])
        assert json.loads(rest)["error"]["code"] == "invalid_http"
    assert server.get("/health").status == 200


def test_a_body_that_is_too_large_is_refused_by_its_length_and_while_it_comes(server):
    head = "POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000).startswith((b"HTTP/1.1 413", b""))
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        begin = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        connection.sendall(b"%x\r\n%s\r\n" % (len(begin), begin))
        piece = b"100000\r\n" + bytes(2**20) + b"\r\n"
        for _ in range(70):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n")
        answer = connection.recv(65536)
        while not answer.endswith(b"}}"):
            answer += connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"request_too_large" in answer


def test_all_requests_together_hold_no_more_than_they_may():
    bodies = Bodies(most=100_000)
    with service(FakeEngine, bodies=bodies) as talk:
        answer = talk.form("/v1/images/variations", ("image", png() + bytes(200_000)))
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")
        assert talk.form("/v1/images/variations", ("image", png())).status == 200
        time.sleep(0.2)
        assert bodies.held == 0


# Slow ones


@pytest.mark.long
def test_headers_that_do_not_come_to_an_end_end_the_connection(monkeypatch):
    monkeypatch.setattr(connections, "HEADERS_SECONDS", 0.3)
    with service(FakeEngine) as talk:
        begun = time.monotonic()
        for data in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"):
            assert talk.raw(data).startswith(b"HTTP/1.1 408")
        # A sender that is slow after its answer is no exception.
        unread = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
        assert talk.raw(unread).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - begun < 6


def test_a_body_that_comes_too_slowly_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(body, "BODY_SPARE_SECONDS", 0.3)
    with service(FakeEngine) as talk:
        head = b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = talk.raw(head + b"Connection: close\r\nContent-Length: 500\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")
        assert talk.generate().status == 200


def test_headers_that_are_too_large_are_refused_also_when_they_come_at_once(server):
    for headers in (b"X: " + b"y" * 30_000, b"X: yyyyyyyyyyyyyyyyyyyy\r\n" * 1000 + b"X: y"):
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n\r\n"
        assert server.raw(request).startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))


class Noisy(FakeEngine):
    """Paints what cannot be packed."""

    def paint_together(self, recipes, progress):
        for picture in super().paint_together(recipes, progress):
            yield replace(picture, image=Image.effect_noise((1024, 1024), 100).convert("RGB"))


@pytest.mark.long
def test_an_answer_that_nobody_reads_ends_its_connection(monkeypatch):
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.3)
    with service(Noisy) as talk, closing(socket.socket()) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", talk.port))
        data = b'{"prompt": "a fox", "n": 3}'
        head = f"POST /images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        lazy.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
        lazy.settimeout(20)
        time.sleep(2)
        read = 0
        with suppress(ConnectionError):
            while chunk := lazy.recv(2**20):
                read += len(chunk)
        assert read < 3 * 3_000_000
        assert talk.get("/health").status == 200


def test_two_hundred_silent_connections_do_not_keep_an_honest_client_from_painting(server):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for k, connection in enumerate(silent):
        connection.sendall(b"POST /v1/images/generations HTTP/1.1\r\nHo"[: k % 40])
    begun = time.monotonic()
    assert server.generate().status == 200
    assert time.monotonic() - begun < 5
    for connection in silent:
        connection.close()


def test_there_are_only_so_many_connections(monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS", 5)
    with service(FakeEngine) as talk:
        open_ones = [socket.create_connection(("127.0.0.1", talk.port)) for _ in range(5)]
        time.sleep(0.2)
        answer = talk.raw(b"")
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"too_many_connections" in answer
        for connection in open_ones:
            connection.close()
        time.sleep(0.2)
        assert talk.get("/health").status == 200


def test_nothing_of_an_upload_is_left_on_the_disk(tmp_path: Path):
    with process(tmp_path) as talk:
        for _ in range(3):
            talk.form("/v1/images/variations", ("image", png(size=(2000, 1500))))
            talk.form("/v1/images/variations", ("image", bytes(3_000_000)))
        left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "log"]
        assert len(left) == 3  # the answers, under their URLs
        assert talk.process is not None
        talk.process.terminate()
        talk.process.wait(20)
        assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "log"] == []
