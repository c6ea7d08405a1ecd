"""Which timesteps a run of OpenAI's diffusion models visits: guided-diffusion's and GLIDE's respacings, by name.

Source: Nichol & Dhariwal 2021, section 4, and Dhariwal & Nichol 2021, section 3; the rules are those of the published
models, their rounding included.
"""

import re
from typing import Final

FAST_27: Final = "fast27"
"""GLIDE's list for its upsampler: more steps where there is little noise."""

_SECTIONS_27: Final = (10, 10, 3, 2, 2)


def respaced(name: str, trained: int) -> list[int]:
    """The timesteps of a published respacing of a schedule with `trained` steps, ascending, from 0.

    name: "N", so many steps evenly spaced over all; "A,B,…", so many in each of as many equal sections; "ddimN", every
    so many-th timestep, in whole strides from 0; or "fast27".

    Raises ValueError for another name, and where the steps do not fit.
    """
    if name == FAST_27:
        visits = _in_sections(_SECTIONS_27, trained)
        return [*visits[:-1], visits[-1] - 2]  # 997 of 1000: the published list begins there
    if re.fullmatch(r"ddim\d{1,6}", name, re.ASCII):
        count = int(name.removeprefix("ddim"))
        found = strided(count, trained)
        if found is None:
            raise ValueError(f"no whole stride makes {count} of {trained} steps")
        return found
    if re.fullmatch(r"\d{1,6}(,\d{1,6})*", name, re.ASCII):
        return _in_sections([int(count) for count in name.split(",")], trained)
    raise ValueError(f"no respacing is called {name!r}: there are N, A,B,…, ddimN and {FAST_27}")


def strided(count: int, trained: int) -> list[int] | None:
    """So many of the `trained` timesteps in whole strides up from 0; None where no stride makes so many."""
    for stride in range(1, trained):
        visits = range(0, trained, stride)
        if len(visits) == count:
            return list(visits)
    return None


def _in_sections(counts: list[int] | tuple[int, ...], trained: int) -> list[int]:
    """Each section takes as many steps as it is told, from its first timestep to its last."""
    size, longer = divmod(trained, len(counts))
    visits: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        length = size + (1 if section < longer else 0)
        if not 1 <= count <= length:
            raise ValueError(f"a section of {length} timesteps cannot have {count} steps")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        along = 0.0
        for _ in range(count):
            visits.append(start + round(along))
            along += stride  # not k * stride: the published sum rounds differently, and with it some timesteps
        start += length
    return visits
