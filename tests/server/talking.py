"""How tests talk to a server: over real sockets, to a real process or to a service in a thread of this one."""

import asyncio
import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from dallecli.engine import Engine
from dallecli.server.app import build_app
from dallecli.server.files import Files, Inputs
from dallecli.server.names import Names
from dallecli.server.run import Uvicorn, _config, assembled, bound
from dallecli.server.serving import Serving

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What a server has answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def data(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body[:500]
        found: list[dict[str, Any]] = self.json["data"]
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line[6:]) for line in self.body.split(b"\n") if line.startswith(b"data: ")]


@dataclass
class Talk:
    """A server that can be asked."""

    port: int
    headers: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, seconds=60.0
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        with closing(connection):
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, None, headers)

    def post(self, path: str, value: object, headers: Mapping[str, str] | None = None, seconds=60.0) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), {**JSON, **(headers or {})}, seconds)

    def generate(self, **value: object) -> Answer:
        return self.post("/v1/images/generations", {"prompt": "a red car", **value})

    def form(self, path: str, *parts: tuple[str, str | bytes], headers: Mapping[str, str] | None = None) -> Answer:
        kind, body = as_form(parts)
        return self.ask("POST", path, body, {"Content-Type": kind, **(headers or {})})

    def raw(self, data: bytes, seconds: float = 30.0) -> bytes:
        """What comes back for some bytes, to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(data)
            found = b""
            while chunk := connection.recv(65536):
                found += chunk
            return found

    def logged(self, text: str) -> str:
        """The log, as soon as this stands in it: a line is written after its answer."""
        assert self.log is not None
        until = time.monotonic() + 10
        while text not in self.log.read_text():
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)
        return self.log.read_text()

    def metric(self, name: str, labels: str = "") -> float:
        text = self.get("/metrics").body.decode()
        values = re.findall(rf"^{name}{labels or r'(?:{.*})?'} ([\d.e+]+)$", text, flags=re.MULTILINE)
        return sum(float(value) for value in values)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def as_form(parts: tuple[tuple[str, str | bytes], ...]) -> tuple[str, bytes]:
    """A form as clients send it: bytes are files, whose names are worthless."""
    body = b""
    for name, value in parts:
        file = '; filename="../../etc/passwd"' if isinstance(value, bytes) else ""
        body += f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return "multipart/form-data; boundary=edge", body + b"--edge--\r\n"


def png(colour: str | tuple[int, ...] = "red", size: tuple[int, int] = (100, 80), mode: str = "RGB") -> bytes:
    target = io.BytesIO()
    Image.new(mode, size, colour).save(target, "PNG")
    return target.getvalue()


def hole(size: tuple[int, int] = (100, 80), box: tuple[int, int, int, int] = (20, 20, 60, 60)) -> bytes:
    """A mask as the API has it: what is transparent is painted."""
    image = Image.new("RGBA", size, (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), box)
    target = io.BytesIO()
    image.save(target, "PNG")
    return target.getvalue()


def picture(entry: Mapping[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(entry["b64_json"])))


@contextmanager
def process(
    folder: Path, *options: str, seconds: str = "0", engine: str = "fake", **environment: str
) -> Iterator[Talk]:
    """`dalle serve` as a process of its own, at a port that is free."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": engine, "DALLE_FAKE_SECONDS": seconds}
    log = folder / "log"
    with log.open("wb") as stderr:
        command = [sys.executable, "-m", "dallecli", "serve", "--port", "0", *options]
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env={**env, "TMPDIR": str(folder), **environment}
        )
    try:
        assert running.stdout is not None
        line = running.stdout.readline().decode()
        port = re.search(r":(\d+)/v1$", line.strip())
        assert port is not None, (line, log.read_text())
        yield Talk(int(port[1]), process=running, log=log)
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGKILL)
        running.wait()
        assert running.stdout is not None
        running.stdout.close()


@contextmanager
def service(engines: Callable[[], Engine], serving: Serving | None = None, **parts: Any) -> Iterator[Talk]:
    """The same in a thread of this process, with an engine and parts of one's own."""
    serving = serving if serving is not None else Serving(port=0)
    sockets = bound(serving.host, 0)
    began: dict[str, Any] = {}
    ready, end = threading.Event(), threading.Event()

    async def run() -> None:
        files = parts.get("files") or Files()
        with closing(files), closing(parts.get("inputs") or Inputs()) as inputs, ThreadPoolExecutor(2) as encoders:
            whole = assembled(serving, Names(serving, 0), engines, files, encoders, inputs)
            whole = replace(whole, bodies=parts.get("bodies") or whole.bodies)
            painter = whole.painter
            server = Uvicorn(_config(build_app(whole)))
            painting = asyncio.create_task(painter.run())
            answering = asyncio.create_task(server.serve(sockets=sockets))
            painter.ready = True
            while not server.started:
                await asyncio.sleep(0.005)
            began["painter"] = painter
            ready.set()
            await asyncio.to_thread(end.wait)
            painter.stop()
            server.should_exit = True
            await answering
            painting.cancel()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield Talk(sockets[0].getsockname()[1])
    finally:
        end.set()
        thread.join(20)
        assert not thread.is_alive()
