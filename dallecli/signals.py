"""The signals that ask a process to end, and who hears them for a while."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def heard_by(handler: Handler) -> Iterator[Mapping[int, Handler]]:
    """Inside, `handler` has the signals that something here hears; what heard them is given, by their numbers.

    In the end each has what it had, whatever was put in place inside. For the main thread.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    hearers = {number: hearer for number, hearer in before.items() if callable(hearer)}
    for number in hearers:
        signal.signal(number, handler)
    try:
        yield hearers
    finally:
        for number, hearer in before.items():
            signal.signal(number, hearer)
