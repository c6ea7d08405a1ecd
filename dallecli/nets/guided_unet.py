"""The UNet of guided-diffusion ("ADM", Dhariwal & Nichol 2021): it sees an image, and knows its class.

The chain's upsampler is the same network: the enlarged smaller image follows in the channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dallecli.nets.conditions import Time, Times
from dallecli.nets.config import require
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.guided_blocks import DOWN_BLOCKS, UP_BLOCKS, GuidedConfig
from dallecli.nets.resnet import TimestepEmbedding, silu, silu_, sinusoid
from dallecli.nets.unet_blocks import MidBlock, walk, way_down, way_up


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedUNetConfig(GuidedConfig):
    """`decoder/config.json` or `super_res/config.json`."""

    out_channels: int = 6
    up_block_types: tuple[str, ...]
    upsample_type: str = "resnet"
    mid_block_type: str = "UNetMidBlock2D"
    add_attention: bool = True
    num_class_embeds: int | None = None

    def __post_init__(self) -> None:
        self.check()
        for name in self.up_block_types:
            require("up_block_types", name, *UP_BLOCKS)
        require("the number of up_block_types", len(self.up_block_types), len(self.block_out_channels))
        require("upsample_type", self.upsample_type, "resnet")
        require("mid_block_type", self.mid_block_type, "UNetMidBlock2D")
        require("add_attention", self.add_attention, True)


class GuidedUNet(nn.Module):
    """Predicts the noise in a noised image, and its variance."""

    def __init__(self, config: GuidedUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        layers = (config.layers_per_block,) * len(channels)
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(config.sinusoid_width, config.time_dim, config.time_dim)
        self.class_embedding: nn.Embedding | None = None
        if config.num_class_embeds is not None:
            self.class_embedding = nn.Embedding(config.num_class_embeds, config.time_dim)

        def attentions(level: int, block: int, count: int) -> Sequence[nn.Module]:
            return config.attentions(level, count)

        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        up = [UP_BLOCKS[name] for name in config.up_block_types]
        self.down_blocks = way_down(
            channels, layers, down, config.resnet, attentions, lambda width: config.resnet(width, width, "down")
        )
        middle = [config.resnet(channels[last], channels[last]) for _ in range(2)]
        self.mid_block = MidBlock(middle, config.attentions(last, 1))
        self.up_blocks = way_up(
            channels, layers, up, config.resnet, attentions, lambda width: config.resnet(width, width, "up")
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def times(self, ts: Sequence[int], classes: Tensor | None = None) -> Times:
        """Return the embeddings of a run's timesteps `ts`, of which `denoise` takes a `Time` at each step.

        classes: the numbers [b] of the images' classes, for a network that knows any; None for the others. Raises
        ValueError where that does not fit.
        """
        if (classes is None) != (self.class_embedding is None):
            raise ValueError("a network that knows classes is told one, and no other is")
        weight = self.conv_norm_out.weight
        features = sinusoid(torch.tensor(ts, device=weight.device), self.config.sinusoid_width)
        time: Tensor = self.time_embedding(features.to(weight.dtype))[:, None]
        if self.class_embedding is not None and classes is not None:
            time = time + self.class_embedding(classes)
        return Times(silu(time))

    def denoise(self, x: Tensor, time: Time, deep: DeepFeatures | None = None) -> Tensor:
        """Return the noise and the share of the variance [b out h w] in images `x` [b c h w]."""
        x = walk(self.down_blocks, self.mid_block, self.up_blocks, self.conv_in(x), time, None, deep)
        out: Tensor = self.conv_out(silu_(self.conv_norm_out(x)))
        return out
