"""Which timesteps a run visits, by the names of published respacings: guided-diffusion's, GLIDE's and DeepFloyd IF's.

Source: Nichol & Dhariwal 2021, section 4, and Dhariwal & Nichol 2021, section 3; the rules are those of the published
models, their rounding included.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

SECTIONS: Final[Mapping[str, tuple[int, ...]]] = {
    "fast27": (10, 10, 3, 2, 2),
    "smart27": (7, 4, 2, 1, 2, 4, 7),
    "smart50": (10, 6, 4, 3, 2, 2, 3, 4, 6, 10),
    "smart100": (1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 9, 10, 13),
    "smart185": (1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20),
    "super27": (1, 1, 1, 1, 1, 1, 1, 2, 5, 13),
    "super40": (2, 2, 2, 2, 2, 2, 3, 4, 6, 15),
    "super100": (4, 4, 6, 6, 8, 8, 10, 10, 14, 30),
}
"""How many steps each of the equal sections of the trained timesteps has, from the one with the least noise on."""


def respaced(name: str, trained: int, *, of_glide: bool = False) -> list[int]:
    """The timesteps of a published respacing of a schedule with `trained` steps, ascending, from 0.

    name: "N", so many steps evenly spaced over all; "A,B,…", so many in each of as many equal sections; "ddimN", every
    so many-th timestep, in whole strides from 0; or one of `SECTIONS`, of which "fast27" ends two timesteps earlier
    where it is GLIDE's.

    Raises ValueError for another name, and where the steps do not fit.
    """
    if name in SECTIONS:
        visits = _in_sections(SECTIONS[name], trained)
        return [*visits[:-1], visits[-1] - 2] if of_glide and name == "fast27" else visits
    if re.fullmatch(r"ddim\d{1,6}", name, re.ASCII):
        count = int(name.removeprefix("ddim"))
        found = strided(count, trained)
        if found is None:
            raise ValueError(f"no whole stride makes {count} of {trained} steps")
        return found
    if re.fullmatch(r"\d{1,6}(,\d{1,6})*", name, re.ASCII):
        return _in_sections([int(count) for count in name.split(",")], trained)
    raise ValueError(f"no respacing is called {name!r}: there are N, A,B,…, ddimN, {', '.join(SECTIONS)}")


def strided(count: int, trained: int) -> list[int] | None:
    """So many of the `trained` timesteps in whole strides up from 0; None where no stride makes so many."""
    for stride in range(1, trained):
        visits = range(0, trained, stride)
        if len(visits) == count:
            return list(visits)
    return None


def _in_sections(counts: Sequence[int], trained: int) -> list[int]:
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
