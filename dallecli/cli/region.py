"""A few lines at the bottom of a terminal that are drawn again and again, and leave nothing behind.

The cursor waits at the beginning of the first line. Terminals that are made narrower fold lines that no longer fit, and
some say so later than they do it; but all keep the cursor where its line begins, so what has to be erased is what comes
after it, and nothing has to be counted. Only one thread draws, so that nothing can come in between.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

PAUSE: Final = 0.1
"""Seconds between two drawings."""

BAR: Final = 12
"""The most characters of a bar. Short lines are folded seldom; and what tmux folds near the top of its screen, it moves
into its history, where nothing can be erased."""
LEAST_BAR: Final = 6
"""A shorter bar says nothing: it is left out."""
BLANKS: Final = "  "
"""Between label, bar and figures."""

_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
_CUT, _FOLD = "\x1b[?7l", "\x1b[?7h"
"""Whether what is written beyond the last column is cut off. So a line is one row, whatever width was just set."""
_ERASE = "\r\x1b[2K\n\x1b[0J\x1b[1A"
"""Erases the cursor's line and all below it. In two steps: tmux keeps a copy of what is erased from the top row on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One of the lines. Its texts are harmless, and have no line ends."""

    label: str
    short: str = ""
    """The label where there is little room; "" is the label itself."""
    share: float | None = None
    """How much of a bar is filled, from 0 to 1; None for no bar."""
    figures: str = ""
    """What stands after the bar."""


class Region:
    """Draws `lines()` until `clear`. Standard error has to be a terminal."""

    def __init__(self, lines: Callable[[], Sequence[Line]]) -> None:
        self._lines = lines
        self._over = threading.Event()
        self._last: object = None
        self._thread = threading.Thread(target=self._draw_on, name="progress", daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Take the lines off the terminal."""
        self._over.set()
        self._thread.join()

    def _draw_on(self) -> None:
        with suppress(OSError, ValueError):  # nobody looks any more
            _write(_HIDE)
            self._draw()
            while not self._over.wait(PAUSE):
                self._draw()
            _write(_ERASE + _SHOW)

    def _draw(self) -> None:
        width, height = _size()
        lines = rendered(self._lines(), width)[: max(1, height - 1)]
        if (lines, width, height) == self._last:
            return
        up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
        text = "\n".join(lines)
        _write(f"{_ERASE}{_CUT}{text}{_FOLD}\r{up}")
        self._last = lines, width, height


def rendered(lines: Sequence[Line], width: int) -> list[str]:
    """The lines as text that takes fewer than `width` characters."""
    from rich.cells import cell_len, set_cell_size

    room = width - 1  # in the last column, terminals differ in where the cursor goes
    labels, figures = max(cell_len(line.label) for line in lines), max(cell_len(line.figures) for line in lines)
    bar = min(BAR, room - labels - figures - 2 * len(BLANKS))
    found = []
    for line in lines:
        if line.share is not None and bar >= LEAST_BAR:
            found.append(f"{set_cell_size(line.label, labels)}{BLANKS}{_bar(line.share, bar)}{BLANKS}{line.figures}")
            continue
        text = f"{line.label}{BLANKS}{line.figures}".rstrip()
        if cell_len(text) > room and line.short:
            text = f"{line.short}{BLANKS}{line.figures}".rstrip()
        found.append(set_cell_size(text, min(cell_len(text), room)))
    return found


def _bar(share: float, cells: int) -> str:
    filled = round(share * cells)
    full, rest = ("━", "─") if _has("━─") else ("#", "-")
    if os.environ.get("NO_COLOR"):
        return full * filled + rest * (cells - filled)
    return f"\x1b[36m{full * filled}\x1b[0;2m{rest * (cells - filled)}\x1b[0m"


def _has(text: str) -> bool:
    """Whether standard error can show these characters."""
    try:
        text.encode(sys.stderr.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _size() -> tuple[int, int]:
    """The columns and rows of the terminal now; COLUMNS and LINES, which shells export, may be older."""
    columns, rows = os.get_terminal_size(sys.stderr.fileno())
    return (columns if columns > 0 else 80), (rows if rows > 0 else 24)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
