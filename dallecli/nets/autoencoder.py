"""The parts of convolutional autoencoders, which turn pictures into latents with an eighth of their side, and back.

The same blocks serve Kandinsky's MOVQ, whose decoder is modulated by the latent itself, and Stable Diffusion's KL
autoencoder, whose decoder is not. Keys and arithmetic are those of diffusers' `vae.Encoder` and `vae.Decoder`.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.config import require
from dallecli.nets.resnet import silu_

EPS = 1e-6
"""The epsilon of every norm in this file."""
SPATIAL_GROUPS = 32
"""The groups of a spatial norm, whatever the config says for the others."""


def require_blocks(
    down: Sequence[str], up: Sequence[str], levels: int, down_blocks: Iterable[str], up_blocks: Iterable[str]
) -> None:
    """Refuse blocks of a config that are not built here, or are not one a level. Raises ValueError."""
    for name in down:
        require("down_block_types", name, *down_blocks)
    for name in up:
        require("up_block_types", name, *up_blocks)
    require("the number of down_block_types", len(down), levels)
    require("the number of up_block_types", len(up), levels)


class SpatialNorm(nn.Module):
    """A group norm whose scale and shift are computed from the latent, cell by cell."""

    def __init__(self, channels: int, latent_channels: int) -> None:
        super().__init__()
        self.norm_layer = nn.GroupNorm(SPATIAL_GROUPS, channels, eps=EPS)
        self.conv_y = nn.Conv2d(latent_channels, channels, 1)
        self.conv_b = nn.Conv2d(latent_channels, channels, 1)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        """Return [b c h w] from `x` [b c h w] and a `latent` [b z h' w'], whose sides divide those of `x`.

        The published norm first enlarges the latent to the size of `x`, by repeating cells, and then convolves it. The
        convolutions are 1 x 1, so convolving first gives the same, and broadcasting repeats without a copy.
        """
        scale, shift = (read(latent)[:, :, :, None, :, None] for read in (self.conv_y, self.conv_b))
        height, width = latent.shape[-2:]
        y = self.norm_layer(x).unflatten(3, (width, -1)).unflatten(2, (height, -1))
        return torch.addcmul(shift, y, scale).flatten(4, 5).flatten(2, 3)


def _norm(channels: int, groups: int, latent_channels: int | None) -> nn.Module:
    """The norm of a block: spatial if the latent modulates it, else a plain group norm."""
    if latent_channels is None:
        return nn.GroupNorm(groups, channels, eps=EPS)
    return SpatialNorm(channels, latent_channels)


def _normed(norm: nn.Module, x: Tensor, latent: Tensor | None) -> Tensor:
    out: Tensor = norm(x) if latent is None else norm(x, latent)
    return out


class Residual(nn.Module):
    """Twice norm, SiLU and convolution, with a shortcut around them."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, latent_channels: int | None) -> None:
        super().__init__()
        self.norm1 = _norm(channels_in, groups, latent_channels)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = _norm(channels_out, groups, latent_channels)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: Tensor, latent: Tensor | None) -> Tensor:
        """Return [b c_out h w] from [b c_in h w]."""
        h = self.conv1(silu_(_normed(self.norm1, x, latent)))
        h = self.conv2(silu_(_normed(self.norm2, h, latent)))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        out: Tensor = x + h
        return out


class Attention(nn.Module):
    """Self-attention with one head over the cells of an image; the result is added to the image."""

    def __init__(self, channels: int, groups: int, latent_channels: int | None) -> None:
        super().__init__()
        norm = _norm(channels, groups, latent_channels)
        self.group_norm = norm if latent_channels is None else None
        self.spatial_norm = norm if latent_channels is not None else None
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, latent: Tensor | None) -> Tensor:
        """Return [b c h w] from [b c h w]."""
        norm = self.group_norm if self.group_norm is not None else self.spatial_norm
        assert norm is not None  # it is one or the other
        y = rearrange(_normed(norm, x, latent), "b c h w -> b (h w) c")
        q, k, v = (to(y)[:, None] for to in (self.to_q, self.to_k, self.to_v))
        y = self.to_out[0](F.scaled_dot_product_attention(q, k, v)[:, 0])
        out: Tensor = x + rearrange(y, "b (h w) c -> b c h w", h=x.shape[2])
        return out


class Downsampler(nn.Module):
    """Halves the side by a convolution that is padded on the right and at the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b c h/2 w/2] from [b c h w]."""
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsampler(nn.Module):
    """Doubles the side by repeating cells, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b c 2h 2w] from [b c h w]."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class Level(nn.Module):
    """Residual blocks, each followed by attention where the level has any, then a down- or upsampler."""

    def __init__(
        self,
        widths: Sequence[tuple[int, int]],
        groups: int,
        latent_channels: int | None,
        *,
        attends: bool,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        channels = widths[-1][1]
        self.resnets = nn.ModuleList([Residual(*width, groups, latent_channels) for width in widths])
        attentions = [Attention(channels, groups, latent_channels) for _ in widths] if attends else []
        self.attentions = nn.ModuleList(attentions) if attends else None
        self.downsamplers = nn.ModuleList([Downsampler(channels)]) if downsample else None
        self.upsamplers = nn.ModuleList([Upsampler(channels)]) if upsample else None

    def forward(self, x: Tensor, latent: Tensor | None) -> Tensor:
        """Return [b c h' w'] from [b c_in h w]."""
        for index, resnet in enumerate(self.resnets):
            x = resnet(x, latent)
            if self.attentions is not None:
                x = self.attentions[index](x, latent)
        for samplers in (self.downsamplers, self.upsamplers):
            if samplers is not None:
                x = samplers[0](x)
        return x


class Middle(nn.Module):
    """Two residual blocks at the lowest level with attention between them."""

    def __init__(self, channels: int, groups: int, latent_channels: int | None) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels, groups, latent_channels)])
        self.resnets = nn.ModuleList([Residual(channels, channels, groups, latent_channels) for _ in range(2)])

    def forward(self, x: Tensor, latent: Tensor | None) -> Tensor:
        """Return [b c h w] from [b c h w]."""
        x = self.attentions[0](self.resnets[0](x, latent), latent)
        out: Tensor = self.resnets[1](x, latent)
        return out


class Encoder(nn.Module):
    """Turns pixels into latents, or into their mean and log-variance. `attends` says which levels have attention."""

    def __init__(
        self, channels: Sequence[int], groups: int, layers: int, attends: Sequence[bool], latent_channels: int
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(_widths(channels, level, layers), groups, None, attends=looks, downsample=level < len(channels) - 1)
            for level, looks in enumerate(attends)
        )
        self.mid_block = Middle(channels[-1], groups, None)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], eps=EPS)
        self.conv_out = nn.Conv2d(channels[-1], latent_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [b z h/f w/f] from pixels [b 3 h w]."""
        x = self.conv_in(pixels)
        for level in self.down_blocks:
            x = level(x, None)
        x = self.mid_block(x, None)
        out: Tensor = self.conv_out(silu_(self.conv_norm_out(x)))
        return out


class Decoder(nn.Module):
    """Turns latents into pixels; each level has one residual block more than the encoder's.

    `channels` and `attends` are given from the smallest image up. With `spatial` every norm is modulated by the latent.
    """

    def __init__(
        self,
        channels: Sequence[int],
        groups: int,
        layers: int,
        attends: Sequence[bool],
        latent_channels: int,
        *,
        spatial: bool,
    ) -> None:
        super().__init__()
        modulator = latent_channels if spatial else None
        self.conv_in = nn.Conv2d(latent_channels, channels[0], 3, padding=1)
        self.up_blocks = nn.ModuleList(
            Level(
                _widths(channels, level, layers + 1),
                groups,
                modulator,
                attends=looks,
                upsample=level < len(channels) - 1,
            )
            for level, looks in enumerate(attends)
        )
        self.mid_block = Middle(channels[0], groups, modulator)
        self.conv_norm_out = _norm(channels[-1], groups, modulator)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, x: Tensor, latent: Tensor | None) -> Tensor:
        """Return pixels [b 3 h*f w*f] from `x` [b z h w], modulated by the `latent` [b z h w] that it came from."""
        x = self.mid_block(self.conv_in(x), latent)
        for level in self.up_blocks:
            x = level(x, latent)
        out: Tensor = self.conv_out(silu_(_normed(self.conv_norm_out, x, latent)))
        return out


def _widths(channels: Sequence[int], level: int, layers: int) -> list[tuple[int, int]]:
    """The channels into and out of each residual block of a level."""
    width = channels[level]
    return [(channels[max(level - 1, 0)], width), *[(width, width)] * (layers - 1)]
