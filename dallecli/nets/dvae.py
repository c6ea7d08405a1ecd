"""DALL·E 1's discrete autoencoder: pictures become codes, 8 by 8 pixels each, and codes become pictures.

Ramesh et al. 2021 (https://arxiv.org/abs/2102.12092), section 2.1 and appendix A. The networks are fully convolutional:
no attention and no norms, so pictures of any size that is a multiple of the cell are encoded. Keys are those of the
published modules, whose convolutions call their tensors `w` and `b`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.config import PublishedConfig

EPSILON: Final = 0.1
"""Levels are squeezed by so much from both ends: the likelihood that was trained on never reaches 0 and 1."""

NARROW: Final = 4
"""How many times narrower the inside of a block is than the block."""

CHANNELS: Final = 3
"""Of a picture. The decoder predicts a mean and a scale of each; the scales are needed in training only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeConfig(PublishedConfig):
    """`config.json` of an encoder or a decoder, which a conversion writes."""

    vocab_size: int
    """How many codes there are."""
    block_out_channels: tuple[int, ...]
    """The widths of the groups, that of whole pixels first."""
    layers_per_block: int
    """Residual blocks in a group. There may be none where `residual_gain` is stated."""
    init_channels: int | None = None
    """The width of the decoder's codebook; an encoder has none."""
    residual_gain: float | None = None
    """What the residual path of every block is multiplied by; None: what the published modules have."""
    patch_size: int = 1
    """The side in pixels of the squares that the encoder takes in, and the decoder gives, as one position of so many
    times more channels; the published modules go pixel by pixel."""

    def __post_init__(self) -> None:
        fewest = 1 if self.residual_gain is None else 0
        if not self.block_out_channels or self.layers_per_block < fewest or self.vocab_size < 1:
            raise ValueError("there are no groups, no blocks or no codes")
        if self.patch_size < 1:
            raise ValueError(f"patch_size is {self.patch_size}, expected at least 1")
        for width in self.block_out_channels:
            if width < NARROW or width % NARROW:
                raise ValueError(f"block_out_channels has {width}, which is no multiple of {NARROW}")

    @property
    def cell(self) -> int:
        """How many pixels a code stands for along each side."""
        return int(2 ** (len(self.block_out_channels) - 1)) * self.patch_size

    @property
    def numbers(self) -> int:
        """How many numbers of a picture are one position."""
        return CHANNELS * self.patch_size**2

    @property
    def gain(self) -> float:
        """What the residual path of every block is multiplied by."""
        if self.residual_gain is not None:
            return self.residual_gain
        return 1 / (len(self.block_out_channels) * self.layers_per_block) ** 2


class Convolution(nn.Module):
    """A convolution with an odd kernel that keeps height and width, and what follows it at once."""

    def __init__(self, channels: int, out: int, kernel: int, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.w = nn.Parameter(torch.empty(out, channels, kernel, kernel))
        self.b = nn.Parameter(torch.empty(out))

    def forward(self, x: Tensor, onto: Tensor | None = None, *, rectified: bool = False) -> Tensor:
        """Return [b c h w] of `x` [b k h w]: the convolution, its ReLU, or `onto` [b c h w] and `gain` times it.

        `onto` may be overwritten: nothing else may need it.
        """
        y = self.convolve(x)
        if onto is not None:
            return torch.add(onto, y, alpha=self.gain)
        return relu_(y) if rectified else y

    def convolve(self, x: Tensor) -> Tensor:
        """Return the convolution alone."""
        return F.conv2d(x, self.w, self.b, padding=self.w.shape[-1] // 2)


def relu_(x: Tensor) -> Tensor:
    """ReLU of a tensor that nothing else refers to: computed in place, unless a gradient needs the input."""
    return F.relu(x, inplace=not torch.is_grad_enabled())


class Codebook(nn.Module):
    """The decoder's first layer: a 1x1 convolution of one-hot codes, which is a table that codes are looked up in."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(out, size, 1, 1))
        self.b = nn.Parameter(torch.empty(out))

    def forward(self, codes: Tensor) -> Tensor:
        """Return [b c h w] of codes [b h w]."""
        return self.w[:, codes, 0, 0].transpose(0, 1) + self.b[:, None, None]


class Block(nn.Module):
    """A residual block of four convolutions, each after a ReLU; with `enlarges` of what is then twice as large.

    Published networks enlarge before the block. Its first convolutions are 1 x 1 then, so they can as well come first,
    at a quarter of the work: the result is the same.
    """

    def __init__(self, channels: int, out: int, kernels: Sequence[int], gain: float, *, enlarges: bool = False) -> None:
        super().__init__()
        self.enlarges = enlarges
        widths = [channels, *(out // NARROW for _ in kernels[1:]), out]
        gains = [*(1.0 for _ in kernels[1:]), gain]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, kernel in enumerate(kernels, start=1):
            layers[f"conv_{number}"] = Convolution(widths[number - 1], widths[number], kernel, gains[number - 1])
        self.id_path = nn.Identity() if channels == out else Convolution(channels, out, 1)
        self.res_path = nn.ModuleDict(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b c h w], or with `enlarges` [b c 2h 2w], of `x` [b k h w]."""
        first, *others, last = self.res_path.values()
        y, straight = first(F.relu(x), rectified=True), self.id_path(x)
        if self.enlarges:
            y, straight = _enlarged(y), _enlarged(straight)
        for convolution in others:
            y = convolution(y, rectified=True)
        out: Tensor = last(y, straight)
        return out


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _group(
    channels: int, out: int, kernels: Sequence[int], config: DvaeConfig, *, enlarges: bool = False
) -> OrderedDict[str, nn.Module]:
    """The blocks of a group, by their names."""
    blocks = OrderedDict[str, nn.Module]()
    for number in range(1, config.layers_per_block + 1):
        given, larger = (channels, enlarges) if number == 1 else (out, False)
        blocks[f"block_{number}"] = Block(given, out, kernels, config.gain, enlarges=larger)
    return blocks


def _output(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict[str, nn.Module](relu=nn.ReLU(), conv=Convolution(channels, out, 1)))


class DvaeEncoder(nn.Module):
    """From squeezed pixels to the logits of codes."""

    def __init__(self, config: DvaeConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        widths = config.block_out_channels
        kernel = 7 if self.patch == 1 else 1
        layers: OrderedDict[str, nn.Module] = OrderedDict(input=Convolution(config.numbers, widths[0], kernel))
        for number, (channels, out) in enumerate(zip((widths[0], *widths), widths, strict=False), start=1):
            group = _group(channels, out, (3, 3, 3, 1), config)
            if number < len(widths):
                group["pool"] = nn.MaxPool2d(2)
            layers[f"group_{number}"] = nn.Sequential(group)
        self.blocks = nn.Sequential(layers | {"output": _output(widths[-1], config.vocab_size)})

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits [b v h/8 w/8] of squeezed pixels [b 3 h w]; h and w are multiples of the cell."""
        out: Tensor = self.blocks(F.pixel_unshuffle(pixels, self.patch))
        return out


class DvaeDecoder(nn.Module):
    """From codes to the means and scales of squeezed pixels."""

    def __init__(self, config: DvaeConfig) -> None:
        super().__init__()
        if config.init_channels is None:
            raise ValueError("missing init_channels")
        self.patch = config.patch_size
        widths = config.block_out_channels[::-1]
        layers: OrderedDict[str, nn.Module] = OrderedDict(input=Codebook(config.vocab_size, config.init_channels))
        for number, (channels, out) in enumerate(zip((config.init_channels, *widths), widths, strict=False), start=1):
            group = _group(channels, out, (1, 3, 3, 3), config, enlarges=number > 1)
            layers[f"group_{number}"] = nn.Sequential(group)
        self.blocks = nn.Sequential(layers | {"output": _output(widths[-1], 2 * config.numbers)})

    def forward(self, codes: Tensor) -> Tensor:
        """Return [b 6 8h 8w] of codes [b h w]: three means before the sigmoid, then three logarithms of scales."""
        out: Tensor = F.pixel_shuffle(self.blocks(codes), self.patch)
        return out


def squeeze(levels: Tensor) -> Tensor:
    """Levels in [0, 1] as the encoder sees them."""
    return (1 - 2 * EPSILON) * levels + EPSILON


def unsqueeze(levels: Tensor) -> Tensor:
    """Levels in [0, 1] of what the decoder means."""
    return ((levels - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)
