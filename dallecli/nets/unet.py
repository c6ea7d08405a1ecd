"""The UNet of unCLIP: Karlo's decoder (conditioned on text and image), its super-resolution networks, and Kandinsky's
decoders of latents (conditioned on an image embedding).

One class serves both published layouts, diffusers' `UNet2DConditionModel` with "SimpleCrossAttn" blocks and
its `UNet2DModel` with "Resnet" blocks: the config lists the blocks, and the keys on disk follow from the list.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dallecli.nets.attention import AddedKVAttention
from dallecli.nets.conditions import Context, Time, Times
from dallecli.nets.config import PublishedConfig, require
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.image_condition import ImageProjection, ImageTimeEmbedding
from dallecli.nets.resnet import ResnetBlock, TimestepEmbedding, silu, silu_, sinusoid
from dallecli.nets.text_proj import Conditioning
from dallecli.nets.unet_blocks import MidBlock, walk, way_down, way_up

DOWN_BLOCKS = {"ResnetDownsampleBlock2D": False, "SimpleCrossAttnDownBlock2D": True}
"""Published names of the down blocks, and whether they have attention."""
UP_BLOCKS = {"ResnetUpsampleBlock2D": False, "SimpleCrossAttnUpBlock2D": True}
"""Published names of the up blocks, and whether they have attention."""
MID_BLOCKS = {"UNetMidBlock2D": False, "UNetMidBlock2DSimpleCrossAttn": True}
"""Published names of the middle block, and whether it has attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig(PublishedConfig):
    """`decoder/config.json` or `super_res_first/config.json`; the defaults are the published library's."""

    sample_size: int | None = None
    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...]
    mid_block_type: str = "UNetMidBlock2D"
    up_block_types: tuple[str, ...]
    block_out_channels: tuple[int, ...]
    layers_per_block: int | tuple[int, ...] = 2
    cross_attention_dim: int | None = None
    attention_head_dim: int | tuple[int, ...] | None = 8
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    time_embedding_dim: int | None = None
    resnet_time_scale_shift: str = "default"
    class_embed_type: str | None = None
    act_fn: str = "silu"
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    time_embedding_type: str = "positional"
    mid_block_scale_factor: float = 1
    add_attention: bool = True
    center_input_sample: bool = False
    only_cross_attention: bool = False
    addition_embed_type: str | None = None
    encoder_hid_dim_type: str | None = None
    encoder_hid_dim: int | None = None
    cross_attention_norm: str | None = None
    resnet_skip_time_act: bool = False
    resnet_out_scale_factor: float = 1.0
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3

    def __post_init__(self) -> None:
        self.check_levels()
        require("class_embed_type", self.class_embed_type, None, "identity")
        require("act_fn", self.act_fn, "silu")
        require("mid_block_scale_factor", self.mid_block_scale_factor, 1)
        require("only_cross_attention", self.only_cross_attention, False)
        require("addition_embed_type", self.addition_embed_type, None, "image")
        image_proj = "image_proj" if self.sees_embeddings else None
        require("encoder_hid_dim_type", self.encoder_hid_dim_type, image_proj)
        if self.sees_embeddings and self.encoder_hid_dim is None:
            raise ValueError("encoder_hid_dim is missing, and the network is conditioned on image embeddings")
        require("cross_attention_norm", self.cross_attention_norm, None)
        require("resnet_skip_time_act", self.resnet_skip_time_act, False)
        require("resnet_out_scale_factor", self.resnet_out_scale_factor, 1)

    def check_levels(self) -> None:
        """Refuse levels that no UNet here has. Raises ValueError."""
        for name in self.down_block_types:
            require("down_block_types", name, *DOWN_BLOCKS)
        for name in self.up_block_types:
            require("up_block_types", name, *UP_BLOCKS)
        require("mid_block_type", self.mid_block_type, *MID_BLOCKS)
        levels = len(self.block_out_channels)
        require("the number of down_block_types", len(self.down_block_types), levels)
        require("the number of up_block_types", len(self.up_block_types), levels)
        require("the number of layers_per_block", len(self.layers), levels)
        require("resnet_time_scale_shift", self.resnet_time_scale_shift, "default", "scale_shift")
        require("flip_sin_to_cos", self.flip_sin_to_cos, True)
        require("freq_shift", self.freq_shift, 0)
        require("time_embedding_type", self.time_embedding_type, "positional")
        if not self.attends:
            require("add_attention", self.add_attention, False)
        elif self.cross_attention_dim is None:
            raise ValueError("cross_attention_dim is missing, and the blocks attend")
        require("center_input_sample", self.center_input_sample, False)
        require("conv_in_kernel", self.conv_in_kernel, 3)
        require("conv_out_kernel", self.conv_out_kernel, 3)
        groups = self.norm_num_groups
        for channels in self.block_out_channels:
            if groups < 1 or channels % groups:
                raise ValueError(f"{channels} channels can't be shared by {groups} norm_num_groups")
        self._check_heads()

    def _check_heads(self) -> None:
        """Refuse heads that don't divide the channels of a level that attends. Raises ValueError."""
        widths = self.block_out_channels
        if isinstance(self.attention_head_dim, tuple):
            require("the number of attention_head_dim", len(self.attention_head_dim), len(widths))
        looking = [(level, width) for level, width in enumerate(widths) if DOWN_BLOCKS[self.down_block_types[level]]]
        looking += [(place, width) for place, width in enumerate(widths[::-1]) if UP_BLOCKS[self.up_block_types[place]]]
        looking += [(len(widths) - 1, widths[-1])] if MID_BLOCKS[self.mid_block_type] else []
        for block, width in looking:
            head = self.head_dim(block)
            if head < 1 or width % head:
                raise ValueError(f"{width} channels can't be shared by heads of attention_head_dim {head}")

    @property
    def side(self) -> int:
        """The side of the image that it paints. Raises ValueError where `sample_size` is null."""
        if self.sample_size is None:
            raise ValueError("sample_size is null")
        return self.sample_size

    @property
    def layers(self) -> tuple[int, ...]:
        """The residual blocks of every level on the way down; there is one more on the way up."""
        stated = self.layers_per_block
        return (stated,) * len(self.block_out_channels) if isinstance(stated, int) else stated

    @property
    def attends(self) -> bool:
        """Whether any block has attention to a context."""
        kinds = [DOWN_BLOCKS[n] for n in self.down_block_types] + [UP_BLOCKS[n] for n in self.up_block_types]
        return any(kinds) or MID_BLOCKS[self.mid_block_type]

    @property
    def sees_embeddings(self) -> bool:
        """Whether the network itself turns image embeddings into its context, as Kandinsky's does."""
        return self.addition_embed_type == "image"

    @property
    def time_dim(self) -> int:
        """The width of the time embedding, which is also that of the time condition."""
        return 4 * self.block_out_channels[0] if self.time_embedding_dim is None else self.time_embedding_dim

    def head_dim(self, block: int) -> int:
        """The width of an attention head in a down or up block, numbered from 0 in the order in which they run.

        The published library does not reverse a list of widths for the up blocks.
        """
        if self.attention_head_dim is None:
            return 8
        return self.attention_head_dim if isinstance(self.attention_head_dim, int) else self.attention_head_dim[block]


class UNet(nn.Module):
    """Predicts what the schedule's prediction type names (noise, in the published models) from a noised image."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, layers = config.block_out_channels, config.layers
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(channels[0], config.time_dim, config.time_dim)
        self.encoder_hid_proj: ImageProjection | None = None
        self.add_embedding: ImageTimeEmbedding | None = None
        if config.encoder_hid_dim is not None and config.cross_attention_dim is not None and config.sees_embeddings:
            self.encoder_hid_proj = ImageProjection(config.encoder_hid_dim, config.cross_attention_dim)
            self.add_embedding = ImageTimeEmbedding(config.encoder_hid_dim, config.time_dim)

        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        up = [UP_BLOCKS[name] for name in config.up_block_types]
        self.down_blocks = way_down(
            channels, layers, down, self._resnet, self._attentions, lambda width: self._resnet(width, width, "down")
        )
        middle = [self._resnet(channels[last], channels[last]) for _ in range(2)]
        looks = MID_BLOCKS[config.mid_block_type]
        self.mid_block = MidBlock(middle, self._attentions(last, last, 1) if looks else [])
        self.up_blocks = way_up(
            channels, layers, up, self._resnet, self._attentions, lambda width: self._resnet(width, width, "up")
        )

        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[0], eps=config.norm_eps)
        self.conv_out = nn.Conv2d(channels[0], config.out_channels, 3, padding=1)

    def _resnet(self, channels_in: int, channels_out: int, resample: str | None = None) -> ResnetBlock:
        config = self.config
        scale_shift = config.resnet_time_scale_shift == "scale_shift"
        groups, eps = config.norm_num_groups, config.norm_eps
        return ResnetBlock(channels_in, channels_out, config.time_dim, groups, eps, scale_shift, resample)

    def _attentions(self, level: int, block: int, count: int) -> list[AddedKVAttention]:
        config = self.config
        assert config.cross_attention_dim is not None  # or the config would have been refused
        channels, context_dim, groups = (
            config.block_out_channels[level],
            config.cross_attention_dim,
            config.norm_num_groups,
        )
        # The published attention keeps the eps of its norm at 1e-5, whatever norm_eps says.
        return [AddedKVAttention(channels, config.head_dim(block), context_dim, groups, 1e-5) for _ in range(count)]

    def condition(self, image_embedding: Tensor) -> Conditioning:
        """Return the conditioning of image embeddings [b d]: for `times` and a `Context`, once a run.

        Raises ValueError for a network that is not conditioned on embeddings.
        """
        if self.encoder_hid_proj is None or self.add_embedding is None:
            raise ValueError("this network does not project image embeddings")
        return Conditioning(self.encoder_hid_proj(image_embedding), self.add_embedding(image_embedding))

    def times(self, ts: Sequence[int], condition: Tensor | None = None) -> Times:
        """Return the embeddings of a run's timesteps `ts`, of which `denoise` takes a `Time` at each step.

        `condition` [b time_dim] is added to the time embedding (class_embed_type "identity", or from `condition`).
        """
        return self._times(torch.tensor(ts, device=self.conv_norm_out.weight.device)[:, None], condition)

    def denoise(
        self, x: Tensor, time: Time, context: Context | None = None, deep: DeepFeatures | None = None
    ) -> Tensor:
        """Return the prediction [b out h w] for noised images `x` [b c h w], which `forward` describes."""
        x = walk(self.down_blocks, self.mid_block, self.up_blocks, self.conv_in(x), time, context, deep)
        out: Tensor = self.conv_out(silu_(self.conv_norm_out(x)))
        return out

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor | None = None,
        time_condition: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction [b out h w] of a single step.

        Args:
            x: noised images [b c h w]. For the super-resolution networks the enlarged low-resolution images follow in
                the channels; for Kandinsky's inpainting network the known part and its mask.
            t: timesteps of the trained schedule, [b] or a scalar.
            context: [b n d], which the blocks attend to, if they have attention.
            time_condition: [b time_dim], added to the time embedding, as in `times`.
            mask: bool [b n], True where a context token counts; None when all do.
        """
        time = Time(self._times(t.view(1, -1), time_condition), 0)
        return self.denoise(x, time, Context(context, mask) if context is not None else None)

    def _times(self, ts: Tensor, condition: Tensor | None) -> Times:
        """The embeddings of timesteps [steps b], or [steps 1] for all samples."""
        features = sinusoid(ts.flatten(), self.config.block_out_channels[0]).to(self.conv_norm_out.weight.dtype)
        time = self.time_embedding(features).unflatten(0, ts.shape)
        return Times(silu(time if condition is None else time + condition))
