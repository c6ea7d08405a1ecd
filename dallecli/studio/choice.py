"""Which engine paints: the one of this machine, unless the environment names another."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Final

from dallecli.engine import Engine
from dallecli.errors import BadConfig

_Choice = tuple[str | None, str, int | None, bool]
_KEPT: ContextVar[dict[_Choice, Engine] | None] = ContextVar("kept", default=None)

COMPILED: Final = ("numpy", "torch", "safetensors", "tokenizers", "PIL.Image")
"""Libraries that cannot be imported a second time in a process that was stopped while it imported them."""


IMPORTS: Final = "imports"
"""The name of the thread that imports them."""


@contextmanager
def keeping() -> Iterator[None]:
    """Inside, who chooses the same engine again gets it again, with the model that it has open.

    Another choice takes its place: two open models may be more than there is memory for.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def import_libraries() -> threading.Thread:
    """Import what painting takes, in a thread that no signal reaches: who stops a picture does not stop that."""

    def work() -> None:
        for name in COMPILED:
            with suppress(ImportError, OSError):  # it is said where somebody needs it
                import_module(name)

    thread = threading.Thread(target=work, daemon=True, name=IMPORTS)
    thread.start()
    return thread


def _await_libraries() -> None:
    """Wait until they are imported: who is stopped while waiting for another thread's import may never be let in."""
    for thread in threading.enumerate():
        if thread.name == IMPORTS:
            thread.join()


def choose_engine(memory: str = "auto", batch: int | None = None, *, compiled: bool = False) -> Engine:
    """The engine with this kind of memory plan, `batch` pictures at a time, and networks `compiled` or not.

    Raises: BadConfig for an invalid DALLE_ENGINE or DALLE_FAKE_SECONDS; BadSetting as LocalEngine.
    """
    kept = _KEPT.get()
    if kept is None:
        return _engine(memory, batch, compiled=compiled)
    _await_libraries()
    choice = os.environ.get("DALLE_ENGINE"), memory, batch, compiled
    if choice not in kept:
        kept.clear()
        kept[choice] = _engine(memory, batch, compiled=compiled)
    return kept[choice]


def _engine(memory: str, batch: int | None, *, compiled: bool) -> Engine:
    name = os.environ.get("DALLE_ENGINE", "local")
    if name == "fake":
        from dallecli.fake_engine import FakeEngine

        seconds = os.environ.get("DALLE_FAKE_SECONDS", "0")
        try:
            return FakeEngine(seconds_per_step=float(seconds))
        except ValueError as error:
            raise BadConfig(f"DALLE_FAKE_SECONDS is {seconds!r}, not a number") from error
    if name != "local":
        raise BadConfig(f"DALLE_ENGINE is {name!r}", hint="unset it; local and fake exist")
    from dallecli.studio.engine import LocalEngine

    return LocalEngine(memory, batch, compiled=compiled)
