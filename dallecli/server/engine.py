"""The server's side of a `RemoteEngine`: questions of the engine protocol, and the files that they are about.

What is asked is checked as a request of the API is: no text is taken for a path, a model is one by its name, and a
recipe is revived like one from a stranger's picture. Then it waits for its turn like everything else.
"""

import asyncio
import hashlib
import math
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dallecli.engine import Engine
from dallecli.errors import BadInput, BadRecipe, BadSetting
from dallecli.fields import Fields
from dallecli.knowledge import Knowledge
from dallecli.limits import COUNT_LIMIT, TOGETHER
from dallecli.recipe import Recipe
from dallecli.remote.protocol import (
    ENGINE,
    FRAMES,
    INPUT_MISSING,
    INPUTS,
    LOOKS,
    MAJOR,
    OTHER_PROTOCOL,
    PROTOCOL,
    QUESTIONS,
    QUIET_SECONDS,
    SHA256,
    files_named,
    knowledge_said,
    recipe_heard,
    settled_said,
    step_said,
    values_heard,
)
from dallecli.server.access import PROMPT
from dallecli.server.body import Bodies
from dallecli.server.engine_tickets import CodingTicket, EmbeddingTicket, EngineTicket, RecipesTicket, image_said
from dallecli.server.files import Inputs
from dallecli.server.leaving import while_connected
from dallecli.server.names import Names
from dallecli.server.painter import Painter
from dallecli.server.refusal import Refusal, refusal_of, unusable
from dallecli.server.serving import Serving
from dallecli.server.stream import kept_alive
from dallecli.server.ticket import Event, Painted, Progressed, Scored, Ticket
from dallecli.server.wire import json_response, to_json
from dallecli.tasks.builder import build_coding, build_embed, build_request
from dallecli.tasks.table import TASKS
from dallecli.tasks.task import ModelRequest
from dallecli.tasks.task import Request as PaintRequest

Frames = AsyncIterator[bytes]

WIDE: Final = 16
"""A request whose pictures are painted with each other alone takes no more places in the queue than this."""


@dataclass(frozen=True, slots=True)
class Message:
    """A question: its fields, the bytes of the files that it names, and the request that it came with."""

    fields: Fields
    files: Mapping[str, bytes]
    request: Request

    def recipe(self, value: object) -> Recipe:
        """A recipe in it. Raises BadRecipe."""
        return recipe_heard(value, self.files.__getitem__)

    def values(self) -> dict[str, object]:
        """The values of a request in it. Raises BadSetting."""
        found = values_heard(_table(self.fields.take("values")), self.files.__getitem__)
        self.fields.finish()
        return found


@dataclass(frozen=True, slots=True)
class EngineRoutes:
    """The paths of the engine protocol."""

    names: Names
    serving: Serving
    painter: Painter
    bodies: Bodies
    inputs: Inputs
    running: dict[str, Ticket] = field(default_factory=dict)
    """What is being painted or waits for it, by numbers that nobody can guess."""

    def handlers(self) -> dict[tuple[str, str], Any]:
        """What answers each method and path."""
        asked = {
            "resolve": self._resolve,
            "revive": self._revive,
            "paint": self._paint,
            "paint_together": self._paint_together,
            "knowledge": self._knowledge,
            "embed": self._embed,
            "encode": self._code,
            "decode": self._code,
            **dict.fromkeys(ABOUT, self._about),
        }
        return {
            **{("POST", f"{QUESTIONS}/{name}"): Question(self, name, answer) for name, answer in asked.items()},
            ("POST", f"{ENGINE}/{{rest:path}}"): _no_question,
            **{(method, f"{INPUTS}/{{sha256}}"): self._input for method in ("HEAD", "PUT")},
            ("GET", f"{LOOKS}/{{ticket}}"): Look(self),
        }

    async def _input(self, request: Request) -> Response:
        """Whether a file is here, or a file that comes. Raises Refusal."""
        sha256 = request.path_params["sha256"]
        if re.fullmatch(SHA256, sha256) is None:
            raise unusable(404, "a file is called by its sha256", code="unknown_url")
        if request.method == "HEAD":
            return Response(None, 200 if self.inputs.has(sha256) else 404)
        async with self.bodies.read_bytes(request) as data:
            if await asyncio.to_thread(_digest, data) != sha256:
                raise unusable(400, "the file is not what its sha256 says", code="input_mismatch")
            await self.inputs.put(sha256, data)
        return json_response({"sha256": sha256}, 201)

    # What is asked

    async def _resolve(self, message: Message, _: str) -> Frames:
        task = message.fields.choice("task", tuple(TASKS))
        values = self._named(message.values())
        request = build_request(task, values, self.serving.defaults, paths=False)
        recipe = await self.painter.ask(_resolved, request, weights=_looks(request))
        yield frame({"settled": settled_said(recipe)})

    async def _revive(self, message: Message, _: str) -> Frames:
        fields = message.fields
        model = fields.text("model", optional=True) if "model" in fields else None
        recipe = message.recipe(fields.take("recipe"))
        fields.finish()
        revived = await self._revived(recipe, None if model is None else self.names.asked(model))
        yield frame({"settled": settled_said(revived)})

    async def _about(self, message: Message, question: str) -> Frames:
        recipe = message.recipe(message.fields.take("recipe"))
        message.fields.finish()
        revived = await self._revived(recipe)
        yield frame({"value": await self.painter.ask(ABOUT[question], revived, weights=False)})

    async def _knowledge(self, message: Message, _: str) -> Frames:
        model = self.names.asked(message.fields.text("model"))
        message.fields.finish()
        yield frame({"knowledge": knowledge_said(await self.painter.ask(_known, model))})

    async def _paint(self, message: Message, _: str) -> Frames:
        recipes, expected = await self._recipes(message, most=1)
        scores = _scores(message.fields.take("scores")) if "scores" in message.fields else {}
        message.fields.finish()
        ticket = RecipesTicket(recipes, self.names.folder(recipes[0].model), expected, scores)
        async for data in self._painted(message, ticket):
            yield data

    async def _paint_together(self, message: Message, _: str) -> Frames:
        recipes, expected = await self._recipes(message, most=TOGETHER)
        message.fields.finish()
        alike = recipes[0].alike
        if alike is None or any(recipe.alike != alike for recipe in recipes):
            raise BadRecipe("these recipes are not painted together")
        ticket = RecipesTicket(recipes, self.names.folder(recipes[0].model), expected, alike=alike)
        async for data in self._painted(message, ticket):
            yield data

    async def _embed(self, message: Message, _: str) -> Frames:
        request = build_embed(self._named(message.values()), self.serving.defaults, paths=False)
        async for data in self._painted(message, EmbeddingTicket(request)):
            yield data

    async def _code(self, message: Message, question: str) -> Frames:
        request = build_coding(question, self._named(message.values()), self.serving.defaults, paths=False)
        async for data in self._painted(message, CodingTicket(request)):
            yield data

    # How it is answered

    async def _recipes(self, message: Message, *, most: int) -> tuple[list[Recipe], list[Recipe]]:
        """The recipes that a message wants to be painted, and those that will follow."""
        fields, found = message.fields, []
        for name, least in (("recipes", 1), ("expected", 0)):
            values = fields.take(name) if name in fields else []
            if not isinstance(values, list) or not least <= len(values) <= (most if least else TOGETHER):
                raise fields.wrong(name, values, f"a list of {least} to {most} recipes")
            found.append([await self._revived(message.recipe(value)) for value in values])
        return found[0], found[1]

    async def _revived(self, recipe: Recipe, model: str | None = None) -> Recipe:
        """A recipe that is as good as one of ours."""
        model = model if model is not None else self.names.folder(recipe.model)
        return await self.painter.ask(_revived, recipe, model, weights=any(s.kind == "picture" for s in recipe.sources))

    def _named(self, values: dict[str, object]) -> dict[str, object]:
        """The values of a request with models as this server calls them. Raises UnknownModel, BadSetting."""
        for name in ("model", "judge"):
            value = values.get(name)
            if isinstance(value, str):
                values[name] = self.names.asked(value)
            elif value is not None or name == "model":
                raise BadSetting(f"{name!r} is no name of a model")
        return values

    async def _painted(self, message: Message, ticket: EngineTicket) -> Frames:
        """What comes of a ticket, until it is over. Raises what ended it."""
        with self.painter.room(min(ticket.count, WIDE)):
            pass
        if self.serving.log_prompts and isinstance(ticket, RecipesTicket):
            message.request.scope[PROMPT] = ticket.recipes[0].prompt
        self.painter.enter(ticket)
        number = secrets.token_hex(16)
        self.running[number] = ticket
        try:
            yield frame({"job": number})
            async for event in ticket.events():
                yield _event(ticket, event)
        finally:
            del self.running[number]
            self.painter.cancel(ticket)


class Question:
    """A path of the protocol: reads what is asked, and sends frames as long as the client wants them."""

    def __init__(self, routes: EngineRoutes, name: str, answer: Callable[[Message, str], Frames]) -> None:
        self._routes = routes
        self._name = name
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with suppress(ClientDisconnect):
            async with self._routes.bodies.read(request, pictures=False) as body:
                await while_connected(request, self._work(request, body.values, send))

    async def _work(self, request: Request, values: dict[str, object], send: Send) -> None:
        with self._routes.bodies.holding() as take:
            files = {sha256: await self._file(sha256, take) for sha256 in files_named(values)}
            fields = Fields(values, BadSetting, where="the message")
            await _send_frames(self._answer(Message(fields, files, request), self._name), self._routes.painter, send)

    async def _file(self, sha256: str, take: Callable[[int], None]) -> bytes:
        """A file that a client has sent. Raises Refusal."""
        data = await self._routes.inputs.find(sha256) if self._routes.inputs.has(sha256) else None
        if data is None:
            failure = BadInput("the server does not have this file, or not any more", where=sha256)
            raise Refusal(failure, status=409, code=INPUT_MISSING)
        take(len(data))
        return data


class Look:
    """Unfinished pictures, after the next step."""

    def __init__(self, routes: EngineRoutes) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        with suppress(ClientDisconnect):
            await while_connected(request, self._work(request, send))

    async def _work(self, request: Request, send: Send) -> None:
        ticket = self._routes.running.get(request.path_params["ticket"])
        if ticket is None:
            raise unusable(404, "nothing of this number is being painted", code="unknown_url")
        await _send_frames(self._images(ticket), self._routes.painter, send)

    async def _images(self, ticket: Ticket) -> Frames:
        for image in await ticket.look():
            name, facts, data = image_said(image.convert("RGB"))
            yield frame({name: facts}, data)


async def _no_question(request: Request) -> Response:
    """What is asked in another version of the protocol, or not known in this one. Raises Refusal."""
    major = request.path_params["rest"].partition("/")[0]
    if major != str(MAJOR):
        what = f"this server speaks {PROTOCOL}, and is asked in dalle-engine/{major:.20}"
        raise unusable(404, what, "the same version of dalle on both sides", code=OTHER_PROTOCOL)
    raise unusable(404, f"{PROTOCOL} has no such question", code="unknown_url")


async def _send_frames(frames: Frames, painter: Painter, send: Send) -> None:
    """Send an answer. An error before its first frame is raised; one after it is the last frame."""
    begun, last = False, frame({"end": True})
    async for data in kept_alive(frames, QUIET_SECONDS):
        if isinstance(data, BaseException):
            if not begun:
                raise data
            refusal = refusal_of(data)
            last = frame({"error": {**refusal.body, "status": refusal.status}})
            break
        if not begun:
            headers = [(b"content-type", FRAMES.encode()), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            begun = True
        said = data if data is not None else frame({"waiting": painter.queue.pictures})
        await send({"type": "http.response.body", "body": said, "more_body": True})
    if not begun:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", FRAMES.encode())]})
    await send({"type": "http.response.body", "body": last, "more_body": False})


def frame(value: Mapping[str, Any], data: bytes = b"") -> bytes:
    """A frame with a value by its name, and bytes behind it."""
    return to_json({**value, "bytes": len(data)} if data else value) + b"\n" + data


def _event(ticket: EngineTicket, event: Event) -> bytes:
    """What happens to a ticket, as a frame."""
    if isinstance(event, Painted):
        name, facts, data = ticket.said(event.picture)
        return frame({name: facts}, data)
    if isinstance(event, Progressed):
        return frame({"step": step_said(event.progress)})
    if isinstance(event, Scored):
        return frame({"score": {"seed": event.seed, "score": event.score}})
    raise TypeError(type(event).__name__)


def _scores(value: object) -> dict[int, float]:
    """The scores of a best-of that the client has from before. Raises BadSetting."""
    if not isinstance(value, list) or len(value) > COUNT_LIMIT:
        raise BadSetting("the scores are no list of pairs")
    found: dict[int, float] = {}
    for pair in value:
        match pair:
            case [int(seed), int(score) | float(score)] if not isinstance(score, bool) and math.isfinite(score):
                found[seed] = float(score)
            case _:
                raise BadSetting("the scores are no list of pairs")
    return found


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BadSetting("the values are no table")
    return value


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _looks(request: ModelRequest) -> bool:
    """Whether it may take weights to say what is thought of a request: it starts from pictures."""
    return any(source.kind == "picture" for source in request.sources)


def _resolved(engine: Engine, request: PaintRequest) -> Recipe:
    return engine.resolve(request)


def _known(engine: Engine, model: str) -> Knowledge:
    return engine.knowledge(model)


def _revived(engine: Engine, recipe: Recipe, model: str | None) -> Recipe:
    return engine.revive(recipe, model)


ABOUT: Final[Mapping[str, Callable[[Engine, Recipe], object]]] = {
    "group": lambda engine, recipe: engine.group(recipe),
    "reads_ahead": lambda engine, recipe: engine.reads_ahead(recipe),
    "machine": lambda engine, recipe: engine.machine(recipe),
    "digest": lambda engine, recipe: engine.digest(recipe),
    "judge_digest": lambda engine, recipe: engine.judge_digest(recipe),
    "memory": lambda engine, recipe: engine.memory(recipe),
}
"""What can be asked about a recipe."""
