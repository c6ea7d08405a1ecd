"""Who rewrites: a language model behind an address that speaks OpenAI's chat completions."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from dallecli.errors import BadConfig, BadSetting, NetworkError
from dallecli.limits import CHAT_SECONDS

URL, BASE, MODEL, KEY = "DALLE_REWRITE_URL", "OPENAI_BASE_URL", "DALLE_REWRITE_MODEL", "OPENAI_API_KEY"
"""The variables that say who rewrites. `URL` counts before `BASE`, which may be that of `dalle serve`."""

NAME_IT: Final = f"--rewrite-with http://127.0.0.1:11434/v1 MODEL, or set {URL} and {MODEL}"

_PATH: Final = "/chat/completions"
_OFFLINE: Final = re.compile("1|on|yes|true", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A language model: the `url` before `/chat/completions`, and its `model` name there.

    key: what is sent along, where that is safe; it is in no error and no recipe. seconds: until an answer is whole.

    Raises: BadSetting for what is no such address or name, BadConfig for what is no key.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    seconds: float = CHAT_SECONDS

    def __post_init__(self) -> None:
        parts = _split(self.url)
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            what = (
                "the address of a language model has no user, query or fragment"  # and is not quoted: it may be secret
            )
            raise BadSetting(what, hint=f"a key is taken from {KEY}")
        if not self.model.strip() or len(self.model) > 200 or not self.model.isprintable():
            raise BadSetting(f"no language model is called {self.model!r}", hint="its name, as the server lists it")
        if self.key is not None and not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            raise BadConfig(f"the key in {KEY} holds characters that no key has", hint=f"set {KEY} again")

    @classmethod
    def choose(cls, named: tuple[str, str] | None, variables: Mapping[str, str] = os.environ) -> Self:
        """What --rewrite-with names, and without it the environment. Raises BadSetting, BadConfig."""
        key = variables.get(KEY) or None
        if named is not None:
            return cls(url=_base(named[0]), model=named[1], key=key)
        url = variables.get(URL) or variables.get(BASE)
        model = variables.get(MODEL)
        if not url or not model:
            missing = "no language model is named" if url else "no server is named"
            raise BadSetting(f"{missing} that could rewrite prompts", hint=NAME_IT)
        return cls(url=_base(url), model=model, key=key)

    @property
    def address(self) -> str:
        """Where a chat is asked for."""
        return self.url + _PATH

    @property
    def local(self) -> bool:
        """Whether it is this machine itself."""
        host = _split(self.url).hostname
        try:
            return host is not None and (host == "localhost" or ip_address(host).is_loopback)
        except ValueError:
            return False

    @property
    def sent_key(self) -> str | None:
        """The key, where nobody between here and there can read it."""
        return self.key if self.local or self.url.startswith("https://") else None

    def check_online(self, variables: Mapping[str, str] = os.environ) -> None:
        """Raises NetworkError for another machine where the environment forbids the network."""
        if not self.local and any(
            _OFFLINE.fullmatch(variables.get(name, "")) for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        ):
            what = "HF_HUB_OFFLINE says that there is no network, and this language model is elsewhere"
            raise NetworkError(what, self.url, "unset it, or use a language model on this machine")


def _split(url: str) -> SplitResult:
    """The parts of an address. Raises BadSetting for what is none; it may hold a secret, and is not quoted."""
    hint = "as http://127.0.0.1:11434/v1 or https://api.openai.com/v1"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or not url.isascii() or not url.isprintable() or " " in url:
        raise BadSetting("this is not the address of a language model", hint=hint)
    return parts


def _base(url: str) -> str:
    """An address as it is meant: without what we add, and with the usual path if it has none."""
    url = url.strip().rstrip("/").removesuffix(_PATH)
    try:
        return url if urlsplit(url).path.strip("/") or "?" in url or "#" in url else f"{url}/v1"
    except ValueError:
        return url  # and is refused as what it is
