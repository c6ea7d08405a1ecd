"""The document of the API at `/openapi.json`, in OpenAPI 3.1: made from the tables that the server itself works by."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from dallecli.limits import BODY_BYTES, IDEMPOTENCY_KEY_CHARACTERS, JSON_BYTES, in_words
from dallecli.server.api_fields import FIELDS, PICTURES, ROUTES, Route
from dallecli.server.dials import DIALS
from dallecli.server.routes import JSON, OPERATIONS, Operation
from dallecli.server.schema import Schema, link, listed, or_empty, table
from dallecli.version import __version__

FORM: Final = "multipart/form-data"

NEEDED: Final[Mapping[Route, tuple[str, ...]]] = {
    **dict.fromkeys(ROUTES, ()),
    "edits": ("prompt",),
}
"""The fields without which there is nothing to do. A generation has a prompt or a class."""

_ALWAYS: Final = (401, 403)
"""Statuses that every path can have: no token, or a web page of another server."""

_REASONS: Final[Mapping[int, str]] = {
    400: "A field is wrong, or the body cannot be read.",
    401: "The token is missing, or not the right one.",
    403: "The Host or the Origin is not one that is let in.",
    404: "There is no such model, file or job.",
    408: "The body came too slowly.",
    409: "A file that is named has not been sent.",
    413: f"The body is larger than {in_words(BODY_BYTES)}; of JSON without pictures, {in_words(JSON_BYTES)}.",
    415: "The body is neither JSON nor a form.",
    422: "The Idempotency-Key belongs to another request.",
    429: "Too much is waiting: try again after `Retry-After` seconds.",
    500: "Painting failed; it would fail again.",
    502: "The language model that rewrites prompts has failed.",
    503: "The server is going down, or the request's time is over.",
    507: "The disk is full.",
}
_TO_TRY_AGAIN: Final = (429, 503)


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.shown, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dalle serve",
            "version": __version__,
            "summary": "The images API of OpenAI, on this machine.",
            "description": "All paths exist with and without `/v1`. Every error has the shape of `Error`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Where the server has a token."},
                "key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "The same token."},
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    said: dict[str, Any] = {"summary": operation.says, "operationId": _name(operation), "responses": {}}
    parameters = _parameters(operation)
    if parameters:
        said["parameters"] = parameters
    if operation.fields is not None:
        said["requestBody"] = {"required": True, "content": _bodies(operation.fields)}
    if operation.body is not None:
        content = {kind: {"schema": schema} for kind, schema in operation.body.items()}
        said["requestBody"] = {"required": True, "content": content}
    if operation.open:
        said["security"] = [{}]
    content = {kind: {"schema": schema} for kind, schema in operation.answers.items()}
    if operation.status < 400:
        said["responses"][str(operation.status)] = {"description": "What was asked for.", "content": content}
    for status in (*_ALWAYS, *operation.refusals):
        said["responses"][str(status)] = _refusal(status)
    if operation.path == "/ready":
        said["responses"]["503"] = {"description": "It is not ready.", "content": content}
    said["responses"]["default"] = {"description": "Any other error.", "content": _ERROR}
    return said


def _name(operation: Operation) -> str:
    words = operation.template.replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([operation.method.lower(), *(word for word in words if word)])


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [_parameter(name, "path", {"type": "string"}) for name in operation.parameters]
    found += [_parameter(name, "query", schema) for name, schema in (operation.query or {}).items()]
    if operation.repeats:
        found.append(_parameter("Idempotency-Key", "header", _KEY))
    return found


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _refusal(status: int) -> dict[str, Any]:
    said: dict[str, Any] = {"description": _REASONS[status], "content": _ERROR}
    if status in _TO_TRY_AGAIN:
        header = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
        said["headers"] = {"Retry-After": header}
    return said


def _bodies(route: Route) -> dict[str, Any]:
    """What a request of a route may send: JSON with base64, or a form with files."""
    fields = {name: field.schema for name, field in FIELDS.items() if route in field.routes} | dict(DIALS)
    needed = [*NEEDED[route], *(name for name in PICTURES[route] if name == "image")]
    files = {"image": _FILE, "image[]": _FILE, "images": _FILE, "images[]": _FILE, "mask": _FILE}
    forms = {name: schema for name, schema in files.items() if name.removesuffix("[]") in PICTURES[route]}
    texts = dict.fromkeys(PICTURES[route], link("Base64"))
    return {
        JSON: {"schema": _closed({**fields, **texts}, needed)},
        FORM: {"schema": _closed({**{name: or_empty(schema) for name, schema in fields.items()}, **forms}, needed)},
    }


def _closed(fields: Mapping[str, Schema], needed: list[str]) -> Schema:
    return {**table(fields, needed), "additionalProperties": False}


_FILE: Final[Schema] = {
    "type": "string",
    "format": "binary",
    "description": "A PNG, JPEG or WebP; `image[]` is a list.",
}

_KEY: Final[Schema] = {
    "type": "string",
    "pattern": f"^[!-~]{{1,{IDEMPOTENCY_KEY_CHARACTERS}}}$",
    "description": "A request with the same key and the same body within ten minutes gets the same answer.",
}

_ERROR: Final = {JSON: {"schema": link("Error")}}

_TEXT: Final[Schema] = {"type": "string"}
_OPTIONAL: Final[Schema] = {"type": ["string", "null"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_SECONDS: Final[Schema] = {"type": "number", "minimum": 0}

_SCHEMAS: Final[Mapping[str, Schema]] = {
    "Error": table(
        {
            "error": table(
                {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": _OPTIONAL,
                    "code": _OPTIONAL,
                    "dalle": table({}, says="The same as `--json` has it: error, exit_code, what, where, hint."),
                },
                ("message", "type", "param", "code", "dalle"),
            )
        },
        ("error",),
    ),
    "Base64": {
        "anyOf": [
            {"type": "string", "description": "Base64, or a data URL. No URL is ever fetched."},
            table(dict.fromkeys(("b64_json", "image_url", "url"), _TEXT)),
            listed({"anyOf": [_TEXT, table(dict.fromkeys(("b64_json", "image_url", "url"), _TEXT))]}),
        ]
    },
    "Picture": table(
        {
            "b64_json": _TEXT,
            "url": {"type": "string", "format": "uri"},
            "revised_prompt": _TEXT,
            "dalle": table({"seed": _COUNT, "seconds": _SECONDS, "scores": table({}), "recipe": table({})}),
        },
        ("dalle",),
    ),
    "Pictures": table(
        {
            "created": _COUNT,
            "data": listed(link("Picture")),
            **dict.fromkeys(("size", "quality", "background", "output_format", "safety_identifier"), _TEXT),
            "dalle": table(
                {
                    **dict.fromkeys(("task", "model", "painted"), _TEXT),
                    "seed": _COUNT,
                    "warnings": listed(_TEXT),
                    "ignored": listed(_TEXT, "Fields of the API that did nothing."),
                    "unknown": table({"words": listed(_TEXT), "pictures": listed(_TEXT)}),
                    **dict.fromkeys(("seconds", "queued_seconds"), _SECONDS),
                }
            ),
        },
        ("created", "data", "size", "quality", "background", "output_format", "dalle"),
    ),
    "Model": table(
        {"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT},
        ("id", "object", "created", "owned_by"),
    ),
    "Models": table({"object": {"const": "list"}, "data": listed(link("Model"))}, ("object", "data")),
    "State": table(
        {
            "status": {"enum": ["ok", "loading", "draining"]},
            "model": _TEXT,
            "waiting": _COUNT,
            "version": _TEXT,
            "engine": _TEXT,
        },
        ("status", "model", "waiting", "version"),
    ),
}
