"""When freed memory goes back to the system, and when it is kept for the next operation.

The GNU C library returns every large tensor as soon as it is freed, and the system clears the pages of the next one,
which takes a tenth of the time of an upsampler's largest layers (`benchmarks/levers.py`). If freed memory were kept
from the start, it would have holes where weights were that have been packed or released. So it is kept once the weights
are in place, or where they are read by need. Other C libraries are left alone.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Final, cast

import torch

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
"""From <malloc.h>: how many free bytes the end of the heap may have, and how many blocks may be outside of it."""

USUAL: Final = {M_TRIM_THRESHOLD: 64 * 2**20, M_MMAP_MAX: 2**16}
"""The library's own values, once it has adapted to large blocks."""
KEEPING: Final = {M_TRIM_THRESHOLD: 2**31 - 1, M_MMAP_MAX: 0}


def keep_freed() -> None:
    """From now on, keep freed memory for the next operation."""
    _set(KEEPING)


def return_freed() -> None:
    """From now on, return large blocks to the system as soon as they are freed."""
    _set(USUAL)


def trim(device: torch.device) -> None:
    """Return free memory to the device or the system, which would otherwise count it as used."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        malloc_trim = _function("malloc_trim")
        if malloc_trim is not None:
            malloc_trim(0)


def _set(values: dict[int, int]) -> None:
    mallopt = _function("mallopt")
    if mallopt is not None:
        for name, value in values.items():
            mallopt(name, value)


@cache
def _function(name: str) -> Callable[..., int] | None:
    """A function of the GNU C library, if this process runs on it."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return None
    return cast(Callable[..., int], getattr(library, name))
