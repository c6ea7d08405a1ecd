"""A streamed answer: unfinished pictures as they are painted, every finished one, and always an end.

A stream that just stops is taken for a success by the official clients, so the last event is a finished picture or an
error, also when the server goes down. The API has no number of a picture in its events; ours is in `dalle.index`.
"""

import asyncio
import base64
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dallecli.server.answer import Answerer, described, facts
from dallecli.server.api_fields import Route
from dallecli.server.painter import Settled
from dallecli.server.refusal import refusal_of
from dallecli.server.sizes import fitted
from dallecli.server.ticket import Painted, Stepped, Ticket, Unfinished
from dallecli.server.translate import Asked
from dallecli.server.wire import to_json
from dallecli.size import Size

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

KEEP_ALIVE_SECONDS: Final = 10.0
"""After so long without an event a comment is sent, so that nobody between us and the client takes it for dead."""

STILL: Final = b": still painting\n\n"
"""A comment, which clients pass over."""

_NAMES: Final[dict[Route, str]] = {
    "generations": "image_generation",
    "edits": "image_edit",
    "variations": "image_variation",
    "interpolations": "image_interpolation",
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One streamed answer."""

    answerer: Answerer
    asked: Asked
    settled: Settled
    ticket: Ticket

    async def events(self) -> AsyncIterator[bytes]:
        """The answer, piece by piece; an error of whatever kind is its last one."""
        async for event in kept_alive(self.happening(), KEEP_ALIVE_SECONDS):
            if event is None:
                yield STILL
            elif isinstance(event, BaseException):
                yield written({"type": "error", "error": refusal_of(event).body})
            else:
                yield written(event)

    async def happening(self) -> AsyncGenerator[dict[str, Any], None]:
        """The same as data, without comments; an error is raised."""
        async for event in self.ticket.events():
            if isinstance(event, Stepped):
                yield _progress(event)
            elif isinstance(event, Unfinished):
                yield await self._partial(event)
            elif isinstance(event, Painted):
                yield await self._completed(event)

    async def _partial(self, event: Unfinished) -> dict[str, Any]:
        wanted, recipe = self.asked.shape.size, self.settled.recipe
        if wanted is None and recipe.task != "inpaint":  # of which the whole picture is shown
            wanted = recipe.picture_size
        encoders = self.answerer.encoders
        data, size = await asyncio.get_running_loop().run_in_executor(encoders, _small, event.image, wanted)
        return {
            **self._event("partial_image", size),
            "b64_json": base64.b64encode(data).decode("ascii"),
            "output_format": "png",
            "partial_image_index": event.number,
            "dalle": {"index": event.k},
        }

    async def _completed(self, event: Painted) -> dict[str, Any]:
        entry, size = await self.answerer.entry(self.asked, event.picture, "")
        extra = {**facts(self.asked, self.settled), **entry["dalle"], "index": event.k}
        return {**self._event("completed", size), **entry, "dalle": extra}

    def _event(self, kind: str, size: Size) -> dict[str, Any]:
        return {
            "type": f"{_NAMES[self.asked.route]}.{kind}",
            "created_at": int(time.time()),
            **described(self.asked, size),
        }


def _progress(event: Stepped) -> dict[str, Any]:
    """How far a picture is. Clients of the API get it if they ask, since they do not know it."""
    facts = {"index": event.k, "stage": event.stage, "step": event.step, "steps": event.steps}
    return {"type": "dalle.progress", "dalle": {**facts, "done": round(event.done, 3)}}


async def kept_alive(source: AsyncIterator[T], seconds: float) -> AsyncIterator[T | BaseException | None]:
    """What comes from a source, and None whenever nothing has come for so long. An error is the last that comes."""
    ended = object()
    while True:
        coming: asyncio.Future[Any] = asyncio.ensure_future(anext(source, ended))
        try:
            while not coming.done():
                done, _ = await asyncio.wait([coming], timeout=seconds)
                if not done:
                    yield None
        finally:
            coming.cancel()
        error = coming.exception()
        if error is not None or coming.result() is ended:
            if error is not None:
                yield error
            return
        yield coming.result()


def written(event: dict[str, Any]) -> bytes:
    """An event as it goes over the wire."""
    return f"event: {event['type']}\ndata: ".encode("ascii") + to_json(event) + b"\n\n"


def _small(image: "Image", size: Size | None) -> tuple[bytes, Size]:
    """An unfinished picture in the size of the finished one; None if it has that."""
    whole = fitted(image.convert("RGB"), size)
    target = io.BytesIO()
    whole.save(target, "PNG", compress_level=1)
    return target.getvalue(), Size(whole.width, whole.height)
