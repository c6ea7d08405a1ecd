"""One question to a language model: whatever its server does, there is an answer or an error, in time."""

import socket
import time

import pytest
from chat import Reply, chatting, saying

import dallecli.rewriting.chat as talking
from dallecli.errors import BadConfig, BadSetting, NetworkError
from dallecli.limits import CHAT_BYTES
from dallecli.rewriting.chat import ask
from dallecli.rewriting.endpoint import Endpoint

QUESTION = [{"role": "user", "content": "a cat"}]
SECRET = "sk-very-secret-0123456789"


def _failure(*answers: str | Reply, seconds: float = 20.0, key: str | None = None) -> NetworkError:
    with chatting(*answers) as chat, pytest.raises(NetworkError) as caught:
        ask(Endpoint(url=chat.url, model="parrot", key=key, seconds=seconds), QUESTION)
    assert len(caught.value.lines()) <= 3
    assert SECRET not in "".join(caught.value.lines())
    return caught.value


def test_only_the_model_and_the_messages_are_sent():
    with chatting("a red cat") as chat:
        assert ask(Endpoint(url=chat.url, model="parrot"), QUESTION) == "a red cat"
    assert chat.asked == [{"model": "parrot", "messages": QUESTION, "stream": False}]
    assert chat.paths == ["/v1/chat/completions"]
    assert "authorization" not in chat.headers[0]


def test_the_key_goes_to_this_machine_and_over_https_only():
    with chatting("a red cat") as chat:
        ask(Endpoint(url=chat.url, model="parrot", key=SECRET), QUESTION)
    assert chat.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert Endpoint(url="https://example.org/v1", model="m", key=SECRET).sent_key == SECRET
    assert Endpoint(url="http://192.168.1.5:11434/v1", model="m", key=SECRET).sent_key is None
    assert SECRET not in repr(Endpoint(url="https://example.org/v1", model="m", key=SECRET))


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(500, b"oops"), "answers 500"),
        (Reply(404, b'{"error": {"message": "model \'parrot\' not found"}}'), "model 'parrot' not found"),
        (Reply(400, b'{"error": "no such dial"}'), "no such dial"),
        (Reply(200, b"<!DOCTYPE html><title>Welcome</title>"), "not JSON"),
        (Reply(200, b""), "not JSON"),
        (Reply(200, b"[" * 100_000), "not JSON"),
        (Reply(200, b"[]"), "no choice"),
        (Reply(200, b'{"choices": []}'), "no choice"),
        (Reply(200, b'{"choices": [{"message": null}]}'), "no choice"),
        (saying(None), "no text"),
        (saying(["a", "b"]), "no text"),
        (Reply(200, b"x" * (10 * 2**20)), "more than 1 MiB"),
        (Reply(200, b'{"choices": [{"mess', {"Content-Length": "5000"}), "not JSON"),  # the connection was cut
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), "redirects are not followed"),
        (Reply(307, b"", {"Location": "/elsewhere"}), "redirects are not followed"),
    ],
)
def test_every_bad_answer_is_an_error_that_says_so(reply, said):
    assert said in _failure(reply).what


def test_a_key_is_asked_for_where_it_is_missing_and_never_quoted_where_it_is_wrong():
    answer = f'{{"error": {{"message": "Incorrect API key provided: {SECRET}"}}}}'.encode()
    assert "wants a key (401)" in _failure(Reply(401, answer)).what
    wrong = _failure(Reply(403, answer), key=SECRET)
    assert "refuses the key in OPENAI_API_KEY (403)" in wrong.what
    quoted = _failure(Reply(400, answer), key=SECRET)
    assert quoted.what.endswith("Incorrect API key provided: …")


def test_a_busy_server_is_asked_again(monkeypatch):
    monkeypatch.setattr(talking, "PAUSES", (0.01, 0.01))
    with chatting(Reply(503), Reply(429), "a red cat") as chat:
        assert ask(Endpoint(url=chat.url, model="parrot"), QUESTION) == "a red cat"
    assert len(chat.asked) == 3
    assert "answers 429" in _failure(Reply(429)).what


def test_nobody_waits_longer_than_the_bound_whatever_drips():
    body = saying("a red cat").body
    for reply in (Reply(wait=5.0), Reply(body=body, drip=0.1)):
        began = time.monotonic()
        assert "has not answered in 0.5 seconds" in _failure(reply, seconds=0.5).what
        assert time.monotonic() - began < 2.0


def test_a_header_that_drips_is_too_late_as_well():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(url=f"http://127.0.0.1:{listener.getsockname()[1]}/v1", model="parrot", seconds=0.4)
        with pytest.raises(NetworkError, match="has not answered"):
            ask(endpoint, QUESTION)  # accepted by the system, and never answered


def test_a_server_that_is_not_there_is_said_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NetworkError) as caught:
        ask(Endpoint(url=f"http://127.0.0.1:{port}/v1", model="parrot"), QUESTION)
    assert caught.value.what == "parrot cannot be reached: Connection refused"
    assert caught.value.hint is not None and "is it running?" in caught.value.hint


def test_this_machine_is_asked_without_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with chatting("a red cat") as chat:
        assert ask(Endpoint(url=chat.url, model="parrot"), QUESTION) == "a red cat"


def test_offline_only_this_machine_is_asked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with chatting("a red cat") as chat:
        assert ask(Endpoint(url=chat.url, model="parrot"), QUESTION) == "a red cat"
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE"):
        ask(Endpoint(url="https://example.org/v1", model="parrot"), QUESTION)


def test_bytes_of_an_answer_are_bounded():
    assert CHAT_BYTES == 2**20


# Addresses and names


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1"),
        ("http://127.0.0.1:11434/", "http://127.0.0.1:11434/v1"),
        ("https://openrouter.ai/api/v1/", "https://openrouter.ai/api/v1"),
        ("http://[::1]:8080/v1/chat/completions", "http://[::1]:8080/v1"),
    ],
)
def test_addresses_are_taken_as_they_are_meant(given, meant):
    assert Endpoint.choose((given, "m"), {}).url == meant


@pytest.mark.parametrize(
    "url",
    (
        *("", "localhost:11434", "ftp://x/v1", "http://", "http://x:0/v1", "http://x:99999/v1", "http://ex ample/v1"),
        *(
            "http://é/v1",
            "http://[::1/v1",
            "http://x/v1?key=1",
            "http://x/v1#f",
            "http://me:secret@x/v1",
            "/etc/passwd",
        ),
    ),
)
def test_what_is_no_address_is_refused_and_not_quoted(url):
    with pytest.raises(BadSetting) as caught:
        Endpoint.choose((url, "m"), {})
    assert "secret" not in "".join(caught.value.lines())


def test_the_environment_names_who_rewrites_unless_the_command_does():
    both = {"OPENAI_BASE_URL": "http://a/v1", "DALLE_REWRITE_MODEL": "m", "OPENAI_API_KEY": SECRET}
    found = Endpoint.choose(None, both)
    assert (found.url, found.model, found.key) == ("http://a/v1", "m", SECRET)
    assert Endpoint.choose(None, {**both, "DALLE_REWRITE_URL": "http://b/v1"}).url == "http://b/v1"
    assert Endpoint.choose(("http://c/v1", "n"), both).model == "n"
    for variables in ({}, {"OPENAI_BASE_URL": "http://a/v1"}, {"DALLE_REWRITE_MODEL": "m"}):
        with pytest.raises(BadSetting, match="is named"):
            Endpoint.choose(None, variables)
    with pytest.raises(BadConfig, match="OPENAI_API_KEY"):
        Endpoint.choose(None, {**both, "OPENAI_API_KEY": "a\nb"})
    for name in ("", "  ", "x" * 201, "a\x1b[0m"):
        with pytest.raises(BadSetting, match="no language model is called"):
            Endpoint.choose(("http://c/v1", name), {})
