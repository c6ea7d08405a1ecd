"""MOVQ, Kandinsky's autoencoder: it turns pictures into latents with an eighth of their side, and back.

A VQGAN whose decoder is modulated by the latent itself (Zheng et al. 2022, "MoVQ", https://arxiv.org/abs/2209.09002,
section 3.2). Keys and arithmetic are those of diffusers' `VQModel` with spatial norms. Kandinsky's diffusion works on
the continuous latents, before quantisation, so the codebook is not used here, and the latents are not scaled.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from dallecli.nets.autoencoder import SPATIAL_GROUPS, Decoder, Encoder, require_blocks
from dallecli.nets.config import PublishedConfig, require

DOWN_BLOCKS = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
"""Published names of the encoder's blocks, and whether they have attention."""
UP_BLOCKS = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}
"""Published names of the decoder's blocks, and whether they have attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovqConfig(PublishedConfig):
    """`movq/config.json`; the defaults are the published library's, except the norm, which makes it a MOVQ."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...]
    up_block_types: tuple[str, ...]
    block_out_channels: tuple[int, ...]
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 3
    num_vq_embeddings: int = 256
    norm_num_groups: int = 32
    vq_embed_dim: int | None = None
    norm_type: str = "spatial"
    mid_block_add_attention: bool = True
    lookup_from_codebook: bool = False

    def __post_init__(self) -> None:
        require_blocks(self.down_block_types, self.up_block_types, len(self.block_out_channels), DOWN_BLOCKS, UP_BLOCKS)
        require("in_channels", self.in_channels, 3)
        require("out_channels", self.out_channels, 3)
        require("act_fn", self.act_fn, "silu")
        require("norm_type", self.norm_type, "spatial")
        # Spatial norms take the decoder's input for the latent, which is as wide only then.
        require("vq_embed_dim", self.vq_embed_dim, None, self.latent_channels)
        require("mid_block_add_attention", self.mid_block_add_attention, True)
        require("lookup_from_codebook", self.lookup_from_codebook, False)
        for channels in self.block_out_channels:
            for groups in (self.norm_num_groups, SPATIAL_GROUPS):
                if groups < 1 or channels % groups:
                    raise ValueError(f"{channels} channels can't be shared by {groups} groups of a norm")

    @property
    def factor(self) -> int:
        """How many pixels one cell of the latent covers along each side."""
        return int(2 ** (len(self.block_out_channels) - 1))


class Codebook(nn.Module):
    """The vectors of the quantiser: on disk and used in training, but not in painting."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)


class Movq(nn.Module):
    """The autoencoder. A cell of a latent [b z h w] stands for `config.factor` x `config.factor` pixels."""

    def __init__(self, config: MovqConfig) -> None:
        super().__init__()
        self.config = config
        channels, widths = config.latent_channels, config.block_out_channels
        shape = (config.norm_num_groups, config.layers_per_block)
        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        up = [UP_BLOCKS[name] for name in config.up_block_types]
        self.encoder = Encoder(widths, *shape, down, channels)
        self.quant_conv = nn.Conv2d(channels, channels, 1)
        self.quantize = Codebook(config.num_vq_embeddings, channels)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.decoder = Decoder(widths[::-1], *shape, up, channels, spatial=True)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return latents [b z h/f w/f] from pixels [b 3 h w] in [-1, 1]; h and w are multiples of f."""
        out: Tensor = self.quant_conv(self.encoder(pixels))
        return out

    def decode(self, latent: Tensor) -> Tensor:
        """Return pixels [b 3 h*f w*f], about in [-1, 1], from latents [b z h w]."""
        out: Tensor = self.decoder(self.post_quant_conv(latent), latent)
        return out
