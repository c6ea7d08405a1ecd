"""The numbers of a weights file on their way to a device.

They are read, not mapped: where a mapped file is cut short, the process ends by SIGBUS. What makes reading slow is
memory that is new to the process, so two small buffers serve in turns: a thread fills one while what is in the other is
converted to where it stays. So no number is held twice, and on a GPU the copies run beside the reading.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import Final, NamedTuple

import torch
from torch import Tensor

from dallecli.weights.header import Entry

DTYPES: Final[Mapping[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The kinds of number that networks are stored in, as the format calls them."""

BLOCK: Final = 4 * 2**20
"""Bytes that are read at once: few enough to be in the processor's cache when they are used."""


class Chunk(NamedTuple):
    """Some numbers of a tensor, from its `first` on: a vector, as stored, there until the next chunk is taken."""

    name: str
    first: int
    numbers: Tensor


class _Piece(NamedTuple):
    """Bytes of a tensor, from `start` to `end` in the file."""

    name: str
    start: int
    end: int


def stream(file: FileIO, entries: Mapping[str, Entry], device: torch.device) -> Iterator[Chunk]:
    """Yield the tensors of an open file whole, in the order of their bytes, in chunks of at most `BLOCK` bytes.

    Kinds of number are those of `DTYPES`. The chunks are on `device` if that is a CUDA device, where they are converted
    best, and else in main memory.

    Raises OSError; EOFError where the file ends before its last tensor does.
    """
    blocks = list(_blocks(entries))
    on_cuda = device.type == "cuda"
    with ThreadPoolExecutor(1) as reader:
        # To a GPU the fastest copies are from memory that can't be moved.
        buffers = [torch.empty(BLOCK, dtype=torch.uint8, pin_memory=on_cuda) for _ in range(2)]
        under_way = [reader.submit(_read_block, file, *at) for at in zip(blocks, buffers, strict=False)]
        for index, block in enumerate(blocks):
            buffer = buffers[index % 2]
            under_way[index].result()
            start = block[0].start
            there = buffer[: block[-1].end - start].to(device if on_cuda else "cpu")
            for name, first, end in block:
                entry, dtype = entries[name], DTYPES[entries[name].dtype]
                stored = there[first - start : end - start]
                if (first - start) % dtype.itemsize:  # behind a tensor of narrower numbers
                    stored = stored.clone()
                yield Chunk(name, (first - entry.start) // dtype.itemsize, stored.view(dtype))
            if index + 2 < len(blocks):
                under_way.append(reader.submit(_read_block, file, blocks[index + 2], buffer))


def _blocks(entries: Mapping[str, Entry]) -> Iterator[list[_Piece]]:
    """Pieces that follow each other in the file and fit into a block together; large tensors are cut."""
    block: list[_Piece] = []
    for piece in _pieces(entries):
        if block and (piece.start != block[-1].end or piece.end - block[0].start > BLOCK):
            yield block
            block = []
        block.append(piece)
    if block:
        yield block


def _pieces(entries: Mapping[str, Entry]) -> Iterator[_Piece]:
    for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
        for start in range(entry.start, entry.end, BLOCK):
            yield _Piece(name, start, min(start + BLOCK, entry.end))


def _read_block(file: FileIO, block: list[_Piece], buffer: Tensor) -> None:
    start, end = block[0].start, block[-1].end
    read_into(file, start, buffer[: end - start])


def read_into(file: FileIO, start: int, room: Tensor) -> None:
    """Fill bytes in main memory from a file, from its byte `start` on.

    Raises OSError; EOFError where the file ends before that.
    """
    file.seek(start)
    view = room.numpy().data
    while len(view) > 0:
        count = file.readinto(view)
        if count == 0:
            raise EOFError(f"the file ends {len(view)} bytes before its last tensor does")
        view = view[count:]
