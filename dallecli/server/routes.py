"""All paths of the server with what there is to say about them, in one table: who needs a token, and what is answered.

The application finds its handlers by it, the log and the counts name requests by it, and the document of the API is
made from it. All paths exist with and without `/v1` before them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import starlette.routing
from starlette.routing import BaseRoute

from dallecli.remote.protocol import ENGINE, FRAMES, INPUTS, LOOKS, QUESTIONS
from dallecli.server.api_fields import ROUTES, Route
from dallecli.server.schema import Schema, link, table, text, whole

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE"]

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"
HTML: Final = "text/html"

_BYTES: Final[Schema] = {"type": "string", "format": "binary"}
_LINES: Final[Schema] = {"type": "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What one method of one path does.

    path: as starlette has it, without `/v1`. answers: the schema of each media type of a success. status: of a success.
    fields: the route whose fields the body has, if it has them. body: the schemas of another body. open: whether it
    needs no token. repeats: whether an `Idempotency-Key` is looked at. query: the parameters of the URL. refusals: the
    statuses of errors that callers have to expect, besides those that every path has.
    """

    path: str
    says: str
    answers: Mapping[str, Schema]
    method: Method = "GET"
    status: int = 200
    fields: Route | None = None
    body: Mapping[str, Schema] | None = None
    open: bool = False
    repeats: bool = False
    query: Mapping[str, Schema] | None = None
    refusals: tuple[int, ...] = ()

    @property
    def template(self) -> str:
        """The path as OpenAPI has it: {id:path} is {id}."""
        return re.sub(r":\w+}", "}", self.path)

    @property
    def shown(self) -> str:
        """The template under which the document has it: with `/v1` what OpenAI's API has, too."""
        ours = self.open or self.path.startswith(("/metrics", "/dalle/"))
        return self.template if ours else f"/v1{self.template}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of those in its path."""
        return tuple(re.findall(r"{(\w+)}", self.template))


_OBJECT: Final[Mapping[str, Schema]] = {JSON: table({})}
_NATURAL: Final = whole("A number from 0 on.", 0)

_ASKING: Final = (400, 404, 408, 413, 415, 429, 500, 502, 503, 507)
"""The statuses of errors of what is asked with a body and painted."""

_SAYS: Final[Mapping[Route, str]] = {
    "generations": "Pictures of a prompt.",
    "edits": "A picture repainted where the mask says, or where it is transparent; without both, painted over.",
    "variations": "More pictures like one.",
    "interpolations": "The way between pictures, from the first that is sent to the last.",
}


def _images(route: Route) -> Operation:
    return Operation(
        method="POST",
        path=f"/images/{route}",
        says=_SAYS[route],
        answers={JSON: link("Pictures"), EVENTS: {**_LINES, "description": f"Server-sent events: {_STREAM}"}},
        fields=route,
        repeats=True,
        refusals=(*_ASKING, 422),
    )


_STREAM: Final = (
    "`….partial_image` with `b64_json` and `partial_image_index`, one `….completed` with `b64_json` for every picture "
    "of `n`, or an `error`, which is then the last. Other than in the API, `dalle.index` says which picture it is."
)

_API: Final[tuple[Operation, ...]] = (
    *(_images(route) for route in ROUTES),
    Operation(
        path="/models", says="The models that are on this machine, the default first.", answers={JSON: link("Models")}
    ),
    Operation(
        path="/models/{id:path}",
        says="One model, or what another name stands for.",
        answers={JSON: link("Model")},
        refusals=(404,),
    ),
    Operation(
        path="/files/{name}",
        says="A picture of an answer, for an hour.",
        answers={"image/png": _BYTES, "image/jpeg": _BYTES, "image/webp": _BYTES},
        open=True,
        refusals=(404,),
    ),
    Operation(
        path="/health", says="Whether the server lives, and what it does.", answers={JSON: link("State")}, open=True
    ),
    Operation(
        path="/ready",
        says="The same, with status 503 while the model is being opened and when the server is going down.",
        answers={JSON: link("State")},
        open=True,
    ),
    Operation(path="/metrics", says="Counts, in the text format of Prometheus.", answers={TEXT: _LINES}),
    Operation(
        path="/openapi.json", says="This document.", answers={JSON: table({"openapi": text("3.1.0")})}, open=True
    ),
)


def _pages() -> Iterator[Operation]:
    """What the page of the server is made of, and asks for."""
    yield Operation(path="/", says="The page.", answers={HTML: _LINES}, open=True)
    yield Operation(
        path="/page/{name}", says="A file of the page.", answers={"*/*": _BYTES}, open=True, refusals=(404,)
    )
    yield Operation(path="/dalle/state", says="What changes: jobs, and how many pictures are kept.", answers=_OBJECT)
    yield Operation(
        path="/dalle/pictures",
        says="The pictures that are kept, the newest first.",
        answers=_OBJECT,
        query={"q": text("Words that are all in a picture's."), "first": _NATURAL, "limit": _NATURAL},
        refusals=(400,),
    )
    one = "/dalle/pictures/{id}"
    yield Operation(path=one, says="A picture with its recipe and its command.", answers=_OBJECT, refusals=(404,))
    yield Operation(method="DELETE", path=one, says="Remove a picture.", answers=_OBJECT, refusals=(404,))
    yield Operation(path="/dalle/models", says="What each model can do, and its dials.", answers=_OBJECT)
    yield Operation(
        path="/dalle/words/{id:path}", says="The words that a model knows.", answers=_OBJECT, refusals=(404,)
    )
    yield Operation(
        method="POST",
        path="/dalle/check",
        says="What a generation would be warned of; nothing is painted.",
        answers=_OBJECT,
        fields="generations",
        refusals=_ASKING,
    )
    for route in ROUTES:
        yield Operation(
            method="POST",
            path=f"/dalle/jobs/{route}",
            says=f"Begin a job of the page: {_SAYS[route][0].lower()}{_SAYS[route][1:]}",
            answers=_OBJECT,
            status=202,
            fields=route,
            refusals=_ASKING,
        )
    yield Operation(
        path="/dalle/jobs/{id}/events",
        says="What has happened to a job, and what happens to its end.",
        answers={EVENTS: _LINES},
        refusals=(404,),
    )
    yield Operation(method="DELETE", path="/dalle/jobs/{id}", says="Cancel a job.", answers=_OBJECT, refusals=(404,))


_QUESTIONS: Final = {
    "resolve": "The recipe of a request.",
    "revive": "A recipe from a file, checked.",
    "paint": "The pictures of a recipe, as they are done.",
    "paint_together": "One picture of each of several recipes.",
    "knowledge": "What a model knows.",
    "embed": "Embeddings of pictures and sentences.",
    "encode": "The codes of pictures.",
    "decode": "The pictures of codes.",
    "group": "How many pictures of a recipe are painted at once.",
    "reads_ahead": "Whether the prompts of several recipes are read at once.",
    "machine": "What a recipe's pictures are painted on.",
    "digest": "The digest of the model of a recipe.",
    "judge_digest": "The digest of what judges its pictures.",
    "memory": "How much memory it takes.",
}
"""What `dalle … --server` asks, and what it is told."""


def _engine() -> Iterator[Operation]:
    """What an engine on another machine asks; the protocol is described where it is written."""
    frames, message = {FRAMES: _BYTES}, {JSON: table({})}
    for name, says in _QUESTIONS.items():
        yield Operation(
            method="POST", path=f"{QUESTIONS}/{name}", says=says, answers=frames, body=message, refusals=(*_ASKING, 409)
        )
    path = f"{ENGINE}/{{rest:path}}"
    yield Operation(method="POST", path=path, says="Other versions are refused.", answers={}, status=404, body=message)
    path = f"{INPUTS}/{{sha256}}"
    yield Operation(method="HEAD", path=path, says="Whether a file is here.", answers={}, refusals=(404,))
    yield Operation(
        method="PUT",
        path=path,
        says="A file that a question will name.",
        answers=_OBJECT,
        status=201,
        body={"application/octet-stream": _BYTES},
        refusals=(400, 404, 408, 413, 429, 507),
    )
    yield Operation(path=f"{LOOKS}/{{ticket}}", says="Unfinished pictures.", answers=frames, refusals=(404,))


OPERATIONS: Final[tuple[Operation, ...]] = (*_API, *_pages(), *_engine())


def routed(handlers: Mapping[tuple[str, str], Any]) -> list[BaseRoute]:
    """The routes of an application whose handlers are these, by method and path.

    Raises: KeyError for a path of which the table says nothing.
    """
    found = [(_BY_PATH[key], handler) for key, handler in handlers.items()]
    return [
        starlette.routing.Route(base + operation.path, handler, methods=[operation.method])
        for operation, handler in found
        for base in ("/v1", "")
    ]


def route_of(path: str) -> str:
    """The path in the table that a path is one of, of which there are few; "other" for what there is not."""
    path = path.removeprefix("/v1") or "/"
    return next((name for name, pattern in _PATTERNS if pattern.fullmatch(path)), "other")


def is_open(path: str) -> bool:
    """Whether a path needs no token."""
    return route_of(path) in _OPEN


def existing() -> str:
    """The paths of the API in a sentence; those of the page are the page's own."""
    methods: dict[str, list[str]] = {}
    for operation in _API:
        methods.setdefault(operation.method, []).append(operation.shown)
    return "; ".join(f"{method} {', '.join(paths)}" for method, paths in methods.items())


def _pattern(path: str) -> re.Pattern[str]:
    """What starlette takes for this path."""
    parts = re.split(r"{\w+(:path)?}", path)
    found = re.escape(parts[0])
    for kind, rest in zip(parts[1::2], parts[2::2], strict=True):
        found += (".+" if kind else "[^/]+") + re.escape(rest)
    return re.compile(found)


_BY_PATH: Final[Mapping[tuple[str, str], Operation]] = {(one.method, one.path): one for one in OPERATIONS}

# Those without parameters first: `/dalle/jobs/generations` is not the job of this name.
_PATTERNS: Final = tuple(
    (operation.template, _pattern(operation.path))
    for operation in sorted(OPERATIONS, key=lambda operation: len(operation.parameters))
)
_OPEN: Final = frozenset(operation.template for operation in OPERATIONS if operation.open)
