"""The token that lets clients in: read from a file, or from DALLE_TOKEN, and never from a command line or a URL."""

import os
import re
import stat
from pathlib import Path
from typing import Final

from dallecli.errors import BadSetting, reason
from dallecli.limits import TOKEN_BYTES, open_file, read_stream

VARIABLE: Final = "DALLE_TOKEN"

TOKEN: Final = re.compile(r"[\x21-\x7e]{16,}")
"""What a token is made of: as long as it takes so that nobody guesses it, and what a header can carry."""


def find_token(file: Path | None) -> tuple[str | None, str | None]:
    """The token in a file, else in the environment; and what is wrong with who can read it, if something is.

    Raises: as `read_token`, and BadSetting for what is no token.
    """
    token, doubt = read_token(file) if file is not None else (os.environ.get(VARIABLE) or None, None)
    if token is not None and not TOKEN.fullmatch(token):
        raise BadSetting("the token is not 16 or more printable ASCII characters", hint="openssl rand -hex 32")
    return token, doubt


def read_token(path: Path) -> tuple[str, str | None]:
    """The token in a file, and what is wrong with who can read it, if something is.

    Raises: BadSetting for a file that cannot be read, or that others can write.
    """
    try:
        with open_file(path) as file:
            text = read_stream(file, TOKEN_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise BadSetting(f"the token cannot be read: {reason(error)}", where=str(path)) from error
    mode = path.stat().st_mode
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadSetting("others can write the file of the token", where=str(path), hint=f"chmod 600 {path}")
    doubt = f"others can read the file of the token: chmod 600 {path}" if mode & (stat.S_IRGRP | stat.S_IROTH) else None
    return text.strip(), doubt
