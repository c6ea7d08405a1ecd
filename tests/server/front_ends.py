"""What popular programs send, as it stands on the wire, and what each reads of the answer.

Made after their sources: the paths, the fields and their order, the names of parts and files, and whether a body has a
length or comes in chunks are theirs. Headers that no server reads, as versions, are only like theirs.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Reads = Callable[[Mapping[str, Any]], str]
"""Takes the picture out of an answer as a program does: base64, or a URL. Raises what the program stumbles over."""


PAINTED: Final = (256, 256)
"""The size of a picture whose size is not said: as large as it was painted."""


def base64_of(answer: Mapping[str, Any]) -> str:
    """As most do: `data[0].b64_json`."""
    found: str = answer["data"][0]["b64_json"]
    return found


def url_of(answer: Mapping[str, Any]) -> str:
    """As others do: `data[0].url`."""
    found: str = answer["data"][0]["url"]
    return found


@dataclass(frozen=True)
class Sending:
    """One request of a program. `sent`: its head and body; HOST, TOKEN and PICTURE are put in. size: of the picture."""

    program: str
    sent: bytes
    reads: Reads
    size: tuple[int, int]
    pictures: int = 1


def _post(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _json(path: str, headers: Mapping[str, str], fields: Mapping[str, Any], separators: tuple[str, str]) -> bytes:
    """A body in JSON, with the blanks that Python has (", ", ": ") and JavaScript has not."""
    body = json.dumps(fields, separators=separators, ensure_ascii=separators == _PYTHON).encode()
    return _post(path, {**headers, "Content-Type": "application/json", "Content-Length": "LENGTH"}, body)


def _form(path: str, headers: Mapping[str, str], boundary: str, *parts: bytes, chunked: bool = False) -> bytes:
    """A form, with the length that it has, or in chunks, as streams of Node are sent."""
    mark = boundary.encode()
    body = b"".join(b"--" + mark + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + mark + b"--\r\n"
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    if chunked:
        return _post(path, {**headers, **kind, "Transfer-Encoding": "chunked"}, CHUNKED + body)
    return _post(path, {**headers, **kind, "Content-Length": "LENGTH"}, body)


def _text(name: str, value: str) -> bytes:
    return f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()


def _file(name: str, filename: str, kind: str) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + b"PICTURE"


CHUNKED: Final = b"CHUNKED"
"""Before a body that is sent in chunks."""

_PYTHON: Final = (", ", ": ")
_NODE: Final = (",", ":")

_AIOHTTP: Final = {
    "Host": "HOST",
    "Authorization": "Bearer TOKEN",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "Python/3.11 aiohttp/3.13.2",
}
_OPENAI_NODE: Final = {
    "host": "HOST",
    "connection": "keep-alive",
    "accept": "application/json",
    "user-agent": "OpenAI/JS 5.8.2",
    "x-stainless-retry-count": "0",
    "x-stainless-lang": "js",
    "x-stainless-runtime": "node",
    "authorization": "Bearer TOKEN",
    "accept-language": "*",
    "sec-fetch-mode": "cors",
    "accept-encoding": "gzip, deflate",
}
_OPENAI_PYTHON: Final = {
    "Host": "HOST",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "Accept": "application/json",
    "User-Agent": "AsyncOpenAI/Python 2.15.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Async": "async:asyncio",
    "Authorization": "Bearer TOKEN",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
_AXIOS: Final = {
    "Accept": "application/json, text/plain, */*",
    "Authorization": "Bearer TOKEN",
    "User-Agent": "axios/1.12.1",
    "Accept-Encoding": "gzip, compress, deflate, br",
    "Host": "HOST",
    "Connection": "keep-alive",
}

SENDINGS: Final[tuple[Sending, ...]] = (
    Sending(
        "Open WebUI, as it is set up at first",
        _json(
            "/v1/images/generations",
            {**_AIOHTTP, "X-OpenWebUI-User-Name": "Ada%20L", "X-OpenWebUI-User-Role": "admin"},
            {
                "model": "dall-e-2",
                "prompt": "a red fox",
                "n": 1,
                "size": "512x512",
                "response_format": "b64_json",
            },
            _PYTHON,
        ),
        base64_of,
        (512, 512),
    ),
    Sending(
        "Open WebUI, with gpt-image and a version in the URL",
        _json(
            "/v1/images/generations?api-version=2025-04-01-preview",
            _AIOHTTP,
            {"model": "gpt-image-1", "prompt": "a red fox", "n": 2, "size": "auto"},
            _PYTHON,
        ),
        base64_of,
        PAINTED,
        2,
    ),
    Sending(
        "Open WebUI, an edit without a mask",
        _form(
            "/v1/images/edits",
            _AIOHTTP,
            "5f0e7c4d1c6b4c0fb1a0c1ffb6c0a9d3",
            _text("model", "gpt-image-1"),
            _text("prompt", "a red couch"),
            _text("n", "1"),
            _text("size", "512x512"),
            _file("image", "image.png", "image/png"),
        ),
        base64_of,
        (512, 512),
    ),
    Sending(
        "Open WebUI, an edit of a list, of the model that is set up",
        _form(
            "/v1/images/edits",
            _AIOHTTP,
            "8a7d0a2e51a24a2ca25b8d8a53b6a1f0",
            _text("model", "starter"),
            _text("prompt", "a red couch"),
            _text("response_format", "b64_json"),
            _file("image[]", "3f1a.png", "image/png"),
        ),
        base64_of,
        PAINTED,
    ),
    Sending(
        "LibreChat's DALL-E-3 tool",
        _json(
            "/v1/images/generations",
            _OPENAI_NODE,
            {
                "model": "dall-e-3",
                "quality": "standard",
                "style": "vivid",
                "size": "1792x1024",
                "prompt": "a red fox — in the snow",
                "n": 1,
            },
            _NODE,
        ),
        url_of,
        (1792, 1024),
    ),
    Sending(
        "LibreChat's tool for OpenAI's images",
        _json(
            "/v1/images/generations",
            _OPENAI_NODE,
            {
                "model": "gpt-image-1",
                "prompt": "a red fox",
                "n": 1,
                "background": "auto",
                "output_format": "png",
                "quality": "auto",
                "size": "auto",
            },
            _NODE,
        ),
        base64_of,
        PAINTED,
    ),
    Sending(
        "LibreChat's tool for OpenAI's images, an edit",
        _form(
            "/v1/images/edits",
            _AXIOS,
            "--------------------------712938471029384710293847",
            _text("model", "gpt-image-1"),
            _text("prompt", "a red couch"),
            _text("quality", "auto"),
            _text("size", "auto"),
            _file("image[]", "0f3c/upload.png", "image/png"),
            chunked=True,
        ),
        base64_of,
        PAINTED,
    ),
    Sending(
        "Home Assistant's generate_image",
        _json(
            "/v1/images/generations",
            _OPENAI_PYTHON,
            {
                "prompt": "a red fox",
                "model": "dall-e-3",
                "n": 1,
                "quality": "standard",
                "response_format": "url",
                "size": "1024x1024",
                "style": "vivid",
            },
            _NODE,  # the official client writes no blanks either
        ),
        url_of,
        (1024, 1024),
    ),
    Sending(
        "n8n, as base64",
        _json(
            "/v1/images/generations",
            _AXIOS,
            {
                "prompt": "a red fox",
                "model": "dall-e-2",
                "response_format": "b64_json",
                "n": 2,
                "size": "256x256",
            },
            _NODE,
        ),
        base64_of,
        (256, 256),
        2,
    ),
    Sending(
        "n8n, as a URL",
        _json(
            "/v1/images/generations",
            _AXIOS,
            {
                "prompt": "a red fox",
                "model": "dall-e-3",
                "response_format": "url",
                "quality": "hd",
                "size": "1024x1792",
                "style": "natural",
            },
            _NODE,
        ),
        url_of,
        (1024, 1792),
    ),
    Sending(
        "n8n, of gpt-image",
        _json(
            "/v1/images/generations",
            _AXIOS,
            {"prompt": "a red fox", "model": "gpt-image-1", "n": 1, "quality": "medium", "size": "1536x1024"},
            _NODE,
        ),
        base64_of,
        (1536, 1024),
    ),
)

LISTING: Final = _post("/v1/models", _OPENAI_PYTHON, b"").replace(b"POST", b"GET", 1)
"""Home Assistant's first request, to see whether its key is good."""
