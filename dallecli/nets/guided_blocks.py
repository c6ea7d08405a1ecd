"""What the two networks of Dhariwal & Nichol 2021 are built of: the UNet (guided_unet.py) and the classifier.

Equal to the published code, and to diffusers' `UNet2DModel` where that has the variant; keys are diffusers'.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.conditions import Context
from dallecli.nets.config import PublishedConfig, require
from dallecli.nets.resnet import ResnetBlock

DOWN_BLOCKS = {"ResnetDownsampleBlock2D": False, "AttnDownBlock2D": True}
"""Published names of the down blocks, and whether they have attention."""
UP_BLOCKS = {"ResnetUpsampleBlock2D": False, "AttnUpBlock2D": True}
"""Published names of the up blocks, and whether they have attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedConfig(PublishedConfig):
    """What the configs of both networks have; the names are those of `UNet2DModel`, the defaults the published values.

    Heads have the width `attention_head_dim`, or every attention has `num_attention_heads`, which diffusers cannot
    state. `sinusoid_dim` is the width of the time features, where that is not the one of the first level.
    """

    sample_size: int
    in_channels: int = 3
    down_block_types: tuple[str, ...]
    block_out_channels: tuple[int, ...]
    layers_per_block: int = 2
    attention_head_dim: int | None = 64
    num_attention_heads: int | None = None
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    time_embedding_dim: int | None = None
    sinusoid_dim: int | None = None
    resnet_time_scale_shift: str = "scale_shift"
    downsample_type: str = "resnet"
    act_fn: str = "silu"

    def check(self) -> None:
        """Raises ValueError for a variant that is not implemented here."""
        for name in self.down_block_types:
            require("down_block_types", name, *DOWN_BLOCKS)
        require("the number of down_block_types", len(self.down_block_types), len(self.block_out_channels))
        require("resnet_time_scale_shift", self.resnet_time_scale_shift, "scale_shift")
        require("downsample_type", self.downsample_type, "resnet")
        require("act_fn", self.act_fn, "silu")
        if (self.attention_head_dim is None) == (self.num_attention_heads is None):
            raise ValueError("one of attention_head_dim and num_attention_heads is needed, and the other is null")
        if self.sinusoid_width < 2 or self.sinusoid_width % 2:
            raise ValueError(f"time features cannot be {self.sinusoid_width} wide")
        for channels in self.block_out_channels:
            if self.norm_num_groups < 1 or channels < 1 or channels % self.norm_num_groups:
                raise ValueError(f"{channels} channels can't be shared by {self.norm_num_groups} norm_num_groups")
        attends = [DOWN_BLOCKS[name] for name in self.down_block_types]
        last = len(self.block_out_channels) - 1  # the middle always attends
        for level, channels in enumerate(self.block_out_channels):
            if (attends[level] or level == last) and (not self.heads(channels) or channels % self.heads(channels)):
                raise ValueError(f"{channels} channels can't be shared by attention heads")

    def heads(self, channels: int) -> int:
        """How many heads an attention over so many channels has."""
        if self.num_attention_heads is not None:
            return self.num_attention_heads
        width = self.attention_head_dim
        return channels // width if width else 0

    @property
    def sinusoid_width(self) -> int:
        """The width of the time features."""
        return self.block_out_channels[0] if self.sinusoid_dim is None else self.sinusoid_dim

    @property
    def time_dim(self) -> int:
        """The width of the time embedding."""
        return 4 * self.block_out_channels[0] if self.time_embedding_dim is None else self.time_embedding_dim

    def resnet(self, channels_in: int, channels_out: int, resample: str | None = None) -> ResnetBlock:
        """A residual block; with `resample` "down" or "up" it is a down- or upsampler."""
        groups, eps = self.norm_num_groups, self.norm_eps
        return ResnetBlock(channels_in, channels_out, self.time_dim, groups, eps, True, resample)

    def attentions(self, level: int, count: int) -> "list[CellAttention]":
        """So many attentions over the cells of a level."""
        channels = self.block_out_channels[level]
        return [
            CellAttention(channels, self.heads(channels), self.norm_num_groups, self.norm_eps) for _ in range(count)
        ]


class CellAttention(nn.Module):
    """Self-attention over the cells of an image, which is group-normed first; the result is added to the input."""

    def __init__(self, channels: int, heads: int, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Context | None = None) -> Tensor:
        """Return [b c h w] from [b c h w]; there is no context."""
        y = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        q, k, v = (rearrange(to(y), "b n (k d) -> b k n d", k=self.heads) for to in (self.to_q, self.to_k, self.to_v))
        y = self.to_out[0](rearrange(F.scaled_dot_product_attention(q, k, v), "b k n d -> b n (k d)"))
        out: Tensor = rearrange(y, "b (h w) c -> b c h w", h=x.shape[2]) + x
        return out


class AttentionPool(nn.Module):
    """Reads an image into one vector: its mean attends to itself and to all cells (Radford et al. 2021, CLIP)."""

    def __init__(self, cells: int, channels: int, heads: int, width_out: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(channels, cells + 1))
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b width_out] from [b c h w]."""
        cells = rearrange(x, "b c h w -> b (h w) c")
        tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1) + self.positional_embedding.T
        q = rearrange(self.to_q(tokens[:, :1]), "b n (k d) -> b k n d", k=self.heads)
        k, v = (rearrange(to(tokens), "b n (k d) -> b k n d", k=self.heads) for to in (self.to_k, self.to_v))
        y = rearrange(F.scaled_dot_product_attention(q, k, v), "b k n d -> b n (k d)")[:, 0]
        out: Tensor = self.to_out(y)
        return out
