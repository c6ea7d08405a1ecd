"""`--open` of a server: its page in the browser.

A token would be in the command line of the browser, which others can read. So the browser is given a file that only
this user can read, which leads to the page; it is removed when it was read, at the latest with the server.
"""

import html
import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from dallecli.cli.viewer import opened
from dallecli.safe import safe

if TYPE_CHECKING:
    from dallecli.cli.display import Display

READ_SECONDS: Final = 60.0
"""In which a browser has read a file that it was given."""


class Browser:
    """Opens pages, each in a thread: a browser may take its time. `token`: what the page has to send, if anything."""

    def __init__(self, token: str | None, display: "Display") -> None:
        self._token = token
        self._display = display
        self._files: list[Path] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._files:
            path.unlink(missing_ok=True)

    def show(self, page: str) -> None:
        """Open a page. That it cannot be opened is a warning: the server is there all the same."""
        target = page if self._token is None else str(self._lead(f"{page}#token={quote(self._token, safe='')}"))
        threading.Thread(target=self._show, args=(page, target), daemon=True).start()

    def _show(self, page: str, target: str) -> None:
        problem = opened(target)
        if problem is not None:
            self._display.warn(f"{page} cannot be opened: {safe(problem)}")

    def _lead(self, address: str) -> Path:
        """A file that leads to an address."""
        descriptor, name = tempfile.mkstemp(prefix="dalle-page-", suffix=".html")  # for its owner only
        path = Path(name)
        self._files.append(path)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            where = html.escape(address, quote=True)
            file.write(
                f'<!doctype html><meta charset="utf-8"><title>dalle</title>'
                f'<meta http-equiv="refresh" content="0; url={where}"><a href="{where}">the page</a>'
            )
        timer = threading.Timer(READ_SECONDS, path.unlink, kwargs={"missing_ok": True})
        timer.daemon = True
        timer.start()
        return path
