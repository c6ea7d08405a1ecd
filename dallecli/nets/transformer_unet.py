"""The UNet of Stable Diffusion 2.1, as Stable unCLIP conditions it: on text, and on a picture's noised CLIP embedding.

Latent diffusion (Rombach et al. 2022, https://arxiv.org/abs/2112.10752): the levels with attention hold transformers
that attend to the image and then to the text. Keys and arithmetic are those of diffusers' `UNet2DConditionModel` with
"CrossAttn" blocks and a `class_embed_type` of "projection".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.conditions import Context, KeysValues, Time, Times
from dallecli.nets.config import PublishedConfig, require
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.resnet import ResnetBlock, TimestepEmbedding, silu, silu_, sinusoid
from dallecli.nets.unet_blocks import MidBlock, walk, way_down, way_up

DOWN_BLOCKS = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
"""Published names of the down blocks, and whether they have attention."""
UP_BLOCKS = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}
"""Published names of the up blocks, and whether they have attention."""

TRANSFORMER_EPS = 1e-6
"""The epsilon of the group norm before a transformer, whatever norm_eps says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerUNetConfig(PublishedConfig):
    """`unet/config.json`; the defaults are the published library's.

    `attention_head_dim` is the number of heads of a level, not their width: a misnomer in the published files. The
    published `upcast_attention` is ignored: torch's own attention sums products of queries and keys in float32.
    """

    sample_size: int
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...]
    mid_block_type: str = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...]
    block_out_channels: tuple[int, ...]
    layers_per_block: int = 2
    cross_attention_dim: int = 1280
    attention_head_dim: int | tuple[int, ...] = 8
    num_attention_heads: int | tuple[int, ...] | None = None
    transformer_layers_per_block: int = 1
    use_linear_projection: bool = False
    class_embed_type: str | None = None
    projection_class_embeddings_input_dim: int | None = None
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    resnet_time_scale_shift: str = "default"
    act_fn: str = "silu"
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    time_embedding_type: str = "positional"
    time_embedding_dim: int | None = None
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1
    center_input_sample: bool = False
    only_cross_attention: bool = False
    dual_cross_attention: bool = False
    addition_embed_type: str | None = None
    encoder_hid_dim_type: str | None = None
    class_embeddings_concat: bool = False
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3

    def __post_init__(self) -> None:
        for name in self.down_block_types:
            require("down_block_types", name, *DOWN_BLOCKS)
        for name in self.up_block_types:
            require("up_block_types", name, *UP_BLOCKS)
        require("mid_block_type", self.mid_block_type, "UNetMidBlock2DCrossAttn")
        levels = len(self.block_out_channels)
        require("the number of down_block_types", len(self.down_block_types), levels)
        require("the number of up_block_types", len(self.up_block_types), levels)
        require("use_linear_projection", self.use_linear_projection, True)
        require("class_embed_type", self.class_embed_type, "projection")
        if self.projection_class_embeddings_input_dim is None:
            raise ValueError("projection_class_embeddings_input_dim is missing, and class_embed_type is 'projection'")
        require("resnet_time_scale_shift", self.resnet_time_scale_shift, "default")
        require("act_fn", self.act_fn, "silu")
        require("flip_sin_to_cos", self.flip_sin_to_cos, True)
        require("freq_shift", self.freq_shift, 0)
        require("time_embedding_type", self.time_embedding_type, "positional")
        require("downsample_padding", self.downsample_padding, 1)
        require("mid_block_scale_factor", self.mid_block_scale_factor, 1)
        for name in ("center_input_sample", "only_cross_attention", "dual_cross_attention", "class_embeddings_concat"):
            require(name, getattr(self, name), False)
        require("addition_embed_type", self.addition_embed_type, None)
        require("encoder_hid_dim_type", self.encoder_hid_dim_type, None)
        require("conv_in_kernel", self.conv_in_kernel, 3)
        require("conv_out_kernel", self.conv_out_kernel, 3)
        for level, channels in enumerate(self.block_out_channels):
            if self.norm_num_groups < 1 or channels % self.norm_num_groups:
                raise ValueError(f"{channels} channels can't be shared by {self.norm_num_groups} norm_num_groups")
            if self.heads(level) < 1 or channels % self.heads(level):
                raise ValueError(f"{channels} channels can't be shared by {self.heads(level)} heads")

    @property
    def time_dim(self) -> int:
        """The width of the time embedding."""
        return 4 * self.block_out_channels[0] if self.time_embedding_dim is None else self.time_embedding_dim

    @property
    def class_dim(self) -> int:
        """The width of the picture's embedding and the features of its noise level together."""
        assert self.projection_class_embeddings_input_dim is not None  # checked above
        return self.projection_class_embeddings_input_dim

    def heads(self, level: int) -> int:
        """How many attention heads a level has; level 0 has the largest image."""
        heads = self.num_attention_heads if self.num_attention_heads is not None else self.attention_head_dim
        if isinstance(heads, int):
            return heads
        if level >= len(heads):
            raise ValueError(f"attention_head_dim {heads} is shorter than block_out_channels")
        return heads[level]


class CrossAttention(nn.Module):
    """Multi-head attention of an image's cells to a context or to themselves; only the output projection has a bias."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_dim, width, bias=False)
        self.to_v = nn.Linear(context_dim, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, seen: KeysValues) -> Tensor:
        """Return [b n d] from `x` [b n d] and the keys and values of what is `seen`."""
        y = F.scaled_dot_product_attention(self._heads(self.to_q(x)), seen.keys, seen.values)
        out: Tensor = self.to_out[0](rearrange(y, "b k n d -> b n (k d)"))
        return out

    def project(self, context: Tensor) -> KeysValues:
        """Return the keys and values of a context [b m c]."""
        return KeysValues(self._heads(self.to_k(context)), self._heads(self.to_v(context)))

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (k d) -> b k n d", k=self.heads)


class GatedProjection(nn.Module):
    """GEGLU (Shazeer 2020, https://arxiv.org/abs/2002.05202): a linear layer, one half of which gates the other."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n hidden] from [b n width]."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        out: Tensor = value * F.gelu(gate)
        return out


class FeedForward(nn.Module):
    """The perceptron of a block; `net.1` stands for a dropout, which has no weights and does nothing here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n d] from [b n d]."""
        out: Tensor = self.net(x)
        return out


class TransformerBlock(nn.Module):
    """A pre-norm block: the image attends to itself, then to the text."""

    def __init__(self, width: int, heads: int, context_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = CrossAttention(width, heads, width)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = CrossAttention(width, heads, context_dim)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Return [b n d] from `x` [b n d] and a context of width `context_dim`."""
        y = self.norm1(x)
        x = x + self.attn1(y, self.attn1.project(y))
        x = x + self.attn2(self.norm2(x), context.once(self.attn2, self.attn2.project))
        out: Tensor = x + self.ff(self.norm3(x))
        return out


class SpatialTransformer(nn.Module):
    """Transformer blocks over the cells of an image; the result is added to it (diffusers' `Transformer2DModel`)."""

    def __init__(self, channels: int, heads: int, context_dim: int, groups: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=TRANSFORMER_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, heads, context_dim) for _ in range(layers)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Return [b c h w] from `x` [b c h w] and a context; no mask is applied to it."""
        y = self.proj_in(rearrange(self.norm(x), "b c h w -> b (h w) c"))
        for block in self.transformer_blocks:
            y = block(y, context)
        out: Tensor = x + rearrange(self.proj_out(y), "b (h w) c -> b c h w", h=x.shape[2])
        return out


class Downsampler(nn.Module):
    """Halves the side by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Time) -> Tensor:
        """Return [b c h/2 w/2] from `x` [b c h w]; the time is not used."""
        out: Tensor = self.conv(x)
        return out


class Upsampler(nn.Module):
    """Doubles the side by repeating cells, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Time) -> Tensor:
        """Return [b c 2h 2w] from `x` [b c h w]; the time is not used."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class TransformerUNet(nn.Module):
    """Predicts what the schedule's prediction type names (v, in the published models) from a noised latent."""

    def __init__(self, config: TransformerUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        layers = [config.layers_per_block] * len(channels)
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], config.time_dim, config.time_dim)
        self.class_embedding = TimestepEmbedding(config.class_dim, config.time_dim, config.time_dim)

        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        up = [UP_BLOCKS[name] for name in config.up_block_types]
        self.down_blocks = way_down(channels, layers, down, self._resnet, self._attentions, Downsampler)
        middle = [self._resnet(channels[last], channels[last]) for _ in range(2)]
        self.mid_block = MidBlock(middle, self._attentions(last, last, 1))
        self.up_blocks = way_up(channels, layers, up, self._resnet, self._attentions, Upsampler)

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def _resnet(self, channels_in: int, channels_out: int) -> ResnetBlock:
        config = self.config
        return ResnetBlock(
            channels_in, channels_out, config.time_dim, config.norm_num_groups, config.norm_eps, scale_shift=False
        )

    def _attentions(self, level: int, block: int, count: int) -> list[SpatialTransformer]:
        config = self.config
        shape = (config.block_out_channels[level], config.heads(level), config.cross_attention_dim)
        depth = config.transformer_layers_per_block
        return [SpatialTransformer(*shape, config.norm_num_groups, depth) for _ in range(count)]

    def times(self, ts: Sequence[int], picture: Tensor) -> Times:
        """Return the embeddings of a run's timesteps `ts`, of which `denoise` takes a `Time` at each step.

        `picture` is that of `forward`.
        """
        return self._times(torch.tensor(ts, device=picture.device)[:, None], picture)

    def denoise(self, x: Tensor, time: Time, context: Context, deep: DeepFeatures | None = None) -> Tensor:
        """Return the prediction [b out h w] for noised latents `x` [b c h w], which `forward` describes."""
        x = walk(self.down_blocks, self.mid_block, self.up_blocks, self.conv_in(x), time, context, deep)
        out: Tensor = self.conv_out(silu_(self.conv_norm_out(x)))
        return out

    def forward(self, x: Tensor, t: Tensor, context: Tensor, picture: Tensor) -> Tensor:
        """Return the prediction [b out h w] of a single step.

        Args:
            x: noised latents [b c h w]; h and w are multiples of 2^(levels - 1).
            t: timesteps of the trained schedule, [b] or a scalar.
            context: the states of the text [b n d].
            picture: [b class_dim], a CLIP embedding and the features of its noise level.
        """
        return self.denoise(x, Time(self._times(t.view(1, -1), picture), 0), Context(context))

    def _times(self, ts: Tensor, picture: Tensor) -> Times:
        """The embeddings of timesteps [steps b], or [steps 1] for all samples."""
        features = sinusoid(ts.flatten(), self.config.block_out_channels[0]).to(picture.dtype)
        return Times(silu(self.time_embedding(features).unflatten(0, ts.shape) + self.class_embedding(picture)))
