"""Popular programs get what they look for: their requests, as they are on the wire, against a real server."""

import base64
import io
import json
import urllib.request
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.server.front_ends import CHUNKED, LISTING, SENDINGS, Sending, base64_of, url_of
from tests.server.talking import Talk, png, process

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with process(tmp_path_factory.mktemp("front-ends"), DALLE_TOKEN=TOKEN) as talk:
        yield talk


def on_the_wire(sent: bytes, port: int) -> bytes:
    """A program's request with what differs from place to place, to be answered on a connection of its own."""
    sent = sent.replace(b"PICTURE", png()).replace(b"HOST", b"127.0.0.1:%d" % port).replace(b"TOKEN", TOKEN.encode())
    head, _, body = sent.partition(b"\r\n\r\n")
    head = head.replace(b"onnection: keep-alive", b"onnection: close")
    if b"onnection: close" not in head:
        head += b"\r\nConnection: close"
    if body.startswith(CHUNKED):
        body = body.removeprefix(CHUNKED)
        parts = [body[start : start + 700] for start in range(0, len(body), 700)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return head.replace(b"LENGTH", str(len(body)).encode()) + b"\r\n\r\n" + body


def answered(server: Talk, sent: bytes) -> tuple[int, dict[str, object]]:
    head, _, body = server.raw(on_the_wire(sent, server.port)).partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    found: dict[str, object] = json.loads(body)
    return int(head.split()[1]), found


@pytest.mark.parametrize("sending", SENDINGS, ids=[sending.program for sending in SENDINGS])
def test_a_program_gets_what_it_looks_for(server: Talk, sending: Sending) -> None:
    status, answer = answered(server, sending.sent)
    assert status == 200, answer
    found = sending.reads(answer)
    if sending.reads is url_of:
        assert found.rpartition("/")[2].rpartition(".")[2] == "png"  # LibreChat names its file so
        with urllib.request.urlopen(found) as response:  # without the token, as a browser asks
            assert response.headers["content-type"] == "image/png"
            data = response.read()
    else:
        data = base64.b64decode(found, validate=True)
    assert Image.open(io.BytesIO(data)).size == sending.size
    assert len(answer["data"]) == sending.pictures  # type: ignore[arg-type]


def test_what_asks_for_base64_gets_no_url_that_it_would_rather_fetch(server: Talk) -> None:
    """Open WebUI takes the URL where there is one, and then refuses to fetch it from this machine."""
    for sending in SENDINGS:
        if sending.program.startswith("Open WebUI") and sending.reads is base64_of:
            _, answer = answered(server, sending.sent)
            assert "url" not in answer["data"][0], sending.program  # type: ignore[index]


def test_home_assistant_finds_its_key_to_be_good_or_not(server: Talk) -> None:
    status, answer = answered(server, LISTING)
    assert (status, answer["object"]) == (200, "list")
    status, answer = answered(server, LISTING.replace(b"TOKEN", b"another-token-of-this-length"))
    assert status == 401


def test_a_program_that_shows_only_the_reason_shows_that_of_the_status(server: Talk) -> None:
    """All that Open WebUI shows of an error is the phrase after the status."""
    sent = SENDINGS[0].sent.replace(b"512x512", b"a12x512")
    head = server.raw(on_the_wire(sent, server.port)).partition(b"\r\n")[0]
    assert head == b"HTTP/1.1 400 Bad Request"
