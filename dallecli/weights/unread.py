"""Weights that are read when the layer that they are for is first called.

A layer that keeps its weight in another order would otherwise have memory for it twice, one after the other, and memory
that is new to the process is what makes reading slow. So a tensor goes from its file through a small buffer, where it
is checked and converted, into a larger one that serves all tensors in turns, and from there into the layer's order. The
files stay open until the last tensor is read: what is read then is what was looked at when they were opened.
"""

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dallecli.weights.header import Entry
from dallecli.weights.numbers import check_numbers, reading
from dallecli.weights.shards import Shard
from dallecli.weights.stream import BLOCK, DTYPES, read_into

AHEAD: Final = 2**26
"""Bytes of a file that the system is told to read ahead."""


class Place(NamedTuple):
    """Where a tensor is stored, by which name, and the type that it gets."""

    shard: Shard
    stored: str
    dtype: torch.dtype

    @property
    def entry(self) -> Entry:
        """What the file's header says of it."""
        return self.shard.header[self.stored]


class Unread:
    """Weights of a network that are not read yet, by their names in it; `files` are closed when all are."""

    def __init__(self, places: Mapping[str, Place], files: ExitStack) -> None:
        self._places = dict(places)
        self._files = files
        self._block: Tensor | None = None
        self._whole: dict[torch.dtype, Tensor] = {}
        if not places:
            files.close()

    def __del__(self) -> None:
        """Close the files of a network that is released before it was called."""
        self._files.close()

    @property
    def names(self) -> Collection[str]:
        """Those that are left."""
        return tuple(self._places)

    def read(self, name: str) -> Tensor:
        """A tensor, which is overwritten by the next one that is read: in channels-last order if it has four axes.

        Raises: BadFile, LayoutMismatch, BadSetting, as `load_net`.
        """
        place = self._places[name]
        with torch.inference_mode():
            whole = self._room(place)
            self._fill(whole, place)
        del self._places[name]
        if not self._places:
            self._files.close()
            self._block, self._whole = None, {}
        return whole

    def _room(self, place: Place) -> Tensor:
        shape, dtype = place.entry.shape, place.dtype
        if dtype not in self._whole:
            most = max(other.entry.numbers for other in self._places.values() if other.dtype == dtype)
            self._whole[dtype] = torch.empty(most, dtype=dtype)
        numbers = self._whole[dtype][: place.entry.numbers]
        if len(shape) != AXES_OF_A_CONVOLUTION:
            return numbers.view(shape)
        out, into, height, width = shape
        return numbers.view(out, height, width, into).permute(0, 3, 1, 2)

    def _fill(self, whole: Tensor, place: Place) -> None:
        """A few rows at a time, so that a block is still in the processor's cache when it is put in place."""
        entry, shard = place.entry, place.shard
        _expect(shard, entry.end)
        stored = DTYPES[entry.dtype]
        row = (entry.end - entry.start) // len(whole)
        rows = max(1, BLOCK // row)
        if self._block is None or len(self._block) < rows * row:
            self._block = torch.empty(max(BLOCK, rows * row), dtype=torch.uint8)
        with reading(shard.path):
            for first in range(0, len(whole), rows):
                part = whole[first : first + rows]
                block = self._block[: len(part) * row]
                read_into(shard.file, entry.start + first * row, block)
                numbers = block.view(stored)
                check_numbers(numbers, place.stored, shard.path, place.dtype)
                part.copy_(numbers.view(part.shape))


AXES_OF_A_CONVOLUTION: Final = 4


def _expect(shard: Shard, start: int) -> None:
    """Have the system read from the disk, while others compute, what will be needed next."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(shard.file.fileno(), start, AHEAD, os.POSIX_FADV_WILLNEED)
