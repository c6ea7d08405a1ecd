"""Which engine paints: the one of this machine, unless the environment names another."""

import os

from dallecli.engine import Engine
from dallecli.errors import BadConfig


def choose_engine(memory: str = "auto", batch: int | None = None, *, compiled: bool = False) -> Engine:
    """The engine with this kind of memory plan, `batch` pictures at a time, and networks `compiled` or not.

    Raises: BadConfig for an invalid DALLE_ENGINE or DALLE_FAKE_SECONDS; BadSetting as LocalEngine.
    """
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
