"""From CLIP embeddings to what Karlo's decoder is conditioned on (diffusers' `UnCLIPTextProjModel`)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.config import PublishedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TextProjConfig(PublishedConfig):
    """`text_proj/config.json`; the defaults are the published library's."""

    clip_extra_context_tokens: int = 4
    clip_embeddings_dim: int = 768
    time_embed_dim: int
    cross_attention_dim: int


class Conditioning(NamedTuple):
    """What a decoder is conditioned on."""

    context: Tensor
    """[b n c], the tokens that it attends to."""
    time: Tensor
    """[b d], added to its time embedding."""


class UnCLIPTextProjModel(nn.Module):
    """Projects image and text embeddings to the decoder's time embedding and context tokens.

    `learned_classifier_free_guidance_embeddings` [d] is the image embedding of "no image" in guidance.
    """

    def __init__(self, config: TextProjConfig) -> None:
        super().__init__()
        self.config = config
        d, context_dim = config.clip_embeddings_dim, config.cross_attention_dim
        self.learned_classifier_free_guidance_embeddings = nn.Parameter(torch.zeros(d))
        self.embedding_proj = nn.Linear(d, config.time_embed_dim)
        self.clip_image_embeddings_project_to_time_embeddings = nn.Linear(d, config.time_embed_dim)
        self.clip_extra_context_tokens_proj = nn.Linear(d, config.clip_extra_context_tokens * context_dim)
        self.encoder_hidden_states_proj = nn.Linear(d, context_dim)
        self.text_encoder_hidden_states_norm = nn.LayerNorm(context_dim)

    def forward(self, image_embedding: Tensor, text_embedding: Tensor, text_hidden: Tensor) -> Conditioning:
        """Return the conditioning of image embeddings [b d], text embeddings [b d], text states [b n d]: 4+n tokens."""
        time = self.clip_image_embeddings_project_to_time_embeddings(image_embedding)
        time = time + self.embedding_proj(text_embedding)
        # The token index is the fastest axis of the projection in Karlo's checkpoints.
        tokens = self.clip_extra_context_tokens_proj(image_embedding)
        tokens = rearrange(tokens, "b (c n) -> b n c", n=self.config.clip_extra_context_tokens)
        text = self.text_encoder_hidden_states_norm(self.encoder_hidden_states_proj(text_hidden))
        return Conditioning(torch.cat([tokens, text], dim=1), time)
