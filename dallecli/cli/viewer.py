"""`--open`: finished pictures in the system's own viewer."""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dallecli.cli.display import Display
from dallecli.errors import reason
from dallecli.safe import safe

PATIENCE: Final = 2.0
"""Seconds in which a program that cannot show anything says so; one that still runs is showing the picture."""


def show_in_viewer(paths: Sequence[Path | None], display: Display) -> None:
    """Open a finished file in the system's viewer, or the folder of several; None is one on standard output.

    The files are there, so a viewer that is missing or fails is a warning and not an error.
    """
    files = [path.absolute() for path in paths if path is not None]
    if not files:
        display.warn("--open: there is no file to show")
        return
    shown = files[0] if len(files) == 1 else files[0].parent
    problem = opened(shown)
    if problem is not None:
        display.warn(f"{safe(str(shown), 200)} cannot be shown: {safe(problem)}")


def opened(path: Path | str) -> str | None:
    """Hand a path or an address to the desktop. Returns why that failed, if it did."""
    if sys.platform == "win32":
        try:
            os.startfile(path)
        except OSError as error:
            return reason(error)
        return None
    program = "open" if sys.platform == "darwin" else "xdg-open"
    quiet = subprocess.DEVNULL
    try:
        viewer = subprocess.Popen([program, path], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except FileNotFoundError:
        return f"{program} is not installed"
    except OSError as error:
        return reason(error)
    with suppress(subprocess.TimeoutExpired):
        code = viewer.wait(PATIENCE)
        return None if code == 0 else f"{program} ended with code {code}"
    return None
