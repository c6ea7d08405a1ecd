"""One question to a language model: OpenAI's chat completions over HTTP, with bounds on all that may come back."""

import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from typing import Any, Final, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from dallecli.errors import NetworkError, reason
from dallecli.limits import CHAT_BYTES, in_words
from dallecli.rewriting.endpoint import KEY, Endpoint
from dallecli.safe import safe
from dallecli.version import __version__

T = TypeVar("T")

Messages = Sequence[dict[str, str]]
"""A conversation: each message has a `role` and a `content`."""

AS_TYPED: Final = "--rewrite optional paints what was typed, if need be"

RETRIED: Final = frozenset({429, 502, 503, 504})
"""The statuses of a server that is busy: after a pause it is asked once more."""
PAUSES: Final = (1.0, 3.0)

_QUOTED: Final = 200


def ask(endpoint: Endpoint, messages: Messages) -> str:
    """What a language model answers. Raises NetworkError, whatever goes wrong, and never with the key in it.

    Only the model and the messages are sent: of all other dials of the API some servers refuse each.
    """
    endpoint.check_online()
    return _within(lambda: _answer(endpoint, messages), endpoint)


def _answer(endpoint: Endpoint, messages: Messages) -> str:
    body = json.dumps({"model": endpoint.model, "messages": list(messages), "stream": False}).encode()
    until = time.monotonic() + endpoint.seconds
    for pause in PAUSES:
        status, data = _post(endpoint, body, until)
        if status not in RETRIED or time.monotonic() + pause > until:
            break
        time.sleep(pause)
    else:
        status, data = _post(endpoint, body, until)
    if status != 200:
        raise _refusal(endpoint, status, data)
    return _content(endpoint, data)


def _post(endpoint: Endpoint, body: bytes, until: float) -> tuple[int, bytes]:
    """The status and the body of an answer, of which no more than `CHAT_BYTES` is read."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": f"dalle/{__version__}"}
    if endpoint.sent_key is not None:
        headers["Authorization"] = f"Bearer {endpoint.sent_key}"
    asked = Request(endpoint.address, body, headers, method="POST")
    try:
        with _opened(endpoint, asked) as answer:
            return int(answer.status or 0), _read(endpoint, answer.read1, until)
    except (OSError, HTTPException, ValueError) as error:
        raise _unreachable(endpoint, error) from error


def _opened(endpoint: Endpoint, asked: Request) -> HTTPResponse | HTTPError:
    """An answer of whatever status. Raises what the library raises."""
    try:
        found: HTTPResponse = _opener(endpoint).open(asked, timeout=endpoint.seconds)
    except HTTPError as error:
        return error
    return found


class _NoRedirects(HTTPRedirectHandler):
    """Redirects are answers like others: prompts and keys go where somebody sent them, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _opener(endpoint: Endpoint) -> OpenerDirector:
    """Proxies as the environment has them, but none between this machine and itself."""
    proxies = ProxyHandler({}) if endpoint.local else ProxyHandler()
    return build_opener(_NoRedirects, proxies)


def _read(endpoint: Endpoint, read: Callable[[int], bytes], until: float) -> bytes:
    """All that comes. Raises NetworkError if it is too much, or does not end."""
    found = bytearray()
    while chunk := read(65536):
        found += chunk
        if len(found) > CHAT_BYTES:
            raise NetworkError(
                f"{_who(endpoint)} answers with more than {in_words(CHAT_BYTES)}", endpoint.url, AS_TYPED
            )
        if time.monotonic() > until:
            raise _late(endpoint)
    return bytes(found)


def _within(work: Callable[[], T], endpoint: Endpoint) -> T:
    """What some work returns or raises, if it does so in time.

    It has a thread of its own: a timeout of the HTTP library begins again with every byte. Raises NetworkError.
    """
    outcome: list[T | BaseException] = []
    over = threading.Event()

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # raised again where the answer is waited for
            outcome.append(error)
        over.set()

    threading.Thread(target=run, daemon=True, name="chat").start()
    if not over.wait(endpoint.seconds):
        raise _late(endpoint)
    (found,) = outcome
    if isinstance(found, BaseException):
        raise found
    return found


def _content(endpoint: Endpoint, data: bytes) -> str:
    """The text in an answer. Raises NetworkError for one that has none, or is none."""
    strange = f"{_who(endpoint)} does not answer as a chat does"
    hint = "is this its base URL? it often ends in /v1"
    try:
        facts = json.loads(data)
        content = facts["choices"][0]["message"]["content"]
    except (ValueError, RecursionError) as error:
        raise NetworkError(f"{strange}: it is not JSON", endpoint.url, hint) from error
    except (LookupError, TypeError) as error:
        raise NetworkError(f"{strange}: there is no choice in it", endpoint.url, hint) from error
    if not isinstance(content, str):
        raise NetworkError(f"{strange}: there is no text in it", endpoint.url, AS_TYPED)
    return content


def _refusal(endpoint: Endpoint, status: int, data: bytes) -> NetworkError:
    """What a status other than 200 means."""
    who = _who(endpoint)
    if status in (401, 403):
        if endpoint.key is not None and endpoint.sent_key is None:
            what = f"{who} wants a key ({status}), and none is sent where others could read it"
            return NetworkError(what, endpoint.url, "https://, or a server on this machine")
        what = f"{who} refuses the key in {KEY}" if endpoint.key is not None else f"{who} wants a key"
        return NetworkError(f"{what} ({status})", endpoint.url, f"set {KEY}")
    if 300 <= status < 400:
        return NetworkError(f"{who} is somewhere else ({status}), and redirects are not followed", endpoint.url, None)
    said = _said(endpoint, data)
    hint = "look at the address and at the name of the language model" if status < 500 and status != 429 else AS_TYPED
    return NetworkError(f"{who} answers {status}{f': {said}' if said else ''}", endpoint.url, hint)


def _said(endpoint: Endpoint, data: bytes) -> str:
    """What a server says of its error, in the shape of the API, without the key that it may quote."""
    try:
        error = json.loads(data)["error"]
        text = error["message"] if isinstance(error, dict) else error
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    if not isinstance(text, str):
        return ""
    return safe(text.replace(endpoint.key, "…") if endpoint.key is not None else text, _QUOTED)


def _unreachable(endpoint: Endpoint, error: Exception) -> NetworkError:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return _late(endpoint)
    said = reason(cause) if not isinstance(cause, socket.gaierror) else (cause.strerror or str(cause))
    text = safe(said or type(cause).__name__, _QUOTED)
    text = text.replace(endpoint.key, "…") if endpoint.key is not None else text
    hint = f"is it running? {AS_TYPED}" if endpoint.local else AS_TYPED
    return NetworkError(f"{_who(endpoint)} cannot be reached: {text}", endpoint.url, hint)


def _late(endpoint: Endpoint) -> NetworkError:
    return NetworkError(f"{_who(endpoint)} has not answered in {endpoint.seconds:g} seconds", endpoint.url, AS_TYPED)


def _who(endpoint: Endpoint) -> str:
    return safe(endpoint.model, 60)
