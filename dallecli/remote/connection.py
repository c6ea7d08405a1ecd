"""HTTP to one server: questions and their frames, files, waiting, and every way in which this can fail as one of ours.

The standard library's client, because a command that uses a server should be done before a larger one is imported. It
follows no redirect, unpacks nothing, and asks no proxy. What comes from the server is read within bounds.
"""

import http.client
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from dallecli.errors import (
    DalleError,
    InternalError,
    Interrupted,
    MachineError,
    NetworkError,
    RequestError,
    WeightsError,
    reason,
)
from dallecli.fields import Fields, read_json
from dallecli.limits import (
    CONNECT_SECONDS,
    FRAME_BYTES,
    FRAME_DATA_BYTES,
    HEALTH_SECONDS,
    RETRY_SECONDS,
    SILENCE_SECONDS,
)
from dallecli.remote.address import Address
from dallecli.remote.choice import SAID
from dallecli.remote.protocol import (
    FRAMES,
    GOING_DOWN,
    INPUT_MISSING,
    INPUTS,
    PROTOCOL,
    QUESTIONS,
    error_heard,
)
from dallecli.version import __version__

log = logging.getLogger(__name__)

SAY_SECONDS: Final = 60.0
"""How often is said that the server lets us wait."""


class InputMissing(Exception):
    """The server does not have a file that it was sent: it has forgotten it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of an answer: what it is, its value, and the bytes behind it."""

    name: str
    value: Any
    data: bytes


class Server:
    """A server that can be asked. Connections are kept as long as answers were read to their ends."""

    def __init__(self, address: Address, token: str | None) -> None:
        self.address = address
        self._headers = {"User-Agent": f"dalle/{__version__}"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[http.client.HTTPConnection] = []
        self._said = -SAY_SECONDS

    def close(self) -> None:
        """Let go of all connections that nobody reads from."""
        while self._idle:
            self._idle.pop().close()

    # What can be asked

    def health(self) -> dict[str, Any] | None:
        """What the server says of itself; None if nothing answers in time, or something else than `dalle serve`."""
        try:
            return self.ask_health(HEALTH_SECONDS)
        except NetworkError:
            return None

    def ask_health(self, seconds: float = CONNECT_SECONDS) -> dict[str, Any]:
        """The same. Raises NetworkError if nothing answers, or something else."""
        connection, response = self._send("GET", "/health", None, {}, seconds)
        with self._kept(connection):
            data = self._read(response, FRAME_BYTES)
        try:
            found = read_json(data)
        except ValueError as error:
            raise self._stranger() from error
        if response.status != 200 or not isinstance(found, dict) or not {"status", "version", "model"} <= set(found):
            raise self._stranger()
        return found

    def has_input(self, sha256: str) -> bool:
        """Whether the server has a file."""
        connection, response = self._patiently("HEAD", f"{INPUTS}/{sha256}", None, {}, missing=True)
        with self._kept(connection):
            self._read(response, 0)
            return response.status == 200

    def put_input(self, sha256: str, data: bytes) -> None:
        """Send a file."""
        kind = {"Content-Type": "application/octet-stream"}
        connection, response = self._patiently("PUT", f"{INPUTS}/{sha256}", data, kind)
        with self._kept(connection):
            self._read(response, FRAME_BYTES)

    def read(self, path: str) -> Iterator[Frame]:
        """The frames at a path, which are read to their end."""
        with self._frames(*self._patiently("GET", path, None, {})) as frames:
            yield from frames

    @contextmanager
    def ask(self, question: str, message: Mapping[str, Any]) -> Iterator[Iterator[Frame]]:
        """The answer to a question, frame by frame. Who leaves before its end ends the server's work, too.

        Raises: InputMissing, NetworkError, and the error that is the answer.
        """
        body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode("ascii")
        kind = {"Content-Type": "application/json"}
        with self._frames(*self._patiently("POST", f"{QUESTIONS}/{question}", body, kind)) as frames:
            yield frames

    # How

    @contextmanager
    def _frames(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> Iterator[Iterator[Frame]]:
        ended = False

        def frames() -> Iterator[Frame]:
            nonlocal ended
            if response.headers.get_content_type() != FRAMES:
                raise self._stranger()
            while True:
                frame = self._frame(response)
                if frame.name == "error":
                    raise self._failed(frame.value)
                if frame.name == "end":
                    ended = not self._read(response, 1)
                    return
                yield frame

        try:
            yield frames()
        finally:
            if ended:
                self._let_go(connection)
            else:
                connection.close()

    def _frame(self, response: http.client.HTTPResponse) -> Frame:
        """The next frame. Raises NetworkError where there is none, or something else."""
        with self._network():
            line = response.readline(FRAME_BYTES + 1)
        if not line.endswith(b"\n"):
            raise self._lost() if len(line) <= FRAME_BYTES else self._odd("a frame is too long")
        try:
            fields = Fields(read_json(line), NetworkError)
            size = fields.whole("bytes", least=0, most=FRAME_DATA_BYTES) if "bytes" in fields else 0
            (name,) = fields
            value = fields.take(name)
        except (ValueError, NetworkError) as error:
            raise self.odd(error) from error
        data = self._read(response, size) if size else b""
        if len(data) < size:
            raise self._lost()
        return Frame(name, value, data)

    def _patiently(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, missing: bool = False
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request, also again where the server says when; 404 is an answer, too, where something may be missing.

        Raises: the error that is the answer.
        """
        while True:
            connection, response = self._send(method, path, body, headers, CONNECT_SECONDS)
            if response.status < 300 or (missing and response.status == 404):
                return connection, response
            with self._kept(connection):
                failure, wait = self._refused(response, method)
            if wait is None:
                raise failure
            now = time.monotonic()
            if now - self._said >= SAY_SECONDS:
                self._said = now
                said = failure.what if isinstance(failure, DalleError) else str(failure)
                log.log(SAID, "%s: %s; trying again in %d s", self.address.url, said, wait)
            time.sleep(wait)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request, over a connection that is there or a new one. Raises NetworkError."""
        while self._idle:
            connection = self._idle.pop()
            with suppress(ConnectionError, http.client.HTTPException):  # the server may have closed it since
                return self._sent(connection, method, path, body, headers)
        with self._network():
            return self._sent(self._connected(seconds), method, path, body, headers)

    def _sent(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        with ExitStack() as unless_it_works:
            unless_it_works.callback(connection.close)
            connection.request(method, self.address.path + path, body, {**self._headers, **headers})
            answer = connection.getresponse()
            unless_it_works.pop_all()
        return connection, answer

    def _connected(self, seconds: float) -> http.client.HTTPConnection:
        """A new connection; `seconds` are for finding somebody, and for the first answer if that is soon."""
        kind = http.client.HTTPSConnection if self.address.secure else http.client.HTTPConnection
        connection = kind(self.address.host, self.address.port, timeout=seconds)
        connection.connect()
        connection.sock.settimeout(SILENCE_SECONDS if seconds >= CONNECT_SECONDS else seconds)
        return connection

    @contextmanager
    def _kept(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """Inside, an answer is read to its end; then the connection can be used again."""
        with ExitStack() as unless_it_ends:
            unless_it_ends.callback(connection.close)
            yield
            unless_it_ends.pop_all()
        self._let_go(connection)

    def _let_go(self, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose answer was read."""
        if connection.sock is not None:  # the server may close it after an answer
            connection.sock.settimeout(SILENCE_SECONDS)
            self._idle.append(connection)

    def _read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        """Up to `most` bytes of a body, and not the rest. Raises NetworkError."""
        with self._network():
            return response.read(most)

    # What went wrong

    @contextmanager
    def _network(self) -> Iterator[None]:
        """What the network raises inside as one of ours."""
        url = self.address.url
        try:
            yield
        except ConnectionRefusedError as error:
            hint = "start it: dalle serve; or paint here: --server none"
            raise NetworkError(f"no server answers at {url}", hint=hint) from error
        except TimeoutError as error:
            raise NetworkError(f"the server at {url} does not answer", hint=_AGAIN) from error
        except (ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected) as error:
            raise self._lost() from error
        except OSError as error:
            raise NetworkError(f"the server at {url} cannot be reached: {reason(error)}", hint=_AGAIN) from error
        except (http.client.HTTPException, ValueError) as error:
            raise self._stranger() from error

    def _lost(self) -> NetworkError:
        return NetworkError(f"the server at {self.address.url} has ended, or the connection to it", hint=_AGAIN)

    def _stranger(self) -> NetworkError:
        return NetworkError(f"what answers at {self.address.url} is no dalle serve", hint="another --server, or none")

    def _odd(self, what: str) -> NetworkError:
        return NetworkError(f"the server at {self.address.url} answers what no server should: {what}", hint=_SAME)

    def odd(self, error: Exception) -> NetworkError:
        """The error about an answer that is none."""
        return self._odd(error.what if isinstance(error, DalleError) else str(error))

    def _refused(self, response: http.client.HTTPResponse, method: str) -> tuple[Exception, int | None]:
        """What an answer that is none says, and in how many seconds to try again, if that may be of use."""
        data = b"" if method == "HEAD" else self._read(response, FRAME_BYTES)
        try:
            found = read_json(data) if data else {}
            body = found.get("error", {}) if isinstance(found, dict) else {}
        except ValueError:
            body = {}
        after = response.headers.get("retry-after", "")
        wait = min(RETRY_SECONDS, max(1, int(after))) if after.isdecimal() and response.status in (429, 503) else None
        if response.status == 401:
            hint = "DALLE_TOKEN, or --token-file FILE"
            return RequestError("the server wants a token, or another one", self.address.url, hint), None
        if isinstance(body, dict) and body.get("code") == "unknown_url":
            what = f"the server at {self.address.url} does not know this: its dalle is older, or its path another"
            return NetworkError(what, hint=_SAME), None
        if not isinstance(body, dict) or "dalle" not in body:
            if wait is None:
                return self._stranger(), None
            return NetworkError(f"status {response.status}"), wait
        return self._failed(body), wait

    def _failed(self, body: Any) -> Exception:
        """The error that a server has answered with."""
        try:
            error = error_heard(body.get("dalle") if isinstance(body, dict) else None)
        except ValueError as odd:
            return self._odd(str(odd))
        if body.get("code") == INPUT_MISSING:
            return InputMissing(error.what)
        if isinstance(error, Interrupted) or body.get("code") == GOING_DOWN:
            return NetworkError(f"the server at {self.address.url}: {error.what}", hint=_AGAIN)
        ours = isinstance(error, WeightsError | MachineError | InternalError | NetworkError)
        if ours and error.where is None:
            error.where = f"the server at {self.address.url}"
        return error


def check_protocol(health: Mapping[str, Any], address: Address) -> None:
    """Refuse a server that speaks another version of the protocol, or none. Raises NetworkError."""
    spoken = health.get("engine")
    if spoken != PROTOCOL:
        theirs = f"{spoken!s:.40}" if spoken is not None else "none: its dalle is older"
        what = f"the server at {address.url} speaks another engine protocol ({theirs}, and here {PROTOCOL})"
        raise NetworkError(what, hint=_SAME)


_SAME: Final = "the same version of dalle on both sides"
_AGAIN: Final = "what is finished is kept; the same command goes on, or starts again"
