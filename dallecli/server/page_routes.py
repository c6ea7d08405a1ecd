"""The paths behind the page: its files, and below `/dalle` its jobs, its pictures, and what models can do."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from dallecli.server.abilities import abilities, words_of
from dallecli.server.api_fields import ROUTES, Route
from dallecli.server.body import Bodies
from dallecli.server.commands import generate_of, replay_of
from dallecli.server.gallery import Gallery, Shown
from dallecli.server.jobs import PageJob, PageJobs, doubts
from dallecli.server.names import Names
from dallecli.server.painter import Painter
from dallecli.server.refusal import invalid, unusable
from dallecli.server.serving import Serving
from dallecli.server.static import INDEX, Static
from dallecli.server.translate import Asked, translate
from dallecli.server.wire import json_response
from dallecli.version import __version__

Handler = Callable[[Request], Awaitable[Response]]

LISTED: Final = 100
"""Pictures in a part of the list, if nothing else is asked for."""

MOST_LISTED: Final = 1000


class Pictures:
    """`/`, `/page/…` and `/dalle/pictures/…`: what there is to see without a painter."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._static = Static()

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """What answers each method and path."""
        return {
            ("GET", "/"): self._index,
            ("GET", "/page/{name}"): self._file,
            ("GET", "/dalle/state"): self.state,
            ("GET", "/dalle/pictures"): self._list,
            ("GET", "/dalle/pictures/{id}"): self._one,
        }

    async def state(self, _: Request) -> Response:
        """What the page asks for again and again: it is small."""
        return json_response(await self.facts())

    async def facts(self) -> dict[str, Any]:
        """What changes, or tells the page what it is for."""
        await asyncio.to_thread(self.gallery.pictures)
        facts = {"version": __version__, "paints": False, "folder": self.gallery.folder.absolute().name}
        return {**facts, "pictures": self.gallery.version}

    async def _index(self, request: Request) -> Response:
        return self._static.answer(request, INDEX)

    async def _file(self, request: Request) -> Response:
        return self._static.answer(request, request.path_params["name"])

    async def _list(self, request: Request) -> Response:
        """The pictures with all words of `q`, the newest first: `limit` of them after `first` others."""
        words = request.query_params.get("q", "").casefold().split()
        first, limit = _number(request, "first", 0, 10**9), _number(request, "limit", LISTED, MOST_LISTED)
        found = [one for one in await asyncio.to_thread(self.gallery.pictures) if one.matches(words)]
        part = [one.to_dict() for one in found[first : first + limit]]
        facts = {"total": len(found), "incomplete": self.gallery.incomplete, "version": self.gallery.version}
        return json_response({"pictures": part, **facts})

    async def _one(self, request: Request) -> Response:
        """A picture with its whole recipe, and the command that paints it again."""
        shown = self.found(request)
        recipe = await asyncio.to_thread(self.gallery.recipe, shown)
        whole = {**shown.to_dict(), "recipe": None if recipe is None else recipe.to_dict()}
        command = None if recipe is None else await self.command(shown, recipe)
        return json_response({**whole, "command": command})

    async def command(self, shown: Shown, recipe: Any) -> str:
        """What paints a picture again in a shell."""
        return replay_of(self.gallery.path(shown))

    def found(self, request: Request) -> Shown:
        """The picture that a request names. Raises Refusal."""
        shown = self.gallery.find(request.path_params["id"])
        if shown is None:
            raise unusable(404, "there is no such picture, or not any more", code="picture_not_found")
        return shown


class Studio(Pictures):
    """The same with a painter: jobs, models, and the removal of pictures."""

    def __init__(
        self, gallery: Gallery, jobs: PageJobs, names: Names, painter: Painter, bodies: Bodies, serving: Serving
    ) -> None:
        super().__init__(gallery)
        self._jobs = jobs
        self._names = names
        self._painter = painter
        self._bodies = bodies
        self._serving = serving

    def handlers(self) -> dict[tuple[str, str], Handler]:
        return {
            **super().handlers(),
            ("DELETE", "/dalle/pictures/{id}"): self._remove,
            ("GET", "/dalle/models"): self._models,
            ("GET", "/dalle/words/{id:path}"): self._words,
            ("POST", "/dalle/check"): self._check,
            ("GET", "/dalle/jobs/{id}/events"): self._follow,
            ("DELETE", "/dalle/jobs/{id}"): self._cancel,
            **{("POST", f"/dalle/jobs/{name}"): self._starter(name) for name in ROUTES},
        }

    async def facts(self) -> dict[str, Any]:
        painter = self._painter
        status = "draining" if painter.draining else "ok" if painter.ready else "loading"
        more = {"paints": True, "status": status, "waiting": painter.queue.pictures, "jobs": self._jobs.listed()}
        return {**await super().facts(), **more}

    async def command(self, shown: Shown, recipe: Any) -> str:
        name = self._serving.model if recipe.model == self._names.default.name else recipe.model
        found = await self._painter.ask(generate_of, recipe, name, self._serving.defaults)
        own = name if name != recipe.model else None
        return found if found is not None else replay_of(self.gallery.path(shown), own)

    async def _remove(self, request: Request) -> Response:
        await asyncio.to_thread(self.gallery.remove, self.found(request))
        return json_response({"removed": True})

    async def _models(self, _: Request) -> Response:
        listed = await asyncio.to_thread(self._names.listed)
        found = [await asyncio.to_thread(abilities, self._names, one["id"]) for one in listed]
        return json_response({"models": found, "default": self._names.default.name})

    async def _words(self, request: Request) -> Response:
        return json_response(await asyncio.to_thread(words_of, self._names, request.path_params["id"]))

    async def _check(self, request: Request) -> Response:
        """What a request would be warned of, which is not painted: words that the model does not know or read."""
        async with self._bodies.read(request, pictures=False) as body:
            asked = await self._painter.check(translate, "generations", body, self._names)
            if asked.has_pictures:
                raise invalid("image", "only words are checked")
            recipe = (await self._painter.preview(asked)).recipe
        return json_response(doubts(recipe))

    def _starter(self, route: Route) -> Handler:
        """Begins a job with the same body as the path of the API has."""

        async def start(request: Request) -> Response:
            async with AsyncExitStack() as held:
                body = await held.enter_async_context(self._bodies.read(request, pictures=route != "generations"))
                asked = await self._painter.check(translate, route, body, self._names)
                asked = _painted_as_wanted(asked)
                job = await self._jobs.start(asked, held)
            return json_response(job.facts(self._painter), 202)

        return start

    async def _follow(self, request: Request) -> Response:
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self._job(request).follow(), 200, headers, "text/event-stream; charset=utf-8")

    async def _cancel(self, request: Request) -> Response:
        job = self._job(request)
        self._jobs.cancel(job)
        return json_response({"id": job.id, "cancelled": True})

    def _job(self, request: Request) -> PageJob:
        job = self._jobs.find(request.path_params["id"])
        if job is None:
            raise unusable(404, "there is no such job, or not any more", code="job_not_found")
        return job


def _painted_as_wanted(asked: Asked) -> Asked:
    """A square is painted in its size, and not cut from another: the page offers the sizes that a model paints."""
    size = asked.shape.size
    if size is None or size.width != size.height or asked.task == "inpaint":
        return asked
    return replace(asked, values={**asked.values, "size": size.width}, shape=replace(asked.shape, size=None))


def _number(request: Request, name: str, default: int, most: int) -> int:
    """A number of the query. Raises Refusal."""
    text = request.query_params.get(name, str(default))
    if not (text.isdecimal() and text.isascii() and len(text) < 10 and int(text) <= most):
        raise invalid(name, f"{text[:40]!r} is no number from 0 to {most}")
    return int(text)
