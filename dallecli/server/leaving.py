"""Work for a client that ends when the client leaves."""

import asyncio
from collections.abc import Coroutine

from starlette.requests import Request
from starlette.types import Receive


async def while_connected(request: Request, answer: Coroutine[object, object, object]) -> None:
    """Answer a request whose body was read, unless the client leaves first. Raises what the answer raises."""
    work = asyncio.ensure_future(answer)
    left = asyncio.ensure_future(_leaving(request.receive))
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        work.cancel()  # nothing, where it is done
        await asyncio.wait([work])
    if not work.cancelled():
        work.result()


async def _leaving(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
