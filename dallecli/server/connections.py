"""Connections that end: uvicorn waits for headers, and for somebody to read an answer, for as long as it takes.

Both get a deadline here, the number of connections a bound, and what is no HTTP an answer in the shape of the API.
"""

import asyncio
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from dallecli.errors import RequestError
from dallecli.limits import CONNECTIONS, HEADERS_SECONDS, SEND_SECONDS
from dallecli.server.refusal import Refusal, unusable
from dallecli.server.wire import to_json

_REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout", 503: b"Service Unavailable"}


class Connection(H11Protocol):
    """One connection of a client."""

    _headers_due: asyncio.TimerHandle | None = None
    _reading_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            failure = RequestError(f"{CONNECTIONS} connections are open, and no more may be")
            self._refuse(Refusal(failure, status=503, code="too_many_connections", retry_after=1))
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._headers_due)
        self._headers_due = None
        _cancel(self._reading_due)
        self._reading_due = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        super().pause_writing()
        self._reading_due = self.loop.call_later(SEND_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        _cancel(self._reading_due)
        self._reading_due = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse(unusable(400, msg.rstrip("."), code="invalid_http"))

    def _watch(self) -> None:
        """Wait for the end of the headers, or of a body that was answered before its end, for so long and no longer.

        Between two requests uvicorn's own timer runs.
        """
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        waiting = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
        if not (waiting or unread) or self.transport.is_closing():
            _cancel(self._headers_due)
            self._headers_due = None
        elif self._headers_due is None:
            self._headers_due = self.loop.call_later(HEADERS_SECONDS, self._too_slow)

    def _too_slow(self) -> None:
        self._refuse(unusable(408, "the request came too slowly", code="request_timeout"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what never becomes a request, and end the connection."""
        if self.transport.is_closing():
            return
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = to_json({"error": refusal.body})
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *((name.encode(), value.encode()) for name, value in refusal.headers.items()),
        ]
        events: list[Any] = [
            h11.Response(status_code=refusal.status, headers=headers, reason=_REASONS[refusal.status]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        self.transport.write(b"".join(data for event in events if (data := self.conn.send(event)) is not None))
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
