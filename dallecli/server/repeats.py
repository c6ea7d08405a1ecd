"""Answers by `Idempotency-Key`: a request that comes again gets the answer of the first one, and is not painted again.

The first one with a key is painted to its end, also if its client leaves: it will ask again. Others with the same key
and the same body get what was answered so far at once, and the rest as it comes, byte for byte. An error is told to
those that are waiting, and not kept: the next request with its key begins anew.
"""

import asyncio
import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Message, Send

from dallecli.limits import IDEMPOTENCY_KEY_CHARACTERS, REPEATS, REPEATS_BYTES, REPEATS_SECONDS
from dallecli.server.body import Body
from dallecli.server.refusal import unusable

HEADER: Final = "idempotency-key"
REPLAYED: Final = (b"idempotent-replayed", b"true")
"""The header of an answer that was another request's, as Stripe has it."""

_KEY: Final = re.compile(f"[!-~]{{1,{IDEMPOTENCY_KEY_CHARACTERS}}}")


class Recording:
    """An answer that others can have as well. `body` is the digest of the request that it answers."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.until = time.monotonic() + REPEATS_SECONDS
        self.bytes = 0
        self.over = False
        self.kept = False
        """Whether the next one with its key may have it: not if there was an error."""
        self._messages: list[Message] = []
        self._error: BaseException | None = None
        self._more = asyncio.Event()

    async def record(self, answer: Callable[[Send], Awaitable[bool]], send: Send) -> None:
        """Have a request answered, and keep what is sent. `answer` says whether it went well, and may raise."""

        async def sending(message: Message) -> None:
            self._messages.append(dict(message))  # what is around us adds headers to the one that is sent
            self.bytes += len(message.get("body", b""))
            self._tell()
            await send(message)

        work = asyncio.ensure_future(answer(sending))
        try:
            self.kept = await work
        finally:
            self.over = True
            self._error = work.exception() if work.done() and not work.cancelled() else None
            self._tell()

    async def play(self, send: Send) -> None:
        """Answer with it, from its beginning to its end. Raises what the first request was refused with."""
        sent = 0
        while True:
            more = self._more
            for message in self._messages[sent:]:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message["headers"], REPLAYED]}
                await send(message)
                sent += 1
            if self.over and sent == len(self._messages):
                if self._error is not None and not sent:
                    raise self._error
                return
            if sent == len(self._messages):
                await more.wait()

    def _tell(self) -> None:
        """Wake all who wait for more."""
        self._more.set()
        self._more = asyncio.Event()


class Repeats:
    """The recordings of a server by their keys: for ten minutes, or until there is too much of younger ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Recording] = OrderedDict()

    def find(self, key: str, route: str, body: Body) -> tuple[Recording, bool]:
        """The recording of a key, and whether it is new, and its answer still to be made.

        Raises: Refusal for a key that is none, or that another request has.
        """
        if _KEY.fullmatch(key) is None:
            what = f"an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARACTERS} printable ASCII characters"
            raise unusable(400, what, code="invalid_idempotency_key")
        self._forget()
        digest = _digest(route, body)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = Recording(digest)
            return found, True
        if found.body != digest:
            what = "this Idempotency-Key belongs to a request with another body"
            raise unusable(422, what, "another key for another request", code="idempotency_key_reused")
        return found, False

    def _forget(self) -> None:
        """Leave out errors, and what is too old or too much; what is still being painted stays."""
        now = time.monotonic()
        self._kept = OrderedDict(
            (key, one) for key, one in self._kept.items() if not one.over or (one.kept and one.until > now)
        )
        over = [key for key, one in self._kept.items() if one.over]
        while over and (len(self._kept) >= REPEATS or sum(one.bytes for one in self._kept.values()) > REPEATS_BYTES):
            del self._kept[over.pop(0)]


def _digest(route: str, body: Body) -> str:
    """What a body says, however it was sent: forms have another boundary each time."""
    files = {name: [hashlib.sha256(data).hexdigest() for data in found] for name, found in body.files.items()}
    return hashlib.sha256(json.dumps([route, body.values, files], sort_keys=True).encode()).hexdigest()
