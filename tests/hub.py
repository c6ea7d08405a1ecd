"""A Hub on this machine: a real HTTP server with the part of the Hub's API that huggingface_hub and we speak.

It serves repositories from memory, small files itself and large ones (in "LFS") by way of a second server, as the Hub
does. Switches make it misbehave in every way that a network does.
"""

import contextlib
import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

LFS_FROM = 4096
"""Bytes from which on a file is in LFS. On the Hub .gitattributes decides; here the size does."""


def git_blob(data: bytes) -> str:
    """The SHA-1 that git names a blob with."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(kw_only=True)
class Repository:
    """Files at one commit. `commit` follows from them, as in git."""

    files: dict[str, bytes]
    tags: list[str] = field(default_factory=lambda: ["license:mit"])
    gated: bool = False  # its files are for those with a token who have accepted its terms
    pinned: str | None = None

    @property
    def commit(self) -> str:
        if self.pinned is not None:
            return self.pinned
        lines = [f"{path} {hashlib.sha256(data).hexdigest()}" for path, data in sorted(self.files.items())]
        return hashlib.sha1("\n".join(lines).encode(), usedforsecurity=False).hexdigest()


@dataclass(kw_only=True)
class Trouble:
    """What goes wrong with files whose path ends with `path`, the next `times` times."""

    path: str = ""
    times: int = 10**9
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop_at: int | None = None  # cut the connection before this byte of the file
    short: int = 0  # end in good order, so many bytes too early
    long: int = 0  # send so many bytes too many
    flip: int | None = None  # turn over a bit of this byte
    replace: bytes | None = None  # send these bytes instead
    no_ranges: bool = False  # answer 200 and everything to a request for a part
    pause: float = 0.0  # seconds between chunks of 4 KB
    step: int = 4096  # bytes of such a chunk
    drip: float = 0.0  # seconds between the bytes of the answer's first line, which never ends
    redirect: bool = False  # send the client to the same address, for ever
    listing: bool = False  # trouble with the API instead of with a file


@dataclass
class Request:
    """One request as it came in, and how many bytes of a body it got."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0


class Hub:
    """The server's state: what it holds, how it misbehaves, and what it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.history: dict[tuple[str, str], Repository] = {}
        self.troubles: list[Trouble] = []
        self.requests: list[Request] = []
        self.token: str | None = None
        self.url = self.cdn = ""

    def add(self, name: str, folder: Path | Mapping[str, bytes], **settings: Any) -> Repository:
        """Publish a folder, or files by path, under ORG/NAME: a new commit of it, if it is there."""
        if isinstance(folder, Path):
            files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        else:
            files = dict(folder)
        repository = Repository(files=files, **settings)
        self.repositories[name] = repository
        self.history[name, repository.commit] = repository
        return repository

    def pin(self, name: str, commit: str) -> None:
        """Call what is published under ORG/NAME by a certain commit."""
        self.repositories[name].pinned = commit
        self.history[name, commit] = self.repositories[name]

    def trouble(self, path: str = "", **what: Any) -> Trouble:
        """Misbehave from now on, or `times` times."""
        trouble = Trouble(path=path, **what)
        self.troubles.append(trouble)
        return trouble

    def heal(self) -> None:
        """Behave, and forget what was asked so far."""
        self.troubles.clear()
        self.requests.clear()

    @property
    def body_bytes(self) -> int:
        """Bytes of files that were sent."""
        return sum(request.sent for request in self.requests)

    def find(self, name: str, revision: str) -> Repository | None:
        """A repository at a branch ("main") or a commit."""
        if revision == "main":
            return self.repositories.get(name)
        return self.history.get((name, revision))

    def take_trouble(self, path: str, *, listing: bool) -> Trouble:
        """The trouble that meets a request, one of its times used up."""
        for trouble in self.troubles:
            if trouble.listing == listing and trouble.times > 0 and path.endswith(trouble.path):
                trouble.times -= 1
                return trouble
        return Trouble()


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the acknowledgement of its header

    def log_message(self, format: str, *arguments: object) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.request_log = Request(
            self.command, self.path, {name.title(): value for name, value in self.headers.items()}
        )
        self.hub.requests.append(self.request_log)
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(match[1], "main" if match[2] is None else match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3])
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            repository = self.hub.find(match[1], match[2])
            assert repository is not None
            self._send(match[3], repository.files[match[3]])
        else:
            self._fail(404)

    def _allowed(self, name: str, revision: str, listing: bool, path: str) -> Repository | None:
        trouble = Trouble()
        if listing:
            trouble = self.hub.take_trouble(path, listing=True)
        if trouble.status is not None:
            self._fail(trouble.status, **trouble.headers)
            return None
        if trouble.drip or trouble.redirect:
            self._stall(trouble)
            return None
        if trouble.replace is not None:
            self._answer(200, trouble.replace, {"Content-Type": "text/html", **trouble.headers}, trouble)
            return None
        repository = self.hub.find(name, revision)
        known = name in self.hub.repositories
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not known:
            self._fail(401, **{"X-Error-Code": "RepoNotFound"})
        elif self.hub.repositories[name].gated and listing:
            return repository  # what there is anybody may know
        elif self.hub.token is not None and token != self.hub.token:
            code = "GatedRepo" if self.hub.repositories[name].gated else "RepoNotFound"
            self._fail(403 if code == "GatedRepo" else 401, **{"X-Error-Code": code})
        elif repository is None:
            self._fail(404, **{"X-Error-Code": "RevisionNotFound"})
        else:
            return repository
        return None

    def _list(self, name: str, revision: str) -> None:
        repository = self._allowed(name, revision, True, name)
        if repository is None:
            return
        siblings = []
        for path, data in sorted(repository.files.items()):
            entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_blob(data)}
            if len(data) >= LFS_FROM:
                sha256 = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"size": len(data), "sha256": sha256, "pointerSize": 134}
            siblings.append(entry)
        facts = {"_id": "0", "id": name, "modelId": name, "sha": repository.commit, "tags": repository.tags}
        body = json.dumps({**facts, "siblings": siblings, "private": False, "downloads": 0, "likes": 0}).encode()
        self._answer(200, body, {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._allowed(name, revision, False, path)
        if repository is None:
            return
        if path not in repository.files:
            self._fail(404, **{"X-Error-Code": "EntryNotFound"})
            return
        data = repository.files[path]
        headers = {"X-Repo-Commit": repository.commit}
        if len(data) < LFS_FROM:
            self._send(path, data, {**headers, "ETag": f'"{git_blob(data)}"'})
            return
        headers |= {
            "Location": f"{self.hub.cdn}/cdn/{name}/{repository.commit}/{path}",
            "X-Linked-Size": str(len(data)),
            "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"',
        }
        self._answer(302, b"", headers)

    def _send(self, path: str, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        trouble = self.hub.take_trouble(path, listing=False)
        if trouble.status is not None:
            self._fail(trouble.status, **trouble.headers)
            return
        if trouble.drip or trouble.redirect:
            self._stall(trouble)
            return
        if trouble.replace is not None:
            data = trouble.replace
        headers = {**(headers if headers is not None else {}), **trouble.headers}
        if trouble.flip is not None:
            data = data[: trouble.flip] + bytes([data[trouble.flip] ^ 1]) + data[trouble.flip + 1 :]
        data += b"x" * trouble.long
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked is not None and not trouble.no_ranges else 0
        if start >= len(data) and start > 0:
            self._fail(416)
            return
        self.send_response(206 if start > 0 else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if start > 0:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        end = len(data) - trouble.short
        self.send_header("Content-Length", str(max(0, end - start)))
        self.end_headers()
        if self.command == "GET":
            cut = end if trouble.drop_at is None else min(end, trouble.drop_at)
            self._body(data[start:cut], trouble)
            if cut < end:
                self.close_connection = True
                self.connection.close()

    def _stall(self, trouble: Trouble) -> None:
        """Redirect to the same place, or answer with a first line that never ends."""
        if trouble.redirect:
            self._answer(302, b"x" * 1000, {"Location": self.path})
            return
        self.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(1000):
                self.wfile.write(b"H")
                self.wfile.flush()
                time.sleep(trouble.drip)

    def _body(self, data: bytes, trouble: Trouble, *, counted: bool = True) -> None:
        step = len(data) if trouble.pause == 0 else trouble.step
        for k in range(0, len(data), max(1, step)):
            part = data[k : k + step]
            self.request_log.sent += len(part) if counted else 0  # before: who has it all may ask at once
            try:
                self.wfile.write(part)
                self.wfile.flush()
            except OSError:  # the client is gone
                self.request_log.sent -= len(part) if counted else 0
                self.close_connection = True
                return
            time.sleep(trouble.pause)

    def _fail(self, status: int, **headers: str) -> None:
        self._answer(status, json.dumps({"error": "trouble"}).encode(), headers)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], trouble: Trouble | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self._body(body, trouble if trouble is not None else Trouble(), counted=False)


class Server(ThreadingHTTPServer):
    """One to which it does not matter when a client hangs up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub at `hub.url`, its large files at `hub.cdn`, which is another origin."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [Server(("127.0.0.1", 0), handler) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
