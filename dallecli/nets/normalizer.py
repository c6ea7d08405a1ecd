"""The mean and deviation of CLIP's image embeddings, which Stable unCLIP needs to add noise to them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dallecli.nets.config import PublishedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizerConfig(PublishedConfig):
    """`image_normalizer/config.json`; the default is the published library's."""

    embedding_dim: int = 768


class ImageNormalizer(nn.Module):
    """Normalises embeddings to mean 0 and deviation 1, and back (diffusers' `StableUnCLIPImageNormalizer`)."""

    def __init__(self, config: NormalizerConfig) -> None:
        super().__init__()
        self.config = config
        self.mean = nn.Parameter(torch.zeros(1, config.embedding_dim))
        self.std = nn.Parameter(torch.ones(1, config.embedding_dim))

    def scale(self, embedding: Tensor) -> Tensor:
        """Return [b d] of mean 0 and deviation 1 from embeddings [b d]."""
        return (embedding - self.mean) / self.std

    def unscale(self, standard: Tensor) -> Tensor:
        """Return embeddings [b d] from [b d] of mean 0 and deviation 1."""
        return standard * self.std + self.mean
