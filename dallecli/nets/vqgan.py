"""VQGAN: pictures become codes, 16 by 16 pixels each, and codes become pictures.

Esser et al. 2021, "Taming Transformers for High-Resolution Image Synthesis" (https://arxiv.org/abs/2012.09841), section
3.1. DALL·E Mini and minDALL-E paint with the codes of the one that was trained on ImageNet, of which there are 16384.
Its blocks are those of the other autoencoders here (autoencoder.py). An encoder gives a vector for every cell, and the
code of a cell is the vector of the codebook that is nearest to it.

The same network is used with pixels in two ranges: those in [-1, 1] that it was trained with, and levels in [0, 1], as
DALL·E Mini does. Its config says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from dallecli.nets.autoencoder import EPS, Decoder, Encoder, require_blocks
from dallecli.nets.config import PublishedConfig, require

DOWN_BLOCKS: Final[Mapping[str, bool]] = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
"""Published names of the encoder's blocks, and whether they have attention."""
UP_BLOCKS: Final[Mapping[str, bool]] = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}
"""The same of the decoder's."""

SYMMETRIC: Final = "[-1, 1]"
LEVELS: Final = "[0, 1]"
"""The ranges of pixels, as configs name them."""

COMPARED: Final = 1024
"""Cells that are compared with the codebook at a time: every one with all of its vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VqganConfig(PublishedConfig):
    """`config.json` of an encoder or a decoder, which a conversion writes."""

    block_out_channels: tuple[int, ...]
    """The widths of the levels, that of whole pixels first."""
    layers_per_block: int
    """Residual blocks in a level of the encoder; the decoder has one more."""
    down_block_types: tuple[str, ...]
    """Of `DOWN_BLOCKS`, whole pixels first."""
    up_block_types: tuple[str, ...]
    """Of `UP_BLOCKS`, codes first."""
    latent_channels: int
    """The width of what is between the blocks and the codebook."""
    vq_embed_dim: int
    """The width of the codebook."""
    num_vq_embeddings: int
    """How many codes there are."""
    norm_num_groups: int = 32
    norm_eps: float = EPS
    pixel_range: str = SYMMETRIC

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        require_blocks(self.down_block_types, self.up_block_types, levels, DOWN_BLOCKS, UP_BLOCKS)
        require("pixel_range", self.pixel_range, SYMMETRIC, LEVELS)
        if min(levels, self.layers_per_block, self.num_vq_embeddings) < 1 or self.norm_eps <= 0:
            raise ValueError("there are no levels, no blocks or no codes, or norm_eps is 0")
        for channels in self.block_out_channels:
            if self.norm_num_groups < 1 or channels < 1 or channels % self.norm_num_groups:
                raise ValueError(f"{channels} channels can't be shared by {self.norm_num_groups} norm_num_groups")

    @property
    def cell(self) -> int:
        """How many pixels a code stands for along each side."""
        return int(2 ** (len(self.block_out_channels) - 1))

    def from_levels(self, levels: Tensor) -> Tensor:
        """Levels in [0, 1] as the encoder sees them."""
        return levels * 2 - 1 if self.pixel_range == SYMMETRIC else levels

    def to_levels(self, pixels: Tensor) -> Tensor:
        """Levels in [0, 1] of what the decoder gives; what lies outside is clipped."""
        return (pixels / 2 + 0.5 if self.pixel_range == SYMMETRIC else pixels).clamp(0, 1)


class Codebook(nn.Module):
    """The vectors of the codes."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)

    def forward(self, codes: Tensor) -> Tensor:
        """Return vectors [b c h w] of codes [b h w]."""
        out: Tensor = self.embedding(codes).movedim(-1, 1)
        return out

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the codes [b h w] whose vectors are nearest to `vectors` [b c h w]; of equals the first.

        By Euclidean distance and in float32, in which near ones can be told apart.
        """
        book = self.embedding.weight.float()
        cells = vectors.float().movedim(1, -1)
        lengths = book.square().sum(dim=1)
        pieces = torch.split(cells.flatten(0, 2), COMPARED)
        found = [torch.addmm(lengths, piece, book.T, alpha=-2).argmin(dim=1) for piece in pieces]
        return torch.cat(found).view(cells.shape[:-1])


class VqganEncoder(nn.Module):
    """From pixels to a vector for each cell."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        self.config = config
        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        shape = (config.norm_num_groups, config.layers_per_block)
        self.encoder = Encoder(config.block_out_channels, *shape, down, config.latent_channels)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.vq_embed_dim, 1)
        _set_eps(self, config.norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return vectors [b c h/f w/f] of pixels [b 3 h w] in the config's range; h and w are multiples of the cell."""
        out: Tensor = self.quant_conv(self.encoder(pixels))
        return out


class VqganDecoder(nn.Module):
    """From codes to pixels. The codebook is its first layer, and the encoder's last."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        self.config = config
        up = [UP_BLOCKS[name] for name in config.up_block_types]
        widths: Sequence[int] = config.block_out_channels[::-1]
        shape = (config.norm_num_groups, config.layers_per_block)
        self.quantize = Codebook(config.num_vq_embeddings, config.vq_embed_dim)
        self.post_quant_conv = nn.Conv2d(config.vq_embed_dim, config.latent_channels, 1)
        self.decoder = Decoder(widths, *shape, up, config.latent_channels, spatial=False)
        _set_eps(self, config.norm_eps)

    def forward(self, codes: Tensor) -> Tensor:
        """Return pixels [b 3 fh fw], about in the config's range, of codes [b h w]."""
        out: Tensor = self.decoder(self.post_quant_conv(self.quantize(codes)), None)
        return out


def _set_eps(net: nn.Module, eps: float) -> None:
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = eps
