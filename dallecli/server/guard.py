"""Who is let in: the right host, no foreign web page, and the token where there is one.

A browser on this machine is the danger: any page that it shows can send requests here, forms without asking first. What
gives it away is its Origin; and a page whose name was made to lead here (DNS rebinding), the Host. 403 and not 421 for
a wrong host, because Node sends every request twice that is answered with 421.
"""

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dallecli.limits import HEADERS_BYTES, in_words
from dallecli.server.metrics import Metrics
from dallecli.server.refusal import Refusal, unusable
from dallecli.server.routes import is_open
from dallecli.server.serving import LOOPBACK, Serving

_ALLOWED: Final = {
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-allow-headers": "*, authorization",
    "access-control-max-age": "600",
}


class Guard:
    """The application behind the checks."""

    def __init__(self, app: ASGIApp, serving: Serving, metrics: Metrics) -> None:
        self._app = app
        self._serving = serving
        self._metrics = metrics
        public = urlsplit(serving.public_url).netloc if serving.public_url is not None else ""
        self._public = public.lower()
        names = {*LOOPBACK, serving.host, *serving.hosts, _host(public), socket.gethostname()}
        self._hosts = {name.lower().rstrip(".") for name in names if name}
        # A rebound name is a name; who comes by an address has typed it.
        self._addresses = serving.host not in LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        allowed = origin is not None and origin.lower() in {known.lower() for known in self._serving.origins}
        refusal = self._refusal(scope, headers, foreign=origin is not None and not allowed)
        if allowed and origin is not None:
            send = _with_cors(send, origin)
        if refusal is not None:
            self._metrics.rejected.add(refusal.code)
            await refusal.response()(scope, receive, send)
        elif allowed and scope["method"] == "OPTIONS":
            await Response(None, 204, _ALLOWED)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers, *, foreign: bool) -> Refusal | None:
        if sum(len(name) + len(value) for name, value in headers.raw) > HEADERS_BYTES:
            what = f"the headers have more than {in_words(HEADERS_BYTES)}"
            return unusable(431, what, code="headers_too_large")
        host = headers.get("host", "")
        if not self._is_ours(_host(host)):
            hint = "if it is a name of this server: --allow-host NAME"
            return unusable(403, "the Host of the request is not this server", hint, code="forbidden_host")
        if foreign and not self._is_own_page(headers["origin"], host):
            hint = "if it is a page that you trust: --cors-origin ORIGIN"
            return unusable(403, "a web page of another server has sent this", hint, code="forbidden_origin")
        cross = headers.get("sec-fetch-site") == "cross-site" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if cross and (foreign or "origin" not in headers):
            return unusable(403, "a web page of another server has sent this", code="forbidden_origin")
        if scope["method"] == "OPTIONS" or is_open(scope["path"]):
            return None
        if not self._serving.admits(_token(headers)):
            hint = "Authorization: Bearer TOKEN; of an official client: api_key"
            refusal = unusable(401, "the token is missing, or not the right one", hint, code="invalid_api_key")
            return refusal
        return None

    def _is_ours(self, host: str) -> bool:
        return host in self._hosts or (self._addresses and _is_address(host))

    def _is_own_page(self, origin: str, host: str) -> bool:
        netloc = urlsplit(origin).netloc.lower() if "://" in origin else ""
        return bool(netloc) and netloc in (host.lower(), self._public)


def _host(netloc: str) -> str:
    """The host of `host:port`, in small letters and without brackets; "" for what is none."""
    name = netloc.strip().lower()
    bracket, _, rest = name.rpartition("]") if name.startswith("[") else ("", "", name)
    host, _, port = rest.partition(":")
    if bracket:
        host = bracket[1:] if not host else ""
    return host.rstrip(".") if not port or port.isdecimal() else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _token(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("api-key")


def _with_cors(send: Send, origin: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = "x-request-id, retry-after"
            headers.add_vary_header("Origin")
        await send(message)

    return sending
