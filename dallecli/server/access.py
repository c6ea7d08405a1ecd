"""The outside of the application: every request gets a number, is counted and leaves one line in the log.

The line has the kind of request, its status and its time. It has no address, no token, no name of a picture and, if the
owner of the server has not asked for it, no word of a prompt. What an open page asks for again and again leaves no
line, as long as it is answered.
"""

import logging
import re
import secrets
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dallecli.remote.protocol import ENGINE, INPUTS, LOOKS
from dallecli.safe import safe
from dallecli.server.metrics import Metrics

log = logging.getLogger(__name__)

ID: Final = "x-request-id"
PROMPT: Final = "dalle.prompt"
"""Where a request's words are kept for the log, if they are wanted there."""

LEFT: Final = 499
"""The status in the log of a request whose client has left, as nginx has it."""

_ROUTES: Final = re.compile(
    r"/images/(generations|edits|variations|interpolations)|/models|/health|/ready|/metrics|/openapi\.json|/"
    r"|/dalle/(state|pictures|models|check|jobs/(generations|edits|variations|interpolations))"
)
_PREFIXES: Final = {
    "/models/": "/models/{id}",
    "/files/": "/files/{name}",
    "/page/": "/page/{name}",
    "/dalle/pictures/": "/dalle/pictures/{id}",
    "/dalle/jobs/": "/dalle/jobs/{id}",
    "/dalle/words/": "/dalle/words/{id}",
    f"{ENGINE}/": f"{ENGINE}/{{question}}",
    f"{INPUTS}/": f"{INPUTS}/{{sha256}}",
    f"{LOOKS}/": f"{LOOKS}/{{id}}",
}

_OFTEN: Final = ("/dalle/state", "/page/{name}")
"""What a page that is open asks for by itself, every other second: lines of it would bury the others."""

_HEADERS: Final = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}


class Access:
    """The application with numbers, counts and a log."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, number, status = time.perf_counter(), secrets.token_hex(8), LEFT

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[ID] = number
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        scope["dalle.id"] = number
        try:
            await self._app(scope, receive, sending)
        finally:
            seconds, route = time.perf_counter() - begun, route_of(scope["path"])
            self._metrics.requests.add(route, str(status))
            self._metrics.request_seconds.observe(seconds, route)
            said = f" {safe(repr(scope[PROMPT]), 400)}" if PROMPT in scope else ""
            method = scope["method"] if re.fullmatch("[A-Z]{3,7}", scope["method"]) else "?"
            level = logging.DEBUG if route in _OFTEN and status < 400 else logging.INFO
            log.log(level, "%s %s %s %s %.0f ms%s", number, method, route, status, 1000 * seconds, said)


def route_of(path: str) -> str:
    """The kind of a path, of which there are few."""
    path = path.removeprefix("/v1") or "/"
    if _ROUTES.fullmatch(path):
        return path
    return next((route for prefix, route in _PREFIXES.items() if path.startswith(prefix)), "other")
