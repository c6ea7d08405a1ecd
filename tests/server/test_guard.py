"""Who is let in: hosts, web pages, tokens; and what the owner has to say before others can reach the server."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dallecli.cli.app import run
from dallecli.errors import BadSetting
from dallecli.remote.token import read_token
from dallecli.server.serving import Serving
from tests.server.talking import JSON, ROOT, Talk, process

TOKEN = "a-token-that-nobody-guesses"
BODY = b'{"prompt": "a red car"}'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with process(tmp_path_factory.mktemp("guarded"), "--cors-origin", "https://page.example.org") as talk:
        yield talk


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    folder = tmp_path_factory.mktemp("token")
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "token").chmod(0o600)
    options = ("--host", "0.0.0.0", "--token-file", str(folder / "token"), "--allow-host", "studio.example.org")
    with process(folder, *options) as talk:
        yield talk


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("localhost.", 200),
        ("127.0.0.1.evil.com", 403),
        ("evil.com", 403),
        ("evil.com:{port}", 403),
        ("192.168.1.7:{port}", 403),
        ("0.0.0.0:{port}", 403),
        ("localhost:80@evil.com", 403),
        ("localhost@evil.com", 403),
        ("[::1", 403),
        ("[::1]evil.com", 403),
        ("[::1]", 200),
        ("", 403),
        ("localhost evil.com", 403),
    ],
)
def test_only_names_of_this_machine_are_a_host(server, host, status):
    before = server.metric("dalle_images_total")
    answer = server.ask("POST", "/images/generations", BODY, {**JSON, "Host": host.format(port=server.port)})
    assert answer.status == status
    assert server.metric("dalle_images_total") == before + (status == 200)
    if status == 403:
        assert answer.error["code"] == "forbidden_host"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Origin": "http://localhost:{port}"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://evil.com"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.com"}, 403),
        ({"Origin": "https://page.example.org.evil.com"}, 403),
        ({"Origin": "https://page.example.org"}, 200),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:{port}"}, 200),
        ({"Sec-Fetch-Mode": "cors"}, 200),  # Node says so with every request
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://page.example.org"}, 200),
    ],
)
def test_no_web_page_of_another_server_can_paint(server, headers, status):
    before = server.metric("dalle_images_total")
    headers = {name: value.format(port=server.port) for name, value in headers.items()}
    answer = server.ask("POST", "/images/generations", BODY, {**JSON, **headers})
    assert answer.status == status
    assert server.metric("dalle_images_total") == before + (status == 200)


def test_a_page_is_told_that_it_may_read_only_where_that_was_asked_for(server):
    answer = server.get("/v1/models", {"Origin": "https://page.example.org"})
    assert answer.headers["access-control-allow-origin"] == "https://page.example.org"
    assert "access-control-allow-origin" not in server.get("/v1/models").headers
    foreign = server.get("/v1/models", {"Origin": "https://evil.com"})
    assert foreign.status == 403
    assert "access-control-allow-origin" not in foreign.headers
    asked = {"Origin": "https://page.example.org", "Access-Control-Request-Method": "POST"}
    assert server.ask("OPTIONS", "/v1/images/generations", None, asked).status == 204
    assert server.ask("OPTIONS", "/v1/images/generations", None, {**asked, "Origin": "https://evil.com"}).status == 403


def test_nothing_is_painted_by_a_get_or_a_form_that_a_page_can_send_unasked(server):
    before = server.metric("dalle_images_total")
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert server.ask("POST", "/v1/images/generations", BODY, {"Content-Type": kind}).status == 415
    assert server.get("/v1/images/generations?prompt=a").status == 405
    assert server.metric("dalle_images_total") == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
        ({"api-key": TOKEN}, 200),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer \xe4\xf6"}, 401),
        ({"Cookie": f"token={TOKEN}"}, 401),
    ],
)
def test_the_token_is_needed_for_all_but_health_and_files(guarded, headers, status):
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, path in (("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/images/generations")):
        answer = guarded.ask(method, path, BODY if method == "POST" else None, {**JSON, **encoded})
        assert answer.status == status
        if status == 401:
            assert answer.error["code"] == "invalid_api_key"
    assert guarded.get("/health").status == 200


def test_a_token_in_a_url_is_none(guarded):
    for query in (f"?token={TOKEN}", f"?api_key={TOKEN}", f"?key={TOKEN}"):
        assert guarded.get(f"/v1/models{query}").status == 401


def test_a_file_needs_no_token_because_its_name_is_one(guarded):
    answer = guarded.post("/v1/images/generations", {"prompt": "x"}, {"Authorization": f"Bearer {TOKEN}"})
    path = "/files" + answer.data[0]["url"].partition("/files")[2]
    assert guarded.get(path).status == 200
    other = "1" if path[-5] == "0" else "0"
    assert guarded.get(f"{path[:-5]}{other}.png").status == 404
    assert guarded.get("/files/").status in (401, 404)


def test_a_server_for_others_is_reached_by_address_and_by_the_names_that_it_was_told(guarded):
    for host, status in (("10.1.2.3:8188", 200), ("studio.example.org", 200), ("evil.com", 403)):
        assert guarded.get("/health", {"Host": host}).status == status


# The command


@dataclass(frozen=True)
class Ended:
    """A command that did not begin to serve."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def serve(capfd, monkeypatch) -> Callable[..., Ended]:
    """`dalle serve` in this process, for what is refused."""
    monkeypatch.setenv("DALLE_ENGINE", "fake")

    def run_it(*options: str) -> Ended:
        code = run(["serve", "--port", "0", *options])
        return Ended(code, *capfd.readouterr())

    return run_it


def test_without_a_token_only_this_machine_can_be_served(serve):
    for host in ("0.0.0.0", "::", "192.168.0.1"):
        done = serve("--host", host)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--token-file" in done.stderr


def test_a_token_that_can_be_guessed_is_none(tmp_path, serve):
    for text in ("", "secret", "with blanks in the middle", "äääääääääääääääääää"):
        (tmp_path / "token").write_text(text)
        (tmp_path / "token").chmod(0o600)
        done = serve("--host", "0.0.0.0", "--token-file", str(tmp_path / "token"))
        assert done.returncode == 2
        assert text not in done.stderr or not text


def test_a_token_file_that_others_can_write_is_refused_and_one_that_they_can_read_is_said(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o622)
    with pytest.raises(BadSetting):
        read_token(file)
    file.chmod(0o644)
    text, doubt = read_token(file)
    assert text == TOKEN
    assert doubt is not None and "chmod 600" in doubt
    file.chmod(0o600)
    assert read_token(file) == (TOKEN, None)


def test_a_token_file_that_is_none_is_an_error(tmp_path, serve):
    for path in (tmp_path / "nothing", tmp_path, Path("/dev/zero")):
        done = serve("--token-file", str(path))
        assert done.returncode == 2
        assert done.stderr.startswith("error: the token cannot be read")


@pytest.mark.parametrize(
    "options",
    [
        ("--cors-origin", "*"),
        ("--cors-origin", "example.org"),
        ("--public-url", "example.org"),
        ("--port", "70000"),
        ("--queue", "0"),
        ("--timeout", "nan"),
        ("--drain", "-1"),
        ("--alias", "name"),
        ("--alias", "starter=starter"),
        ("--alias", "mine=nothing"),
        ("--model", "nothing"),
        ("--host", "no.such.host.invalid"),
    ],
    ids=" ".join,
)
def test_an_option_that_makes_no_sense_is_refused_before_anything_is_opened(options, serve):
    done = serve(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert 1 <= len(done.stderr.splitlines()) <= 3


def test_a_model_that_is_not_here_is_an_error_with_the_command_that_fetches_it(hub, serve):
    done = serve("--model", "karlo")
    assert done.returncode == 3
    assert "dalle models pull karlo" in done.stderr


def test_a_port_that_is_taken_is_an_error(server, serve):
    done = serve("--port", str(server.port))
    assert done.returncode == 5
    assert done.stderr.splitlines()[0].startswith(f"error: port {server.port} of 127.0.0.1")


def test_without_the_extra_the_command_says_how_to_install_it(serve, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    done = serve()
    assert done.returncode == 2
    assert "a server needs uvicorn" in done.stderr
    assert "install" in done.stderr.splitlines()[1]


def test_with_json_the_result_is_an_object(tmp_path):
    command = [sys.executable, "-m", "dallecli", "serve", "--port", "0", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": "fake", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env) as running:
        assert running.stdout is not None
        found = json.loads(running.stdout.readline())
        running.terminate()
    assert found["model"] == "starter"
    assert found["url"].endswith("/v1")
    assert running.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_safe_cannot_be_made():
    with pytest.raises(BadSetting):
        Serving(host="0.0.0.0")
    assert not Serving(token=TOKEN).admits(None)
    assert Serving(token=TOKEN).admits(TOKEN)
    assert TOKEN not in repr(Serving(token=TOKEN))
