"""How many threads of a CPU an operation is divided among, where that decides how its result is rounded."""

from collections.abc import Callable
from typing import Final, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

GRAIN: Final = 32768
"""The fewest numbers of an elementwise operation for which torch uses another thread."""

VECTORS: Final = 128
"""Bytes of two vectors of the widest processor, which computes so many at a time."""


def with_threads(count: int, operation: Callable[[], T]) -> T:
    """Run an operation with so many threads. It costs a fraction of a microsecond."""
    before = torch.get_num_threads()
    if count == before:
        return operation()
    torch.set_num_threads(count)
    try:
        return operation()
    finally:
        torch.set_num_threads(before)


def in_whole_vectors(x: Tensor, operation: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply an elementwise operation to pictures [b ...]; on a CPU, each thread gets whole vectors.

    What is left over of a thread's share is computed one by one, and an exponential of one number may be rounded in
    another way than that of a vector. Where a picture leaves something over, each is computed by itself.
    """
    numbers = x.numel()
    vectors, left_over = divmod(numbers // len(x) * x.itemsize, VECTORS)
    few = numbers <= GRAIN and not left_over
    if few or not x.is_cpu or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return operation(x)
    if left_over:
        one_by_one = [x[k : k + 1] for k in range(len(x))]
        return with_threads(1, lambda: torch.cat([operation(picture) for picture in one_by_one]))
    most = min(torch.get_num_threads(), -(-numbers // GRAIN))
    return with_threads(shares(vectors * len(x), most), lambda: operation(x))


def shares(whole: int, most: int) -> int:
    """The largest number of equal shares that something can be divided into, at most so many."""
    while whole % most:
        most -= 1
    return most
