"""The application: which paths there are, and what each answers. All of them exist with and without `/v1` before them.

Errors become answers here, in one table of handlers; whatever is raised below, a client gets the shape of the API.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dallecli.errors import DalleError, Interrupted, RequestError
from dallecli.remote.protocol import PROTOCOL
from dallecli.server import openapi
from dallecli.server.access import PROMPT, Access
from dallecli.server.answer import Answerer
from dallecli.server.api_fields import ROUTES, Route
from dallecli.server.body import Bodies, Body
from dallecli.server.engine import EngineRoutes
from dallecli.server.files import Files, Inputs, type_of
from dallecli.server.gallery import Gallery
from dallecli.server.guard import Guard
from dallecli.server.jobs import PageJobs
from dallecli.server.leaving import while_connected
from dallecli.server.metrics import Metrics
from dallecli.server.names import Names
from dallecli.server.page_routes import Pictures, Studio
from dallecli.server.painter import Painter
from dallecli.server.refusal import Refusal, refusal_of, unusable
from dallecli.server.repeats import HEADER, Repeats
from dallecli.server.routes import existing, routed
from dallecli.server.serving import Serving
from dallecli.server.stream import Stream
from dallecli.server.translate import Asked, translate
from dallecli.server.wire import json_response
from dallecli.version import __version__

log = logging.getLogger(__name__)

PATIENCE: Final = "x-stainless-read-timeout"
"""The header in which the official Python client says for how many seconds it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that answers requests."""

    serving: Serving
    names: Names
    painter: Painter
    files: Files
    metrics: Metrics
    bodies: Bodies
    answerer: Answerer
    gallery: Gallery
    jobs: PageJobs
    repeats: Repeats
    inputs: Inputs


class Images:
    """`/images/…`: reads a request, has it painted, and answers; a client that leaves ends all of it."""

    def __init__(self, service: Service, route: Route) -> None:
        self._service = service
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with suppress(ClientDisconnect):
            async with self._service.bodies.read(request, pictures=self._route != "generations") as body:
                await self._work(request, body, send)

    async def _work(self, request: Request, body: Body, send: Send) -> None:
        """Answer, unless the client leaves first; one that has said how it will ask again may leave."""
        answer = partial(self._answer, request, body)
        key = request.headers.get(HEADER)
        if key is None:
            await while_connected(request, answer(send))
            return
        recording, new = self._service.repeats.find(key, self._route, body)
        if new:
            await recording.record(answer, send)
        else:
            await while_connected(request, recording.play(send))

    async def _answer(self, request: Request, body: Body, send: Send) -> bool:
        """Answer; whether all pictures were painted. Raises what the request is refused with."""
        service = self._service
        asked = await service.painter.check(translate, self._route, body, service.names)
        if service.serving.log_prompts and asked.prompt is not None:
            request.scope[PROMPT] = asked.prompt
        ticket, settled = await service.painter.admit(asked, self._until(request, asked))
        try:
            if asked.shape.stream:
                await _send_stream(Stream(service.answerer, asked, settled, ticket), send)
            else:
                answer = await service.answerer.whole(asked, settled, ticket, self._base(request))
                await json_response(answer)(request.scope, request.receive, send)
        finally:
            service.painter.cancel(ticket)
        return ticket.done == ticket.count

    def _until(self, request: Request, asked: Asked) -> float:
        """When nobody waits any more. Who gets a stream sees that something happens, and who has a key comes again."""
        patience = self._service.serving.timeout
        if asked.shape.stream or HEADER in request.headers:
            return time.monotonic() + patience
        try:
            said = float(request.headers.get(PATIENCE, "nan"))
        except ValueError:
            said = patience
        return time.monotonic() + (said if 0 < said < patience else patience)

    def _base(self, request: Request) -> str:
        """What the URLs of pictures begin with: where the client has found us."""
        public = self._service.serving.public_url
        return public.rstrip("/") if public is not None else f"{request.url.scheme}://{request.headers['host']}"


async def _send_stream(stream: Stream, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for data in stream.events():
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def build_app(service: Service) -> ASGIApp:
    """The application with everything around it."""
    page = Studio(service.gallery, service.jobs, service.names, service.painter, service.bodies, service.serving)
    return _around({**_handlers(service), **page.handlers()}, service.serving, service.metrics)


def build_gallery(gallery: Gallery, serving: Serving, metrics: Metrics) -> ASGIApp:
    """An application that shows a folder, and paints nothing."""

    async def file(request: Request) -> Response:
        return _file(request.path_params["name"], await find_file(gallery, request.path_params["name"]))

    return _around({("GET", "/files/{name}"): file, **Pictures(gallery).handlers()}, serving, metrics)


def _around(handlers: Mapping[tuple[str, str], Any], serving: Serving, metrics: Metrics) -> ASGIApp:
    app = Starlette(routes=routed(handlers), exception_handlers=dict.fromkeys(_HANDLED, _refuse))
    return Access(Guard(app, serving, metrics), metrics)


async def find_file(gallery: Gallery, name: str) -> bytes | None:
    """A picture of the gallery by the name that it has in URLs; None if there is none, or not any more."""
    shown = gallery.find(name.partition(".")[0])
    if shown is None or shown.file != name:
        return None
    found = await asyncio.to_thread(gallery.read, shown)
    return found[0] if found is not None and name.endswith(found[1]) else None


def _file(name: str, data: bytes | None) -> Response:
    """Raises Refusal where there is none."""
    if data is None:
        hint = "pictures are kept for an hour, and end with the server"
        raise unusable(404, "there is no such picture, or not any more", hint, code="file_not_found")
    return Response(data, headers=_FILE_HEADERS, media_type=type_of(name))


def _handlers(service: Service) -> dict[tuple[str, str], Any]:
    """What answers each method and path."""

    async def models(_: Request) -> Response:
        return json_response({"object": "list", "data": await asyncio.to_thread(service.names.listed)})

    async def model(request: Request) -> Response:
        return json_response(await asyncio.to_thread(service.names.described, request.path_params["id"]))

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        data = await service.files.find(name)
        return _file(name, data if data is not None else await find_file(service.gallery, name))

    async def health(_: Request) -> Response:
        return json_response(_state(service))

    async def ready(_: Request) -> Response:
        state = _state(service)
        return json_response(state, 200 if state["status"] == "ok" else 503)

    async def metrics(_: Request) -> Response:
        service.files.expire()
        service.metrics.files.set(service.files.bytes)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def document(_: Request) -> Response:
        return json_response(openapi.document())

    asked = EngineRoutes(service.names, service.serving, service.painter, service.bodies, service.inputs)
    return {
        **asked.handlers(),
        **{("POST", f"/images/{route}"): Images(service, route) for route in ROUTES},
        ("GET", "/models"): models,
        ("GET", "/models/{id:path}"): model,
        ("GET", "/files/{name}"): file,
        ("GET", "/health"): health,
        ("GET", "/ready"): ready,
        ("GET", "/metrics"): metrics,
        ("GET", "/openapi.json"): document,
    }


def _state(service: Service) -> dict[str, Any]:
    painter = service.painter
    status = "draining" if painter.draining else "ok" if painter.ready else "loading"
    waiting = painter.queue.pictures
    return {
        "status": status,
        "model": service.names.default.name,
        "waiting": waiting,
        "version": __version__,
        "engine": PROTOCOL,
    }


async def _refuse(request: Request, error: Exception) -> Response:
    """Whatever was raised, as the API says it."""
    if isinstance(error, HTTPException):
        error = _routing(request, error)
    refusal = refusal_of(error)
    if not isinstance(error, DalleError | Refusal | MemoryError):
        log.error("%s: a mistake in dalle itself: %s", request.scope["dalle.id"], type(error).__name__, exc_info=error)
    elif refusal.status >= 500 and not isinstance(refusal.failure, RequestError | Interrupted):
        log.warning("%s: %s", request.scope["dalle.id"], "; ".join(refusal.failure.lines()))
    return refusal.response()


def _routing(request: Request, error: HTTPException) -> Refusal:
    """What starlette says of a path or a method, in our words."""
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        what = f"{request.url.path} does not know {request.method}"
        return unusable(405, what, f"it knows {allowed}", code="method_not_allowed")
    if error.status_code == 404:
        return unusable(404, "there is nothing at this path", existing(), code="unknown_url")
    return unusable(error.status_code, str(error.detail), code="invalid_request")


_HANDLED: Final[tuple[type[Exception], ...]] = (Refusal, DalleError, HTTPException, MemoryError, Exception)

_FILE_HEADERS: Final = {
    "content-disposition": "inline",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "cross-origin",  # pages that were given the URL may show it
    "cache-control": "private, max-age=3600, immutable",
}
