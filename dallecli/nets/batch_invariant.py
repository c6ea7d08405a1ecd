"""Layers that round a picture alike, however many pictures are computed beside it, and by however many threads.

torch promises neither. But most of its operations on a CPU keep both, because each of their sums is one thread's from
the first term to the last. Two do not: a group norm of large images divides the sums of a picture among threads, and
so may attention with few queries. Where these two are kept from it, and exponentials by `threads.in_whole_vectors`,
what is painted does not depend on the number of pictures or threads, to the last bit. `can_be_batch_invariant` tries
whether this torch does so on this processor, and `tests/pipelines/test_batch_invariant.py` paints with whole models.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.attention import SelfAttention
from dallecli.nets.conditions import KeysValues
from dallecli.nets.layers import replace_layers
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.nets.threads import shares, with_threads

Operation = Callable[[Tensor], Tensor]

WIDEST: Final = 1024
"""The most numbers that a linear layer adds up alike: wider sums are cut, and where depends on how many there are."""

DIVIDED: Final = 1024
"""The fewest pixels of an image whose group norm torch divides among threads."""


def make_batch_invariant(net: nn.Module) -> None:
    """Give a network on a CPU layers that round alike. They cost threads that are not used where there is little to do.

    For inference only, and only where `can_be_batch_invariant`.
    """
    replace_layers(net, _LAYERS)


@cache
def can_be_batch_invariant(dtype: torch.dtype) -> bool:
    """Whether the layers of small networks round alike with this torch on this processor, as far as it can be tried.

    dtype: one that the processor has arithmetic for.
    """
    if not can_prepack():
        return False
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        found = [_rounds_alike(operation, shape, dtype) for operation, shape in _trials(dtype)]
    return all(found)


class _GroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        pictures, channels, *_ = x.shape
        if x.numel() < DIVIDED * pictures * channels:
            return super().forward(x)
        # Threads get whole pictures if they get equally many.
        return with_threads(shares(pictures, torch.get_num_threads()), lambda: nn.GroupNorm.forward(self, x))


class _SelfAttention(SelfAttention):
    def forward(
        self, x: Tensor, bias: Tensor | None = None, before: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        return with_threads(1, lambda: SelfAttention.forward(self, x, bias, before))


_LAYERS: Final[Mapping[type[nn.Module], type[nn.Module]]] = {
    nn.GroupNorm: _GroupNorm,
    SelfAttention: _SelfAttention,
}


def _trials(dtype: torch.dtype) -> Iterator[tuple[Operation, tuple[int, ...]]]:
    """Layers as small networks have them, with the shape of one picture's input. Few, because every process waits."""
    image = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(8, 32)).to(dtype)
    words = nn.Sequential(nn.Linear(WIDEST // 4, WIDEST), nn.LayerNorm(WIDEST), nn.Linear(WIDEST, 64)).to(dtype)
    for net in (image, words):
        prepack(net)
        make_batch_invariant(net)
    yield image, (16, 32, 32)
    yield words, (1, WIDEST // 4)
    yield lambda x: F.scaled_dot_product_attention(x, x, x), (4, 32, 32)


def _rounds_alike(operation: Operation, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
    x = torch.randn((3, *shape), dtype=dtype)
    wanted = with_threads(1, lambda: torch.cat([operation(x[k : k + 1]) for k in range(3)]))
    return all(
        torch.equal(with_threads(count, lambda: operation(x)), wanted)
        and torch.equal(with_threads(count, lambda: operation(x[:1])), wanted[:1])
        for count in {1, torch.get_num_threads()}
    )
