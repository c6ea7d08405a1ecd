"""Runs a server from the first connection to the last: sockets, signals, draining.

The first SIGTERM or SIGINT lets nobody in any more; what is waiting is painted, for `drain` seconds, and what is then
left is told so. A second one ends it at once. Nobody is left without an answer in either case.
"""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from dallecli.engine import Engine
from dallecli.errors import BadInput, BadSetting, MachineError, reason
from dallecli.limits import HEADERS_BYTES, IDLE_SECONDS
from dallecli.own_folders import SET_ONE, own_folder
from dallecli.server.answer import Answerer
from dallecli.server.app import Service, build_app, build_gallery
from dallecli.server.body import Bodies
from dallecli.server.connections import Connection
from dallecli.server.files import Files, Inputs
from dallecli.server.gallery import Gallery
from dallecli.server.jobs import PageJobs
from dallecli.server.metrics import Metrics
from dallecli.server.names import Names
from dallecli.server.painter import Painter
from dallecli.server.repeats import Repeats
from dallecli.server.serving import Serving
from dallecli.version import __version__

log = logging.getLogger(__name__)

GOODBYE_SECONDS: Final = 2.0
"""For the last answers to be written, and for a step that is being painted to end."""

BACKLOG: Final = 128

PICTURES: Final = "pictures"
"""The folder of the page's pictures, in that of our data."""


class Uvicorn(uvicorn.Server):
    """uvicorn's server, whose signals are ours to handle."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Where a server can be reached, and the model that it paints with; and where a browser here finds its page."""

    url: str
    model: str
    page: str


def serve(serving: Serving, engines: Callable[[], Engine], announce: Callable[[Announced], None]) -> None:
    """Serve until a signal says otherwise. `engines` makes two engines: the first paints, the second
    checks requests (see `Painter`). `announce` is called when clients can come.

    A second signal, and a step that does not end in time, end the process.

    Raises: as `find` and `locate` for the model; BadSetting for a host that there is not, MachineError for a port that
        cannot be used.
    """
    _collect_garbage()
    names = Names(serving, int(time.time()))
    sockets = bound(serving.host, serving.port)
    with ExitStack() as stack:
        files, inputs = stack.enter_context(closing(Files())), stack.enter_context(closing(Inputs()))
        encoders = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="encoding"))
        service = assembled(serving, names, engines, files, encoders, inputs)
        port = sockets[0].getsockname()[1]
        page = page_address(serving.host, port)
        announced = Announced(url=f"http://{_shown(serving.host)}:{port}", model=names.default.name, page=page)
        asyncio.run(_serve(service, sockets, lambda: announce(announced)))


def assembled(
    serving: Serving,
    names: Names,
    engines: Callable[[], Engine],
    files: Files,
    encoders: ThreadPoolExecutor,
    inputs: Inputs,
) -> Service:
    """All that answers requests."""
    metrics = Metrics(__version__)
    painter = Painter(engines(), engines(), serving, metrics)
    gallery = Gallery(kept_folder(serving, files), writable=True)
    answerer = Answerer(files, gallery, encoders)
    return Service(
        serving=serving,
        names=names,
        painter=painter,
        files=files,
        metrics=metrics,
        bodies=Bodies(),
        answerer=answerer,
        gallery=gallery,
        jobs=PageJobs(painter, answerer),
        repeats=Repeats(),
        inputs=inputs,
    )


def kept_folder(serving: Serving, files: Files) -> Path:
    """Where the page's pictures are kept: as was chosen, else with our own data, else only until the server ends."""
    if serving.pictures is not None:
        return serving.pictures
    own = own_folder("data")
    if own is not None:
        return own / PICTURES
    log.warning("pictures of the page end with the server: %s, or say --pictures DIR", SET_ONE)
    return files.folder / PICTURES


def show(folder: Path, serving: Serving, announce: Callable[[str], None], *, deep: bool = False) -> None:
    """Show the pictures of a folder until a signal comes, with `deep` also those of the folders in it.

    Raises: BadSetting, MachineError as `serve`; BadInput.
    """
    if not folder.is_dir():
        what = "this is no folder" if folder.exists() else "there is no such folder"
        raise BadInput(what, where=str(folder), hint="name a folder of pictures")
    sockets = bound(serving.host, serving.port)
    app = build_gallery(Gallery(folder, writable=False, deep=deep), serving, Metrics(__version__))
    where = page_address(serving.host, sockets[0].getsockname()[1])
    asyncio.run(_show(app, sockets, lambda: announce(where)))


def page_address(host: str, port: int) -> str:
    """Where a browser on this machine finds the page of a server."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{_shown(here)}:{port}/"


async def _show(app: ASGIApp, sockets: Sequence[socket.socket], announce: Callable[[], None]) -> None:
    server = Uvicorn(_config(app))
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    serving = asyncio.create_task(server.serve(sockets=list(sockets)))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    announce()
    await ended.wait()
    server.should_exit = True
    await asyncio.wait({serving}, timeout=GOODBYE_SECONDS)
    serving.cancel()


def _collect_garbage() -> None:
    """Let the collector work as Python has it: commands that soon end have it seldom, and a server does not end."""
    gc.freeze()
    gc.set_threshold(2000, 10, 10)


def bound(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at every address of a host, all at one port. Raises BadSetting, MachineError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        hint = "127.0.0.1, or 0.0.0.0 for all addresses of this machine"
        raise BadSetting(f"there is no host {host!r}: {reason(error)}", hint=hint) from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address[0], sockets[0].getsockname()[1] if sockets else port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # a machine without IPv6
            for other in sockets:
                other.close()
            raise MachineError(f"port {port} of {host}: {reason(error)}", hint="another --port; 0 is any") from error
        sockets.append(listener)
    return sockets


async def _serve(service: Service, sockets: Sequence[socket.socket], announce: Callable[[], None]) -> None:
    """Serve on these sockets until a signal comes, and end well."""
    painter = service.painter
    server = Uvicorn(_config(build_app(service)))
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signals.put_nowait, number)
    serving = asyncio.create_task(server.serve(sockets=list(sockets)))
    painting = asyncio.create_task(painter.run())
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    announce()
    opening = asyncio.create_task(_open(service))
    await signals.get()
    log.warning("going down: %d pictures are waiting", painter.queue.pictures)
    second = asyncio.create_task(signals.get())
    draining = asyncio.create_task(painter.drain(service.serving.drain))
    await asyncio.wait({second, draining}, return_when=asyncio.FIRST_COMPLETED)
    painter.stop()
    await service.jobs.settle()
    server.should_exit = True
    await asyncio.wait({serving}, timeout=GOODBYE_SECONDS)
    await _settled(painter)
    for task in (serving, painting, opening, second, draining):
        task.cancel()
    if painter.busy:  # its thread cannot be ended, and Python would wait for it
        _leave(service, second.result() if second.done() and not second.cancelled() else signal.SIGTERM)


async def _open(service: Service) -> None:
    """Open the default model. What that brings stays, and nobody need go over it for garbage again."""
    await service.painter.open(service.serving.model, words=_reads_words(service))
    gc.freeze()


async def _settled(painter: Painter) -> None:
    """Wait a moment for the step that is being painted."""
    with suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            while painter.busy:
                await asyncio.sleep(0.01)


def _leave(service: Service, number: int) -> None:
    """End this process now, in the middle of a step."""
    service.files.close()
    service.inputs.close()
    os._exit(128 + number)


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(GOODBYE_SECONDS)),
        h11_max_incomplete_event_size=HEADERS_BYTES,
        backlog=BACKLOG,
    )


def _reads_words(service: Service) -> bool:
    """Whether a picture can be begun of words, which opens the default model."""
    default = service.names.default
    return default.prompts and "generate" in default.tasks


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
