"""Residual blocks with a time embedding, and the sinusoidal time embedding itself."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.conditions import Time
from dallecli.nets.threads import in_whole_vectors


def sinusoid(t: Tensor, width: int) -> Tensor:
    """Return [b width] of [cos | sin] features of timesteps `t` [b], in float32.

    Cosines come first (`flip_sin_to_cos`), and frequencies are 10000^(-k / (width / 2)) (`freq_shift` 0), as in every
    published unCLIP network.
    """
    half = width // 2
    # In the published library's order: angles go up to 999, where a frequency's last digit shows in the fifth.
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies[None, :]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def silu(x: Tensor) -> Tensor:
    """SiLU of pictures, or of times [steps b d]."""
    return in_whole_vectors(x, F.silu)


def silu_(x: Tensor) -> Tensor:
    """SiLU of a tensor that nothing else refers to: computed in place, unless a gradient needs the input."""
    return in_whole_vectors(x, partial(F.silu, inplace=not torch.is_grad_enabled()))


class TimestepEmbedding(nn.Module):
    """The two-layer perceptron on top of `sinusoid`."""

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        """SiLU; another one in some subclasses."""
        return silu(x)

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width_in, hidden)
        self.linear_2 = nn.Linear(hidden, width_out)

    def forward(self, features: Tensor) -> Tensor:
        """Return [b width_out] from [b width_in]."""
        out: Tensor = self.linear_2(self.activate(self.linear_1(features)))
        return out


class ResnetBlock(nn.Module):
    """Twice group norm, SiLU and convolution, with the time embedding in between and a shortcut around them.

    With `scale_shift` the time embedding scales and shifts the second norm (Karlo's decoder, Kandinsky); else it is
    added before that norm (Karlo's super-resolution). With `resample` "down" or "up" the block is a down- or
    upsampler: both branches are resampled after the first norm, without a convolution. Equals diffusers'
    `ResnetBlock2D`.
    """

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        """SiLU of a tensor that nothing else refers to; another activation in some subclasses."""
        return silu_(x)

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        time_dim: int,
        groups: int,
        eps: float,
        scale_shift: bool,
        resample: str | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.norm1 = nn.GroupNorm(groups, channels_in, eps=eps)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_dim, 2 * channels_out if scale_shift else channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps=eps)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None

    def forward(self, x: Tensor, time: Time) -> Tensor:
        """Return [b c_out h' w'] from `x` [b c_in h w]."""
        h = self.activate(self.norm1(x))
        if self.resample == "down":
            x, h = F.avg_pool2d(x, 2), F.avg_pool2d(h, 2)
        elif self.resample == "up":
            x, h = F.interpolate(x, scale_factor=2.0), F.interpolate(h, scale_factor=2.0)
        h = self.conv1(h)
        moved = time.through(self.time_emb_proj)[:, :, None, None]
        if self.scale_shift:
            scale, shift = moved.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + moved)
        out: Tensor = self.conv2(self.activate(h))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        return out + x
