"""The classifier of noised images whose gradient guides a diffusion (Dhariwal & Nichol 2021, section 4).

It is the way down of a UNet, and attention reads what is left of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.conditions import Time, Times
from dallecli.nets.guided_blocks import DOWN_BLOCKS, AttentionPool, GuidedConfig
from dallecli.nets.resnet import TimestepEmbedding, silu, silu_, sinusoid
from dallecli.nets.unet_blocks import MidBlock, way_down


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedClassifierConfig(GuidedConfig):
    """`classifier/config.json`. The heads of the last attention are as wide as all others."""

    num_classes: int = 1000

    def __post_init__(self) -> None:
        self.check()
        if self.sample_size % self.shrinks or self.num_classes < 1:
            raise ValueError(f"{self.sample_size} pixels can't be halved {len(self.block_out_channels) - 1} times")

    @property
    def shrinks(self) -> int:
        """How many pixels of a side become one cell."""
        return int(2 ** (len(self.block_out_channels) - 1))


class NoisedClassifier(nn.Module):
    """Says what is in a noised image."""

    def __init__(self, config: NoisedClassifierConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.block_out_channels
        last = len(channels) - 1
        self.conv_in = nn.Conv2d(config.in_channels, channels[0], 3, padding=1)
        self.time_embedding = TimestepEmbedding(config.sinusoid_width, config.time_dim, config.time_dim)

        def attentions(level: int, block: int, count: int) -> Sequence[nn.Module]:
            return config.attentions(level, count)

        down = [DOWN_BLOCKS[name] for name in config.down_block_types]
        self.down_blocks = way_down(
            channels,
            (config.layers_per_block,) * len(channels),
            down,
            config.resnet,
            attentions,
            lambda width: config.resnet(width, width, "down"),
        )
        middle = [config.resnet(channels[last], channels[last]) for _ in range(2)]
        self.mid_block = MidBlock(middle, config.attentions(last, 1))
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, channels[last], eps=config.norm_eps)
        cells = (config.sample_size // config.shrinks) ** 2
        self.pool = AttentionPool(cells, channels[last], config.heads(channels[last]), config.num_classes)

    def times(self, ts: Sequence[int]) -> Times:
        """Return the embeddings of a run's timesteps `ts`, of which the other methods take a `Time` at each step."""
        weight = self.conv_norm_out.weight
        features = sinusoid(torch.tensor(ts, device=weight.device), self.config.sinusoid_width)
        return Times(silu(self.time_embedding(features.to(weight.dtype))[:, None]))

    def logits(self, x: Tensor, time: Time) -> Tensor:
        """Return the logits [b classes] of noised images `x` [b 3 h w]."""
        x = self.conv_in(x)
        for down in self.down_blocks:
            x = down(x, time, None)[-1]
        x = self.mid_block(x, time, None)
        out: Tensor = self.pool(silu_(self.conv_norm_out(x)))
        return out

    def gradient(self, x: Tensor, time: Time, classes: Tensor) -> Tensor:
        """Return the gradient [b 3 h w] of the log probabilities of `classes` [b] with regard to images `x` [b 3 h w].

        `x` and the weights must not have been made in torch's inference mode.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            chances = F.log_softmax(self.logits(x, time).float(), dim=-1)
            wanted = chances.gather(1, classes.expand(len(x))[:, None]).sum()
            (gradient,) = torch.autograd.grad(wanted, x)
        return gradient
