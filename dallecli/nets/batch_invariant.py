"""Layers that round a picture alike, however many pictures are computed beside it, and by however many threads.

torch promises neither. But most of its operations on a CPU keep both, because each of their sums is one thread's from
the first term to the last. Two do not: a group norm of large images divides the sums of a picture among threads, and
so may attention with few queries. Where these two are kept from it, and exponentials by `threads.in_whole_vectors`,
what is painted does not depend on the number of pictures or threads, to the last bit. In bfloat16 with AMX two more do
not: oneDNN cuts the sums of a linear layer as the number of rows demands, and those of a convolution of a few pixels
as the number of pictures does. These are given equally many each time. `can_be_batch_invariant` tries whether this
torch does so on this processor, and `tests/pipelines/test_batch_invariant.py` paints with whole models.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.attention import SelfAttention
from dallecli.nets.conditions import KeysValues
from dallecli.nets.layers import replace_layers
from dallecli.nets.prepacked import PackedConv2d, PackedLinear, can_prepack, prepack
from dallecli.nets.threads import shares, with_threads

Operation = Callable[[Tensor], Tensor]

WIDEST: Final = 1024
"""The most numbers that a linear layer adds up alike: wider sums are cut, and where depends on how many there are."""

DIVIDED: Final = 1024
"""The fewest pixels of an image whose group norm torch divides among threads."""

TILE: Final = 64
"""AMX adds up alike, for any number of rows, as many numbers as a multiple of this, up to `UNCUT`."""

UNCUT: Final = 384
"""The most numbers of a row that oneDNN never cuts for AMX. It was seen to cut 448."""

ROWS: Final = 16
"""The rows of one tile of AMX. Other linear layers get as many at a time, always."""

FEW_PIXELS: Final = 9
"""The fewest pixels of images that oneDNN convolves alike with AMX, however many there are. For 4 it does not."""


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
        found = [rounds_alike(operation, x) for operation, x in _trials(dtype)]
    return all(found)


@cache
def _sums_are_cut() -> bool:
    """Whether oneDNN cuts sums of bfloat16 here as the number of rows demands, which it does for AMX."""
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        layer = nn.Linear(WIDEST, WIDEST).to(torch.bfloat16)
        x = cancelling(layer, 3 * ROWS, WIDEST)
        net = nn.Sequential(layer)
        prepack(net)
        return not rounds_alike(net, x)


def rounds_alike(operation: Operation, x: Tensor) -> bool:
    """Whether an operation gives each picture of `x` [b ...] the same, however many others and threads there are."""
    wanted = with_threads(1, lambda: torch.cat([operation(x[k : k + 1]) for k in range(len(x))]))
    return all(
        torch.equal(with_threads(count, partial(operation, some)), wanted[: len(some)])
        for count in {1, torch.get_num_threads()}
        for some in (x, x[:1], x[: len(x) // 2 + 1])
    )


def cancelling(layer: nn.Linear | nn.Conv2d, *shape: int) -> Tensor:
    """Set a layer's weights, and return inputs [b ...] for it whose sums are zero but for how they are rounded.

    With other numbers, sums that are added up in another order are the same in most cases, once they are rounded to
    sixteen bits.
    """
    dim = 1 if isinstance(layer, nn.Conv2d) else -1
    order = torch.randperm(layer.weight.shape[1])
    half = len(order) // 2
    ones, others = order[:half], order[half : 2 * half]
    weight, x = torch.randn_like(layer.weight), torch.randn(shape, dtype=layer.weight.dtype)
    weight[:, others] = weight[:, ones]
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight))})
    x.index_copy_(dim, others, -x.index_select(dim, ones))
    return x if dim < 0 else x.contiguous(memory_format=torch.channels_last)


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


class _LinearOfTiles(PackedLinear):
    def forward(self, x: Tensor) -> Tensor:
        wide = self.in_features
        if x.dtype is not torch.bfloat16 or (wide % TILE == 0 and wide <= UNCUT) or not _sums_are_cut():
            return super().forward(x)
        rows = x.flatten(0, -2)
        filled = F.pad(rows, (0, 0, 0, -len(rows) % ROWS))
        y = torch.cat([PackedLinear.forward(self, part) for part in torch.split(filled, ROWS)])
        return y[: len(rows)].view(*x.shape[:-1], self.out_features)


class _ConvolutionOfFewPixels(PackedConv2d):
    def forward(self, x: Tensor) -> Tensor:
        if x.dtype is not torch.bfloat16 or x.shape[-2] * x.shape[-1] >= FEW_PIXELS or not _sums_are_cut():
            return super().forward(x)
        one_by_one = [PackedConv2d.forward(self, picture) for picture in torch.split(x, 1)]
        return torch.cat(one_by_one)


_LAYERS: Final[Mapping[type[nn.Module], type[nn.Module]]] = {
    nn.GroupNorm: _GroupNorm,
    SelfAttention: _SelfAttention,
    PackedLinear: _LinearOfTiles,
    PackedConv2d: _ConvolutionOfFewPixels,
}


def _trials(dtype: torch.dtype) -> Iterator[tuple[Operation, Tensor]]:
    """Layers as small networks have them, with what tells roundings apart. Few, because every process waits."""
    layers: list[tuple[nn.Linear | nn.Conv2d, tuple[int, ...]]] = [
        (nn.Conv2d(16, 32, 3, padding=1), (3, 16, 32, 32)),
        (nn.Conv2d(96, 64, 3, padding=1), (8, 96, 2, 2)),
        (nn.Linear(WIDEST, 64), (72, WIDEST)),
        (nn.Linear(TILE // 2, WIDEST), (24, TILE // 2)),
    ]
    for layer, shape in layers:
        x = cancelling(layer.to(dtype), *shape)
        net = nn.Sequential(layer)
        prepack(net)
        make_batch_invariant(net)
        yield net, x
    norm = nn.Sequential(nn.GroupNorm(8, 32).to(dtype))
    make_batch_invariant(norm)
    yield norm, torch.randn((3, 32, 32, 32), dtype=dtype).contiguous(memory_format=torch.channels_last)
    yield nn.LayerNorm(WIDEST, dtype=dtype), torch.randn((3, 1, WIDEST), dtype=dtype)
    yield lambda x: F.scaled_dot_product_attention(x, x, x), torch.randn((3, 4, 32, 32), dtype=dtype)
