"""What a client gets: pictures as base64 and under URLs, in exactly the size that it wants, and how they were made."""

import asyncio
import base64
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from dallecli.errors import BadOutput, DiskFull
from dallecli.pictures.formats import FORMATS
from dallecli.pictures.picture import Picture
from dallecli.server.files import Files
from dallecli.server.gallery import Gallery
from dallecli.server.painter import Settled
from dallecli.server.sizes import fitted
from dallecli.server.ticket import Painted, Ticket
from dallecli.server.translate import Asked
from dallecli.size import Size


@dataclass(frozen=True, slots=True)
class Answerer:
    """Makes answers. `encoders` are the threads that write picture files; `base` is what URLs begin with.

    gallery: where the pictures go that are to be kept.
    """

    files: Files
    gallery: Gallery
    encoders: ThreadPoolExecutor

    async def whole(self, asked: Asked, settled: Settled, ticket: Ticket, base: str) -> dict[str, Any]:
        """The answer to a request without a stream, when all pictures are there. Raises what ended the ticket."""
        entries: dict[int, dict[str, Any]] = {}
        size, seconds = settled.recipe.picture_size, 0.0
        async for event in ticket.events():
            if isinstance(event, Painted):
                entries[event.k], size = await self.entry(asked, event.picture, base)
                seconds += event.picture.seconds
        return {
            "created": int(time.time()),
            "data": [entries[k] for k in sorted(entries)],
            **described(asked, size),
            "dalle": {**facts(asked, settled), "seconds": round(seconds, 3), "queued_seconds": round(ticket.waited, 3)},
        }

    async def entry(self, asked: Asked, picture: Picture, base: str) -> tuple[dict[str, Any], Size]:
        """One picture of an answer, and its size in pixels."""
        data, size = await self.encoded(picture, asked.shape.format, asked.shape.size)
        found: dict[str, Any] = {}
        if asked.shape.url:
            found["url"] = f"{base}/files/{await self.files.keep(data, asked.shape.format)}"
        kept = await self._kept(picture, data, asked.shape.format) if asked.shape.keep else {}
        if asked.shape.base64 or "not_kept" in kept:  # nothing that was painted is lost
            found["b64_json"] = base64.b64encode(data).decode("ascii")
        if asked.prompt is not None:
            found["revised_prompt"] = _revised(asked.prompt, picture)
        found["dalle"] = {
            "seed": picture.recipe.seed,
            "seconds": round(picture.seconds, 3),
            "scores": {name: round(score, 6) for name, score in picture.scores.items()},
            "recipe": picture.recipe.to_dict(),
            **kept,
        }
        return found, size

    async def _kept(self, picture: Picture, data: bytes, format: str) -> dict[str, Any]:
        """Put a picture into the gallery: what is said of it there, or why it is not there."""
        keep, suffix = self.gallery.keep, FORMATS[format]
        try:
            shown = await asyncio.get_running_loop().run_in_executor(self.encoders, keep, picture, data, suffix)
        except (BadOutput, DiskFull) as error:
            return {"not_kept": error.what}
        return {"picture": shown.to_dict()}

    async def encoded(self, picture: Picture, format: str, size: Size | None) -> tuple[bytes, Size]:
        """The bytes of a picture's file in this size, else its own; and that size."""
        return await asyncio.get_running_loop().run_in_executor(self.encoders, _encode, picture, format, size)


def _revised(prompt: str, picture: Picture) -> str:
    """What was painted: the words of the client, or what a language model made of them."""
    rewritten = picture.recipe.rewritten
    return prompt if rewritten is None else rewritten.sentences[0].painted


def described(asked: Asked, size: Size) -> dict[str, Any]:
    """What the API says of all pictures of an answer."""
    shape = asked.shape
    said: dict[str, Any] = {
        "size": str(size),
        "quality": shape.quality,
        "background": shape.background,
        "output_format": shape.format,
    }
    return said if shape.identifier is None else {**said, "safety_identifier": shape.identifier}


def facts(asked: Asked, settled: Settled) -> dict[str, Any]:
    """What only we say: what was asked of which model, and what came of it."""
    recipe = settled.recipe
    return {
        "task": recipe.task,
        "model": recipe.model,
        "seed": recipe.seed,
        "painted": str(recipe.size),
        "warnings": recipe.notices,
        "unknown": {"words": list(recipe.unknown.words), "pictures": list(recipe.unknown.pictures)},
        "ignored": list(settled.ignored),
    }


def _encode(picture: Picture, format: str, size: Size | None) -> tuple[bytes, Size]:
    image = fitted(picture.image, size)
    return replace(picture, image=image).encode(format), Size(image.width, image.height)
