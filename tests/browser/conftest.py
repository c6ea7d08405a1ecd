"""A browser, servers for it, and pages that complain when something is wrong with them.

Playwright drives the system's Chromium; where there is none, the one that `playwright install chromium` has put down.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.browser.using import pictures
from tests.server.talking import ROOT, Talk, process

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

MISSING = "tests/browser needs Playwright: .venv/bin/pip install -c constraints.txt -e '.[browser]'"

if find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

Visit = Callable[..., "Page"]
Serve = Callable[..., Talk]

SECONDS = 120.0
"""How long anything may take that is looked for. It is never waited for without reason."""

LOST = ("Failed to load resource: net::ERR_",)
"""What Chromium says of a server that is not there."""

REFUSED = ("Failed to load resource: the server responded with a status of 4",)
"""What it says of a request that a server refuses."""

_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


def pytest_report_header() -> list[str]:
    return [MISSING] if find_spec("playwright") is None else []


@pytest.fixture(scope="session")
def chromium() -> Iterator["Browser"]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: "Browser") -> Iterator[Visit]:
    """Opens an address in a browser of its own; at the end of the test no such page may have complained.

    `expected` is what a browser itself says of what the test does on purpose: beginnings of what it complains of. Other
    options are those of Playwright's contexts.
    """
    complaints: list[str] = []
    with ExitStack() as stack:

        def opened(talk: Talk, path: str = "/", *, expected: tuple[str, ...] = (), **options: Any) -> "Page":
            context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            stack.callback(context.close)
            context.set_default_timeout(SECONDS * 1000)
            context.add_init_script(_VIOLATIONS)
            page = context.new_page()
            listen(page, complaints, expected)
            page.goto(f"http://127.0.0.1:{talk.port}{path}")
            return page

        yield opened
    assert complaints == []


def listen(page: "Page", complaints: list[str], expected: tuple[str, ...] = ()) -> None:
    """Write down what a page complains of, and its browser about it."""

    def heard(message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning") and not message.text.startswith(expected):
            complaints.append(f"{message.type}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """`dalle serve` with the starter, for all tests that want real pictures; its gallery fills up."""
    with serving(tmp_path_factory.mktemp("studio"), engine="local") as talk:
        yield talk


@pytest.fixture(scope="session")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """`dalle serve` with an engine that paints flat colours, and with one picture of 256 x 256 pixels, the oldest."""
    with serving(tmp_path_factory.mktemp("flat")) as talk:
        answer = talk.post("/dalle/jobs/generations", {"prompt": "a red car", "seed": 1})
        assert answer.status == 202, answer.body
        while not list(pictures(talk).glob("*.png")):
            time.sleep(0.05)
        yield talk


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts `dalle serve` with an engine that paints flat colours, and with pictures of its own."""
    with ExitStack() as stack:

        def started(*options: str, seconds: str = "0", name: str = "server", **environment: str) -> Talk:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            return stack.enter_context(serving(folder, *options, seconds=seconds, **environment))

        yield started


@contextmanager
def serving(folder: Path, *options: str, **more: str) -> Iterator[Talk]:
    """A server whose pictures are in a folder of its own, and which opens its model before anybody asks."""
    with process(folder, *options, "--pictures", str(folder / "pictures"), **more) as talk:
        yield talk


@contextmanager
def gallery(folder: Path) -> Iterator[Talk]:
    """`dalle gallery` of a folder."""
    command = [sys.executable, "-m", "dallecli", "gallery", str(folder)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True)
    try:
        assert running.stdout is not None
        port = urlsplit(running.stdout.readline().strip()).port
        assert port is not None
        yield Talk(port, process=running)
    finally:
        running.kill()
        running.communicate()
