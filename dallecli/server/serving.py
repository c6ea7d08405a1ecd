"""How a server serves: everything that its owner chose, as one frozen object."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dallecli.errors import BadSetting
from dallecli.limits import QUEUE_PICTURES
from dallecli.remote.address import PORT
from dallecli.remote.token import TOKEN
from dallecli.rewriting.rewriter import Rewriter

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
"""The hosts that only this machine reaches."""

_ORIGIN: Final = re.compile(r"https?://[^/\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What the owner of a server chose.

    Raises: BadSetting, for what contradicts itself or is not safe.
    """

    model: str = "starter"
    """The default model: its name, or a folder."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Values for every request that no client can set: the device, the number type."""
    host: str = "127.0.0.1"
    port: int = PORT
    """0 is any that is free."""
    token: str | None = field(default=None, repr=False)
    """What clients have to send; None on this machine only."""
    hosts: tuple[str, ...] = ()
    """Names besides its own under which clients reach it."""
    origins: tuple[str, ...] = ()
    """Web pages of other servers that may use it: `https://example.org`."""
    public_url: str | None = None
    """Where clients reach it, if that is not what they say: for the URLs of pictures."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of models besides the built-in ones, and what they stand for."""
    known_aliases: bool = True
    """Whether the names of OpenAI's models stand for the default model."""
    strict_size: bool = False
    """Refuse a size that the model does not paint, instead of resampling."""
    queue: int = QUEUE_PICTURES
    """How many pictures wait to be painted, at most."""
    drain: float = 60.0
    """Seconds for what is waiting when the server is asked to end."""
    timeout: float = 600.0
    """Seconds for which a request may wait and be painted."""
    log_prompts: bool = False
    pictures: Path | None = None
    """The folder of what the page shows and keeps; None is one of our own."""
    rewriter: Rewriter | None = None
    """Who rewrites prompts of requests that do not say otherwise; None if nobody can."""

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and self.token is None:
            what = f"without a token, {self.host} would let everybody paint who reaches this machine"
            raise BadSetting(what, hint="--token-file FILE; one is made by: openssl rand -hex 32")
        if not 0 <= self.port < 2**16:
            raise BadSetting(f"the port is {self.port}", hint="it goes from 0 to 65535; 0 is any that is free")
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise BadSetting("the token is not 16 or more printable ASCII characters", hint="openssl rand -hex 32")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                hint = "a scheme and a host, as https://example.org"
                raise BadSetting(f"{origin!r} is not the origin of a web page", hint=hint)
        if self.public_url is not None and not re.fullmatch(r"https?://[^\s?#]+", self.public_url):
            raise BadSetting(f"{self.public_url!r} is not the address of a server", hint="https://example.org/dalle")
        for name, seconds in (("--drain", self.drain), ("--timeout", self.timeout)):
            if not 0 <= seconds <= 86_400:  # NaN is not
                raise BadSetting(f"{name} is {seconds:g}", hint="seconds, from 0 to 86400")
        if self.pictures is not None:
            there = next((path for path in (self.pictures, *self.pictures.parents) if path.exists()), None)
            if there is not None and not there.is_dir():
                raise BadSetting("--pictures names a folder, and this is none", where=str(there))
        if self.queue < 1:
            raise BadSetting(f"--queue is {self.queue}", hint="it is 1 or more")

    def admits(self, token: str | None) -> bool:
        """Whether a client may paint that sends this. The comparison takes as long for every wrong token."""
        if self.token is None:
            return True
        return token is not None and hmac.compare_digest(token.encode(), self.token.encode())


def read_aliases(pairs: list[str]) -> dict[str, str]:
    """What `NAME=MODEL` means. Raises BadSetting."""
    found = {}
    for pair in pairs:
        name, equals, model = pair.partition("=")
        if not (name and equals and model):
            raise BadSetting(f"--alias {pair!r} means nothing", hint="--alias NAME=MODEL")
        found[name] = model
    return found
