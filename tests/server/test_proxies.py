"""The proxies and the unit of the guide do what it says; where a program is not installed its test is skipped."""

import http.client
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.server.talking import ROOT, Talk, process

GUIDE = (ROOT / "docs" / "guides" / "serve.md").read_text()
TOKEN = "a-token-that-nobody-guesses"
NAME = "studio.example.org"


def block(first: str) -> str:
    """The block of the guide with this first line, without it."""
    found = re.search(rf"^```\w+\n# {re.escape(first)}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, first
    return found[1]


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def nginx(folder: Path, port: int, server: int) -> list[str]:
    location = block("nginx").replace(":8188/", f":{server}/")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; {temporary}\nserver {{ listen 127.0.0.1:{port}; {location} }} }}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, server: int) -> list[str]:
    site = block("Caddyfile").replace(NAME, f"http://{NAME}:{port}", 1).replace(":8188", f":{server}")
    (folder / "Caddyfile").write_text("{\n    admin off\n}\n" + site)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(folder)}
    with (folder / "proxy.log").open("wb") as log:
        proxy = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        until = time.monotonic() + 20
        while True:
            assert proxy.poll() is None and time.monotonic() < until, (folder / "proxy.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        proxy.terminate()
        proxy.wait(20)


@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_a_proxy_as_in_the_guide_leads_to_the_server(tmp_path: Path, proxy) -> None:
    if shutil.which(proxy.__name__) is None:
        pytest.skip(f"{proxy.__name__} is not installed")
    options = ["--public-url", f"https://{NAME}/dalle", "--allow-host", NAME]
    (tmp_path / "proxy").mkdir()
    with process(tmp_path, *options, DALLE_TOKEN=TOKEN, seconds="0.02") as talk:
        port = free_port()
        with running(proxy(tmp_path / "proxy", port, talk.port), tmp_path / "proxy", port):
            outside = Talk(port, {"Authorization": f"Bearer {TOKEN}", "Host": NAME})
            answer = outside.post("/dalle/v1/images/generations", {"prompt": "a fox"})
            url = answer.data[0]["url"]
            assert url.startswith(f"https://{NAME}/dalle/files/")
            assert outside.get(url.removeprefix(f"https://{NAME}")).headers["content-type"] == "image/png"
            assert Talk(port, {"Host": NAME}).post("/dalle/v1/images/generations", {"prompt": "a"}).status == 401
            assert first_event_comes_early(port)


def first_event_comes_early(port: int) -> bool:
    """Whether an unfinished picture comes through before the finished one is painted."""
    body = b'{"prompt": "a fox", "stream": true, "partial_images": 3, "n": 4}'
    headers = {"Host": NAME, "Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        begun = time.monotonic()
        connection.request("POST", "/dalle/v1/images/generations", body, headers)
        answer = connection.getresponse()
        answer.readline()
        first = time.monotonic() - begun
        answer.read()
        return first < 0.7 * (time.monotonic() - begun)


def test_the_unit_of_the_guide_is_one(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "dalle.service"
    unit.write_text(block("/etc/systemd/system/dalle.service").replace("/opt/dalle/bin/dalle", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if "dalle" in line]
    assert said == []
