"""The body of a request, read within bounds: JSON or a form becomes values by name, and the bytes of files.

Length, parts and time are checked while it comes. Names and types of files are never looked at: clients send what they
like, one of them its own paths.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from dallecli.errors import RequestError
from dallecli.fields import read_json
from dallecli.limits import (
    BODY_BYTES,
    BODY_RATE_BYTES,
    BODY_SPARE_SECONDS,
    FIELD_BYTES,
    FORM_FIELDS,
    FORM_FILES,
    HELD_BYTES,
    JSON_BYTES,
    JSON_PARTS,
    in_words,
)
from dallecli.server.refusal import Refusal, unusable

_SEPARATORS: Final = (b",", b"[", b"{", b":")


@dataclass(frozen=True, slots=True)
class Body:
    """What a body says. `values`: by name, without those that are null. `files`: by name, in the order of the form."""

    values: dict[str, object]
    files: dict[str, list[bytes]] = field(default_factory=dict)


class Form(MultiPartParser):
    """A form whose files stay in memory: they are bounded, and nothing of them is to be left on a disk."""

    spool_max_size = 2 * BODY_BYTES
    ended = False
    """Whether its last boundary has come: half a form would ask for something else."""

    def on_end(self) -> None:
        self.ended = True


class Bodies:
    """Reads bodies, and counts what all requests hold together."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self.most = most
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request, *, pictures: bool) -> AsyncIterator[Body]:
        """What a request says; `pictures` is whether any may be in it. It counts as held inside of the context.

        Raises: Refusal.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data" and kind != "application/json" and not kind.endswith("+json"):
            raise unusable(
                415,
                f"the body is {kind or 'of no type'}, which is not read",
                "-H 'Content-Type: application/json', or a form: multipart/form-data",
                code="unsupported_media_type",
            )
        form = kind == "multipart/form-data"
        lease = _Lease(self, BODY_BYTES if form or pictures else JSON_BYTES)
        try:
            chunks = _chunks(request, lease)
            yield await _form(request, chunks) if form else await _json(chunks)
        finally:
            lease.end()

    @asynccontextmanager
    async def read_bytes(self, request: Request) -> AsyncIterator[bytes]:
        """A body that is a file. It counts as held inside of the context. Raises Refusal."""
        lease = _Lease(self, BODY_BYTES)
        try:
            yield b"".join([chunk async for chunk in _chunks(request, lease)])
        finally:
            lease.end()

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Inside, bytes of files can be taken that a request needs besides its body; too many raise Refusal."""
        lease = _Lease(self, self.most)
        try:
            yield lease.take
        finally:
            lease.end()


class _Lease:
    """The bytes that one request holds."""

    def __init__(self, bodies: Bodies, most: int) -> None:
        self._bodies = bodies
        self.most = most
        self.bytes = 0

    def take(self, count: int) -> None:
        """Raises Refusal for more than one request, or all of them together, may hold."""
        self.check(self.bytes + count)
        if self._bodies.held + count > self._bodies.most:
            what = "the server holds as many pictures of other requests as it may"
            raise Refusal(RequestError(what, hint="try again"), status=429, code="rate_limit_exceeded", retry_after=5)
        self._bodies.held += count
        self.bytes += count

    def check(self, length: int) -> None:
        if length > self.most:
            raise unusable(413, f"the body has more than {in_words(self.most)}", code="request_too_large")

    def end(self) -> None:
        self._bodies.held -= self.bytes
        self.bytes = 0


async def _chunks(request: Request, lease: _Lease) -> AsyncGenerator[bytes, None]:
    """The body as it comes: not more than the lease allows, and not slower than it should."""
    stream = request.stream()
    try:
        length = request.headers.get("content-length", "")
        if length.isdecimal():
            lease.check(int(length))
        begun = asyncio.get_running_loop().time()
        while True:
            try:
                async with asyncio.timeout_at(begun + BODY_SPARE_SECONDS + lease.bytes / BODY_RATE_BYTES):
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise unusable(408, "the body came too slowly", code="request_timeout") from None
            lease.take(len(chunk))
            yield chunk
    except Refusal as refusal:
        if refusal.status in (413, 429):
            await _pour_away(stream)
        raise


async def _pour_away(stream: AsyncGenerator[bytes, None]) -> None:
    """Let a client finish that is told no: one that is still sending would not hear it."""
    poured = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(BODY_SPARE_SECONDS):
            async for chunk in stream:
                poured += len(chunk)
                if poured > 2 * BODY_BYTES:
                    return


async def _json(chunks: AsyncGenerator[bytes, None]) -> Body:
    data = b"".join([chunk async for chunk in chunks])
    # Each value takes a hundred times as much memory as its text; the pictures in it have none of these characters.
    if sum(data.count(separator) for separator in _SEPARATORS) > JSON_PARTS:
        raise unusable(400, f"the JSON has more than {JSON_PARTS} parts", code="invalid_json")
    try:
        found = await asyncio.to_thread(read_json, data) if len(data) > FIELD_BYTES else read_json(data)
    except ValueError as error:
        raise unusable(400, f"the body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(found, dict):
        raise unusable(400, "the body is not a JSON object", code="invalid_json")
    return Body({name: value for name, value in found.items() if value is not None})


async def _form(request: Request, chunks: AsyncGenerator[bytes, None]) -> Body:
    parser = Form(request.headers, chunks, max_files=FORM_FILES, max_fields=FORM_FIELDS, max_part_size=FIELD_BYTES)
    try:
        parts = await parser.parse()
    except MultiPartException as error:
        raise unusable(400, f"the form cannot be read: {error.message}", code="invalid_form") from error
    values: dict[str, object] = {}
    files: dict[str, list[bytes]] = {}
    try:
        if not parser.ended:
            raise unusable(400, "the form ends before its last boundary", code="invalid_form")
        for written, value in parts.multi_items():
            name = written.removesuffix("[]")  # how lists are sent
            if isinstance(value, UploadFile):
                data = await value.read()
                if data:  # a browser sends an empty file where none was chosen
                    files.setdefault(name, []).append(data)
            elif name in values:
                raise unusable(400, f"{name!r} is there twice", code="invalid_form")
            elif value or name == "prompt":
                values[name] = value
    finally:
        await parts.close()
    return Body(values, files)
