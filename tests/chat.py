"""A language model on this machine: a real HTTP server that speaks OpenAI's chat completions, and says what it is told.

It can misbehave in every way that such a server does.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What is sent back: a status and a body, byte after byte if `drip` seconds lie between them."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drip: float | None = None
    wait: float = 0.0


def saying(text: object) -> Reply:
    """A good answer with this content."""
    return Reply(body=json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())


@dataclass
class Chat:
    """What the server says, the last answer again and again, and what it was asked."""

    answers: list[str | Reply]
    port: int = 0
    asked: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--rewrite-with", self.url, "parrot")

    @property
    def questions(self) -> list[str]:
        """The last message of each request."""
        return [asked["messages"][-1]["content"] for asked in self.asked]

    @property
    def briefs(self) -> list[str]:
        """The system message of each request."""
        return [asked["messages"][0]["content"] for asked in self.asked]

    def next(self) -> Reply:
        with self.lock:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, Reply) else saying(answer)


@contextmanager
def chatting(*answers: str | Reply) -> Iterator[Chat]:
    """A language model that gives these answers, one after another."""
    chat = Chat(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with chat.lock:
                chat.asked.append(json.loads(body))
                chat.headers.append({name.lower(): value for name, value in self.headers.items()})
                chat.paths.append(self.path)
            reply = chat.next()
            time.sleep(reply.wait)
            with contextlib.suppress(OSError):
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if reply.drip is None:
                    self.wfile.write(reply.body)
                for byte in reply.body if reply.drip is not None else b"":
                    self.wfile.write(bytes([byte]))
                    time.sleep(reply.drip or 0.0)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    chat.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield chat
    finally:
        server.shutdown()
        server.server_close()
