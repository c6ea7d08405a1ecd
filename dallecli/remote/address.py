"""Where a server is: what `--server` can say."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from dallecli.errors import BadSetting

AUTO: Final = "auto"
"""The server of this machine, if it answers."""
NONE: Final = "none"
"""No server, whatever the environment or the config file says."""
WORDS: Final = (AUTO, NONE)

PORT: Final = 8188
"""Where `dalle serve` listens if nobody says otherwise."""

_PRINTED: Final = "/v1"
"""What the base URL that `dalle serve` prints ends in: it is for programs that speak the API of OpenAI."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a server. `path` is what stands before the paths of the server, behind a proxy; mostly ""."""

    secure: bool
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        """The same as it is shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.secure else 80
        port = "" if self.port == usual else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}{self.path}"


LOCAL: Final = Address(secure=False, host="127.0.0.1", port=PORT)
"""The server of this machine."""


def read_address(text: str) -> Address:
    """What a URL says. The base URL for other programs, which ends in /v1, is understood, too.

    Raises: BadSetting for what is none, and for one with a name, a password or a question in it.
    """
    what = f"{text!r} is not the address of a server"
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise BadSetting(f"{what}: {error}", hint=_HINT) from error
    if parts.username is not None or parts.password is not None:
        # Not quoted: it would be in the terminal, and in a log.
        raise BadSetting("an address does not hold a name or a token", hint="DALLE_TOKEN, or --token-file FILE")
    host = parts.hostname
    plain = re.fullmatch(r"[!-~]+", text.strip()) is not None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not plain:
        raise BadSetting(what, hint=_HINT)
    secure = parts.scheme == "https"
    path = parts.path.rstrip("/").removesuffix(_PRINTED).rstrip("/")
    return Address(secure=secure, host=host, port=port if port is not None else 443 if secure else 80, path=path)


_HINT: Final = f"as http://127.0.0.1:{PORT}; or {' or '.join(WORDS)}"
