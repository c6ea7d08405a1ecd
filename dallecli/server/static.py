"""The files of the page, which are part of this package: read once, and sent with what a browser may do with them."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from dallecli.server.refusal import unusable

INDEX: Final = "index.html"

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Stated here, because what a system takes files for differs."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing but our own files runs, and the page talks to nobody but its server."""

_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def page_files() -> Mapping[str, bytes]:
    """The files of the page by name."""
    folder = files("dallecli.server") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir() if PurePath(file.name).suffix in TYPES}


class Static:
    """Answers with files of the page, or that they have not changed."""

    def __init__(self) -> None:
        self._files = page_files()
        self._tags = {name: f'"{hashlib.sha256(data).hexdigest()[:32]}"' for name, data in self._files.items()}

    def answer(self, request: Request, name: str) -> Response:
        """The file of this name. Raises Refusal where there is none."""
        if name not in self._files:
            raise unusable(404, "the page has no such file", code="file_not_found")
        headers = {**_HEADERS, "etag": self._tags[name]}
        if self._tags[name] in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        return Response(self._files[name], 200, headers, TYPES[PurePath(name).suffix])
