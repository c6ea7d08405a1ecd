"""The autoencoder of Stable Diffusion: it turns pictures into latents with an eighth of their side, and back.

A variational autoencoder with a small KL term (Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.1 and
appendix G). Keys and arithmetic are those of diffusers' `AutoencoderKL`.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from dallecli.nets.autoencoder import Decoder, Encoder, require_blocks
from dallecli.nets.config import PublishedConfig, require


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig(PublishedConfig):
    """`vae/config.json`; the defaults are the published library's. `scaling_factor` gives latents a deviation of 1."""

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...]
    up_block_types: tuple[str, ...]
    block_out_channels: tuple[int, ...]
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        require_blocks(
            self.down_block_types,
            self.up_block_types,
            len(self.block_out_channels),
            ("DownEncoderBlock2D",),
            ("UpDecoderBlock2D",),
        )
        require("in_channels", self.in_channels, 3)
        require("out_channels", self.out_channels, 3)
        require("act_fn", self.act_fn, "silu")
        for name in ("shift_factor", "latents_mean", "latents_std"):
            require(name, getattr(self, name), None)
        for name in ("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"):
            require(name, getattr(self, name), True)
        if self.scaling_factor <= 0:
            raise ValueError(f"scaling_factor is {self.scaling_factor}, expected a number above 0")
        for channels in self.block_out_channels:
            if self.norm_num_groups < 1 or channels % self.norm_num_groups:
                raise ValueError(f"{channels} channels can't be shared by {self.norm_num_groups} norm_num_groups")

    @property
    def factor(self) -> int:
        """How many pixels one cell of the latent covers along each side."""
        return int(2 ** (len(self.block_out_channels) - 1))


class Vae(nn.Module):
    """The autoencoder. A cell of a latent [b z h w] stands for `config.factor` x `config.factor` pixels."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        channels, widths = config.latent_channels, config.block_out_channels
        shape = (config.norm_num_groups, config.layers_per_block, [False] * len(widths))
        self.encoder = Encoder(widths, *shape, 2 * channels)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)
        self.decoder = Decoder(widths[::-1], *shape, channels, spatial=False)

    def encode(self, pixels: Tensor) -> Tensor:
        """Return the scaled mean [b z h/f w/f] of the latents of pixels [b 3 h w] in [-1, 1]; f divides h and w."""
        mean, _ = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        out: Tensor = mean * self.config.scaling_factor
        return out

    def decode(self, latent: Tensor) -> Tensor:
        """Return pixels [b 3 h*f w*f], about in [-1, 1], from scaled latents [b z h w]."""
        out: Tensor = self.decoder(self.post_quant_conv(latent / self.config.scaling_factor), None)
        return out
