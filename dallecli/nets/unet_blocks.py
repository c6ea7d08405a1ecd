"""The levels of a UNet, down and up, and the skip connections between them; attention and resampling are passed in.

Equals the blocks of diffusers' `UNet2DModel` and `UNet2DConditionModel`, with their keys.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dallecli.nets.conditions import Context, Time
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.resnet import ResnetBlock

Resnet = Callable[[int, int], ResnetBlock]
"""Makes a residual block, given the channels that go in and those that come out."""
Attentions = Callable[[int, int, int], Sequence[nn.Module]]
"""Makes attentions, given the level (0 has the largest image), the number of the block down or up, and how many."""
Resampler = Callable[[int], nn.Module]
"""Makes a down- or upsampler, given its channels."""


class Block(nn.Module):
    """One level of the UNet: residual blocks, each followed by attention where the level has any, then a resampler.

    Every network has its own kinds of them: attention takes (x, context), a resampler (x, time).
    """

    def __init__(self, resnets: list[ResnetBlock], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        # An empty list would leave no trace on disk either, but diffusers has no such attribute there.
        self.attentions = nn.ModuleList(attentions) if attentions else None

    def layer(self, index: int, x: Tensor, time: Time, context: Context | None) -> Tensor:
        """Return [b c h w] after residual block `index` and its attention."""
        x = self.resnets[index](x, time)
        if self.attentions is not None:
            x = self.attentions[index](x, context)
        return x


class DownBlock(Block):
    """A level on the way down; it keeps the output of every layer as a skip for the way up."""

    def __init__(
        self, resnets: list[ResnetBlock], attentions: Sequence[nn.Module], downsampler: nn.Module | None
    ) -> None:
        super().__init__(resnets, attentions)
        self.downsamplers = nn.ModuleList([downsampler]) if downsampler is not None else None

    def forward(self, x: Tensor, time: Time, context: Context | None) -> list[Tensor]:
        """Return the outputs [b c h w] of all layers; the last one is the block's."""
        outputs = self.without_downsampler(x, time, context)
        if self.downsamplers is not None:
            outputs.append(self.downsamplers[0](outputs[-1], time))
        return outputs

    def without_downsampler(self, x: Tensor, time: Time, context: Context | None) -> list[Tensor]:
        """Return the outputs [b c h w] of all layers that leave the image as large as it is."""
        outputs = []
        for index in range(len(self.resnets)):
            x = self.layer(index, x, time, context)
            outputs.append(x)
        return outputs


class MidBlock(nn.Module):
    """Two residual blocks at the lowest level, with attention between them where the network has any."""

    def __init__(self, resnets: list[ResnetBlock], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.attentions = nn.ModuleList(attentions) if attentions else None

    def forward(self, x: Tensor, time: Time, context: Context | None) -> Tensor:
        """Return [b c h w] from [b c h w]."""
        x = self.resnets[0](x, time)
        if self.attentions is not None:
            x = self.attentions[0](x, context)
        out: Tensor = self.resnets[1](x, time)
        return out


class UpBlock(Block):
    """A level on the way up; each layer takes one skip from the way down."""

    def __init__(
        self, resnets: list[ResnetBlock], attentions: Sequence[nn.Module], upsampler: nn.Module | None
    ) -> None:
        super().__init__(resnets, attentions)
        self.upsamplers = nn.ModuleList([upsampler]) if upsampler is not None else None

    def forward(self, x: Tensor, skips: list[Tensor], time: Time, context: Context | None) -> Tensor:
        """Return [b c h w]; pops its skips from the end of `skips`."""
        for index in range(len(self.resnets)):
            x = self.layer(index, torch.cat([x, skips.pop()], dim=1), time, context)
        if self.upsamplers is not None:
            x = self.upsamplers[0](x, time)
        return x


def way_down(
    channels: Sequence[int],
    layers: Sequence[int],
    attends: Sequence[bool],
    resnet: Resnet,
    attentions: Attentions,
    downsampler: Resampler,
) -> nn.ModuleList:
    """The levels from the largest image to the smallest, of which all but the last end with a downsampler."""
    blocks = []
    for level, width in enumerate(channels):
        count = layers[level]
        resnets = [resnet(channels[max(level - 1, 0)] if i == 0 else width, width) for i in range(count)]
        sampler = downsampler(width) if level < len(channels) - 1 else None
        blocks.append(DownBlock(resnets, attentions(level, level, count) if attends[level] else [], sampler))
    return nn.ModuleList(blocks)


def way_up(
    channels: Sequence[int],
    layers: Sequence[int],
    attends: Sequence[bool],
    resnet: Resnet,
    attentions: Attentions,
    upsampler: Resampler,
) -> nn.ModuleList:
    """The levels from the smallest image back to the largest, each with one layer more than on the way down.

    `channels` and `layers` are in the order of the way down, `attends` in that of the way up.
    """
    blocks = []
    last = len(channels) - 1
    for position, looks in enumerate(attends):
        level = last - position
        width, below, above = channels[level], channels[min(level + 1, last)], channels[max(level - 1, 0)]
        count = layers[level] + 1
        resnets = []
        for i in range(count):
            from_below, from_skip = below if i == 0 else width, above if i == count - 1 else width
            resnets.append(resnet(from_below + from_skip, width))
        sampler = upsampler(width) if level > 0 else None
        blocks.append(UpBlock(resnets, attentions(level, position, count) if looks else [], sampler))
    return nn.ModuleList(blocks)


def walk(
    down_blocks: nn.ModuleList,
    mid_block: MidBlock,
    up_blocks: nn.ModuleList,
    x: Tensor,
    time: Time,
    context: Context | None,
    deep: DeepFeatures | None = None,
) -> Tensor:
    """Return [b c h w] from `x` [b c h w], after all levels down and up again.

    With `deep` features that are not fresh only the uppermost level is computed, down and up.
    """
    skips = [x]
    if deep is not None and not deep.fresh:
        top = cast(DownBlock, down_blocks[0])
        skips.extend(top.without_downsampler(x, time, context))
        x = deep.of(len(x))
    else:
        for down in down_blocks:
            skips.extend(down(x, time, context))
            x = skips[-1]
        x = mid_block(x, time, context)
        for up in list(up_blocks)[:-1]:
            x = up(x, skips, time, context)
        if deep is not None:
            deep.keep(x)
    out: Tensor = up_blocks[-1](x, skips, time, context)
    return out
