"""Which engine is used: a server's, or the one of this machine."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dallecli.remote.address import AUTO, LOCAL, NONE, WORDS, Address, read_address

if TYPE_CHECKING:
    from dallecli.engine import Engine

log = logging.getLogger(__name__)

VARIABLE: Final = "DALLE_SERVER"

SAID: Final = logging.INFO + 5
"""Of what is said as long as nobody wants quiet, and is no warning."""


def choose(server: str | None, token_file: Path | None, here: Callable[[], "Engine"]) -> "Engine":
    """The engine that `--server` means: of a URL, of whoever answers on this machine (auto), or `here`.

    Raises: BadSetting for what is no address or no token, NetworkError for an answer of something else, and as `here`.
    """
    if not is_remote(server):
        return here()
    from dallecli.remote.connection import Server, check_protocol
    from dallecli.remote.engine import RemoteEngine
    from dallecli.remote.token import find_token

    address = meant(server)
    token, doubt = find_token(token_file)
    if doubt is not None:
        log.warning("%s", doubt)
    asked = Server(address, token)
    if server == AUTO:
        health = asked.health()
        if health is None:
            log.log(SAID, "no server answers at %s: painting here", address.url)
            return here()
        check_protocol(health, address)
        log.log(SAID, "the server at %s does it", address.url)
    return RemoteEngine(asked)


def is_remote(server: str | None) -> bool:
    """Whether a value of `--server` means a server, or the one that may answer."""
    return server is not None and server.strip() not in ("", NONE)


def meant(server: str | None) -> Address:
    """The address that is meant; for auto the one of DALLE_SERVER, else the usual one on this machine.

    Raises: BadSetting.
    """
    if server != AUTO:
        return read_address(server or "")
    named = os.environ.get(VARIABLE, "").strip()
    return LOCAL if not named or named in WORDS else read_address(named)
