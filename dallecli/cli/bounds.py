"""The numbers that an option may be; each raises BadSetting by the option's name."""

import math
from typing import Final

MOST_HOURS: Final = 1e6
"""More than a century: whoever asks for more has made a mistake."""


def check_above_zero(option: str, value: float | None, most: float = math.inf) -> None:
    """Refuse what is not a finite number above 0, at most `most`."""
    from dallecli.errors import BadSetting

    if value is None or (0 < value <= most and value < math.inf):  # compared: no float holds every whole number
        return
    hint = "give a number above 0" if most == math.inf else f"give a number above 0, at most {most:g}"
    raise BadSetting(f"{option} is {value}", hint=hint)


def check_hours(value: float | None) -> None:
    """Refuse what is no training time."""
    check_above_zero("--hours", value, MOST_HOURS)


def check_threads(value: int | None) -> None:
    """Refuse more threads than a machine can have."""
    from dallecli.placement import thread_limit

    check_above_zero("--threads", value, thread_limit())


def check_finite(option: str, value: float) -> None:
    """Refuse infinities and NaN."""
    from dallecli.errors import BadSetting

    if not math.isfinite(value):
        raise BadSetting(f"{option} is {value}", hint="give a finite number")
