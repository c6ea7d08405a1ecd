"""The UNets of DeepFloyd IF, which paints as Imagen does (Saharia et al. 2022, https://arxiv.org/abs/2205.11487).

They have the levels of unCLIP's decoder (`UNet`), and besides: exact GELU for SiLU; a context that is projected from
the states of T5, and normed by every attention; the same states pooled into the time embedding; and, in the one that
enlarges, how much noise its smaller picture has. Equal to diffusers' `UNet2DConditionModel` with their configs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.attention import AddedKVAttention
from dallecli.nets.conditions import Context, KeysValues, Time, Times
from dallecli.nets.config import require
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.resnet import ResnetBlock, TimestepEmbedding, sinusoid
from dallecli.nets.text_proj import Conditioning
from dallecli.nets.unet import DOWN_BLOCKS, MID_BLOCKS, UP_BLOCKS, UNetConfig
from dallecli.nets.unet_blocks import MidBlock, walk, way_down, way_up

NORM_GROUPS: Final = 32
"""In which the context's channels are normed: the published library's own number, which no config states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IfUNetConfig(UNetConfig):
    """`unet/config.json` of either stage; the defaults are the published library's."""

    addition_embed_type_num_heads: int = 64
    time_embedding_act_fn: str | None = None
    timestep_post_act: str | None = None
    class_embeddings_concat: bool = False
    mid_block_only_cross_attention: bool | None = None

    def __post_init__(self) -> None:
        self.check_levels()
        require("act_fn", self.act_fn, "gelu")
        require("addition_embed_type", self.addition_embed_type, "text")
        # Null where the library adds it by itself.
        require("encoder_hid_dim_type", self.encoder_hid_dim_type, "text_proj", None)
        require("cross_attention_norm", self.cross_attention_norm, "group_norm")
        require("class_embed_type", self.class_embed_type, None, "timestep")
        # The activation of the time is either each block's own or done once for all: the same numbers.
        require("time_embedding_act_fn", self.time_embedding_act_fn, "gelu" if self.resnet_skip_time_act else None)
        require("timestep_post_act", self.timestep_post_act, None)
        require("class_embeddings_concat", self.class_embeddings_concat, False)
        width, heads = self.encoder_hid_dim, self.addition_embed_type_num_heads
        if not self.attends or width is None:
            raise ValueError("encoder_hid_dim or attention is missing, and the network reads text")
        if heads < 1 or width % heads:
            raise ValueError(f"{width} encoder_hid_dim can't be shared by {heads} addition_embed_type_num_heads")
        if not self.context_dim or self.context_dim % NORM_GROUPS:
            raise ValueError(f"cross_attention_dim is {self.context_dim}, which {NORM_GROUPS} groups can't share")

    @property
    def text_dim(self) -> int:
        """The width of the text's states."""
        return _stated(self.encoder_hid_dim)

    @property
    def context_dim(self) -> int:
        """The width of the tokens that the blocks attend to."""
        return _stated(self.cross_attention_dim)

    @property
    def enlarges(self) -> bool:
        """Whether it is told how much noise its smaller picture has."""
        return self.class_embed_type == "timestep"

    @property
    def middle_reads_only(self) -> bool:
        """Whether the attention of the middle block is to the text alone."""
        stated = self.mid_block_only_cross_attention
        return self.only_cross_attention if stated is None else stated


def _stated(width: int | None) -> int:
    assert width is not None  # or the config would have been refused
    return width


class GeluTimestepEmbedding(TimestepEmbedding):
    """The perceptron on top of `sinusoid`, with GELU."""

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        """GELU, exactly."""
        return F.gelu(x)


class GeluResnetBlock(ResnetBlock):
    """A residual block with GELU, whose sum of both branches is divided by `scale`."""

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        """GELU, exactly."""
        return F.gelu(x)

    def __init__(self, config: IfUNetConfig, channels_in: int, channels_out: int, resample: str | None, scale: float):
        scale_shift = config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps
        super().__init__(channels_in, channels_out, config.time_dim, groups, eps, scale_shift, resample)
        self.scale = scale

    def forward(self, x: Tensor, time: Time) -> Tensor:
        """Return [b c_out h' w'] from `x` [b c_in h w]."""
        out = super().forward(x, time)
        return out if self.scale == 1 else out / self.scale


class TextAttention(AddedKVAttention):
    """Attention of the cells of an image to the normed text, and to themselves unless `reads_only`.

    The norm is over all tokens together, padding as well.
    """

    def __init__(self, channels: int, head_dim: int, context_dim: int, groups: int, reads_only: bool) -> None:
        super().__init__(channels, head_dim, context_dim, groups, 1e-5)
        self.norm_cross = nn.GroupNorm(NORM_GROUPS, context_dim, eps=1e-5)
        self.reads_only = reads_only
        if reads_only:
            del self.to_k, self.to_v

    def _seen(self, y: Tensor, context: Context) -> KeysValues:
        return context.once(self, self._project) if self.reads_only else super()._seen(y, context)

    def _project(self, tokens: Tensor) -> KeysValues:
        return super()._project(self.norm_cross(tokens.transpose(1, 2)).transpose(1, 2))


class AttentionPooling(nn.Module):
    """One vector of many: the mean of the tokens looks at them, and at itself."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.zeros(1, width))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [b d] from [b n d]."""
        mean = tokens.mean(dim=1, keepdim=True) + self.positional_embedding
        tokens = torch.cat([mean, tokens], dim=1)
        q, k, v = (
            rearrange(part, "b n (k d) -> b k n d", k=self.heads)
            for part in (self.q_proj(mean), self.k_proj(tokens), self.v_proj(tokens))
        )
        return rearrange(F.scaled_dot_product_attention(q, k, v), "b k 1 d -> b (k d)")


class TextTimeEmbedding(nn.Module):
    """What the states of a text add to the time embedding."""

    def __init__(self, text_dim: int, time_dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(text_dim)
        self.pool = AttentionPooling(heads, text_dim)
        self.proj = nn.Linear(text_dim, time_dim)
        self.norm2 = nn.LayerNorm(time_dim)

    def forward(self, states: Tensor) -> Tensor:
        """Return [b time_dim] from [b n text_dim]."""
        out: Tensor = self.norm2(self.proj(self.pool(self.norm1(states))))
        return out


class IfUNet(nn.Module):
    """Predicts the noise in an image, and its variance, from T5's states of a text."""

    def __init__(self, config: IfUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, layers, time_dim = config.block_out_channels, config.layers, config.time_dim
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = GeluTimestepEmbedding(channels[0], time_dim, time_dim)
        self.encoder_hid_proj = nn.Linear(config.text_dim, config.context_dim)
        self.class_embedding = GeluTimestepEmbedding(channels[0], time_dim, time_dim) if config.enlarges else None
        self.add_embedding = TextTimeEmbedding(config.text_dim, time_dim, config.addition_embed_type_num_heads)

        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        up = [UP_BLOCKS[name] for name in config.up_block_types]
        self.down_blocks = way_down(
            channels, layers, down, self._resnet, self._attentions, lambda width: self._resnet(width, width, "down")
        )
        scale = config.mid_block_scale_factor
        middle: list[ResnetBlock] = [
            GeluResnetBlock(config, channels[last], channels[last], None, scale) for _ in range(2)
        ]
        looks = MID_BLOCKS[config.mid_block_type]
        self.mid_block = MidBlock(middle, [self._attention(last, last, config.middle_reads_only)] if looks else [])
        self.up_blocks = way_up(
            channels, layers, up, self._resnet, self._attentions, lambda width: self._resnet(width, width, "up")
        )

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def _resnet(self, channels_in: int, channels_out: int, resample: str | None = None) -> ResnetBlock:
        return GeluResnetBlock(self.config, channels_in, channels_out, resample, self.config.resnet_out_scale_factor)

    def _attentions(self, level: int, block: int, count: int) -> list[TextAttention]:
        return [self._attention(level, block, self.config.only_cross_attention) for _ in range(count)]

    def _attention(self, level: int, block: int, reads_only: bool) -> TextAttention:
        config = self.config
        channels, head = config.block_out_channels[level], config.head_dim(block)
        return TextAttention(channels, head, config.context_dim, config.norm_num_groups, reads_only)

    def condition(self, states: Tensor, level: int | None = None) -> Conditioning:
        """Return the conditioning of T5's states [b n d]: for `times` and a `Context`, once a run.

        `level` is the timestep at whose noise level the smaller picture is, for a network that enlarges one.
        Raises ValueError for a network that enlarges and is not told, or the other way round.
        """
        if (level is None) == self.config.enlarges:
            raise ValueError("a noise level is for the network that enlarges, and needed there")
        time = self.add_embedding(states)
        if self.class_embedding is not None and level is not None:
            time = self.class_embedding(self._features(torch.tensor([level], device=time.device))) + time
        return Conditioning(self.encoder_hid_proj(states), time)

    def times(self, ts: Sequence[int], condition: Tensor) -> Times:
        """Return the embeddings of a run's timesteps `ts`, of which `denoise` takes a `Time` at each step.

        `condition` [b time_dim] is that of `condition`.
        """
        steps = torch.tensor(ts, device=condition.device)
        return Times(F.gelu(self.time_embedding(self._features(steps))[:, None] + condition))

    def denoise(
        self, x: Tensor, time: Time, context: Context | None = None, deep: DeepFeatures | None = None
    ) -> Tensor:
        """Return the prediction [b 6 h w] for noised images `x` [b 3 h w], after which the larger of the smaller ones
        follow in the channels where the network enlarges."""
        x = walk(self.down_blocks, self.mid_block, self.up_blocks, self.conv_in(x), time, context, deep)
        out: Tensor = self.conv_out(F.gelu(self.conv_norm_out(x)))
        return out

    def forward(self, x: Tensor, t: Tensor, states: Tensor, level: int | None = None) -> Tensor:
        """Return the prediction of a single step at the timestep `t` (a scalar), for T5's `states`: see `denoise`."""
        told = self.condition(states, level)
        return self.denoise(x, Time(self.times([int(t)], told.time), 0), Context(told.context))

    def _features(self, ts: Tensor) -> Tensor:
        return sinusoid(ts, self.config.block_out_channels[0]).to(self.conv_norm_out.weight.dtype)
