"""`dalle gallery` and `dalle serve --open`: real processes, and a browser that writes down what it was given."""

import html
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from dallecli.fake_engine import FakeEngine
from dallecli.tasks.builder import build_request

ROOT = Path(__file__).parents[2]
TOKEN = "a+token&that=nobody#guesses%"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "my pictures"
    folder.mkdir()
    request = build_request("generate", {"model": "fake", "prompt": "a red car", "seed": 5, "size": 16})
    (picture,) = FakeEngine().paint(FakeEngine().resolve(request), lambda _: None)
    picture.save(folder / "car.png")
    return folder


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command that goes on until it is asked to end, and the line that it prints when it is there."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": "fake", **environment}
    command = [sys.executable, "-m", "dallecli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline().strip()
        assert line, process.stderr.read()
        yield process, line
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(page: str, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(urlsplit(page).netloc, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_a_picture_of_a_folder_within_is_shown_and_its_command_has_its_path(pictures):
    (pictures / "run 1").mkdir()
    (pictures / "car.png").rename(pictures / "run 1" / "car.png")
    with running("gallery", str(pictures), "-r") as (_, page):
        found = json.loads(ask(page, "/dalle/pictures")[1])
        (one,) = found["pictures"]
        assert (one["name"], found["incomplete"]) == ("run 1/car.png", False)
        assert ask(page, f"/{one['url']}")[1] == (pictures / "run 1" / "car.png").read_bytes()
        whole = json.loads(ask(page, f"/dalle/pictures/{one['id']}")[1])
        assert whole["command"] == f"dalle replay '{pictures / 'run 1' / 'car.png'}'"


def test_a_folder_is_shown_as_it_is_and_nothing_in_it_can_be_changed(pictures):
    before = sorted(pictures.iterdir())
    with running("gallery", str(pictures)) as (process, page):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", page)
        status, body = ask(page, "/")
        assert status == 200 and b"<main>" in body
        state = json.loads(ask(page, "/dalle/state")[1])
        assert state["paints"] is False and state["folder"] == "my pictures"
        (one,) = json.loads(ask(page, "/dalle/pictures")[1])["pictures"]
        assert one["recipe"]["prompt"] == "a red car"
        assert ask(page, f"/{one['url']}")[1] == (pictures / "car.png").read_bytes()
        whole = json.loads(ask(page, f"/dalle/pictures/{one['id']}")[1])
        assert whole["command"] == f"dalle replay '{pictures / 'car.png'}'"
        assert ask(page, f"/dalle/pictures/{one['id']}", "DELETE")[0] == 405
        for path in ("/dalle/jobs/generations", "/v1/images/generations", "/dalle/check"):
            assert ask(page, path, "POST", **{"Content-Type": "application/json"})[0] == 404
        assert ask(page, "/", Host="evil.example")[0] == 403
        assert ask(page, "/dalle/pictures", Origin="https://evil.example")[0] == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert sorted(pictures.iterdir()) == before


def test_new_pictures_appear(pictures):
    with running("gallery", str(pictures), "--json") as (_, line):
        page = json.loads(line)["page"]
        before = json.loads(ask(page, "/dalle/state")[1])["pictures"]
        Image.new("RGB", (4, 4)).save(pictures / "new.png")
        time.sleep(0.6)
        assert json.loads(ask(page, "/dalle/state")[1])["pictures"] != before


def test_it_starts_without_torch_and_with_little_work(pictures):
    code = f"""
import os, pathlib, signal, sys, time
import dallecli.cli.gallery, dallecli.server.run
from dallecli.server.serving import Serving
begun = time.process_time()
def announce(page):
    print(time.process_time() - begun, *(name in sys.modules for name in ("torch", "numpy")))
    os.kill(os.getpid(), signal.SIGTERM)
dallecli.server.run.show(pathlib.Path({str(pictures)!r}), Serving(port=0), announce)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env)
    seconds, *heavy = done.stdout.split()
    assert heavy == ["False", "False"]
    assert float(seconds) < 0.5


@pytest.mark.parametrize("name", ["nowhere", "car.png"])
def test_what_is_no_folder_is_refused(pictures, name):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "dallecli", "gallery", str(pictures / name)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 3 and "folder" in done.stderr


@pytest.fixture
def browser(tmp_path: Path) -> tuple[Path, str]:
    """Where a browser of this test writes what it was given, and the PATH on which it is found."""
    programs, seen = tmp_path / "programs", tmp_path / "seen"
    programs.mkdir()
    for name in ("xdg-open", "open"):
        (programs / name).write_text(f'#!/bin/sh\nprintf %s "$1" > {seen}.part && mv {seen}.part {seen}\n')
        (programs / name).chmod(0o755)
    return seen, f"{programs}:/usr/bin:/bin"


def wait_for(path: Path) -> str:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    return path.read_text()


@pytest.mark.parametrize("command", ["gallery", "serve"])
def test_open_shows_the_page_in_the_browser(pictures, browser, command):
    seen, path = browser
    arguments = ("gallery", str(pictures)) if command == "gallery" else ("serve", "--port", "0")
    with running(*arguments, "--open", PATH=path) as (_, line):
        assert wait_for(seen) == line.removesuffix("v1")


@pytest.mark.parametrize("command", ["gallery", "serve"])
def test_a_token_reaches_the_page_and_no_command_line(pictures, browser, command, tmp_path):
    seen, path = browser
    arguments = ("gallery", str(pictures)) if command == "gallery" else ("serve", "--port", "0")
    with running(*arguments, "--open", PATH=path, DALLE_TOKEN=TOKEN, TMPDIR=str(tmp_path)) as (process, line):
        file = Path(wait_for(seen))
        assert file.stat().st_mode & 0o077 == 0
        address = html.unescape(re.search('url=(.*?)"', file.read_text())[1])  # type: ignore[index]
        page = line.removesuffix("v1")
        assert address == f"{page}#token=a%2Btoken%26that%3Dnobody%23guesses%25"
        assert ask(page, "/dalle/state")[0] == 401
        assert ask(page, "/dalle/state", Authorization=f"Bearer {TOKEN}")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None and TOKEN not in process.stderr.read()
    assert not file.exists()


def test_a_browser_that_is_not_there_is_a_warning(pictures, tmp_path):
    with running("gallery", str(pictures), "--open", PATH=str(tmp_path)) as (process, page):
        assert ask(page, "/")[0] == 200
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None and "cannot be opened: xdg-open is not installed" in process.stderr.read()
