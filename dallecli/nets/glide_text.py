"""GLIDE's text tower (Nichol et al. 2022, https://arxiv.org/abs/2112.10741, section 2.2 and 4).

A transformer that looks both ways, over the prompt and learned padding. Its states are what a UNet attends to, and the
last one, projected, is added to the UNet's time embedding. Each of the published UNets has a tower of its own.
"""

import torch
from torch import Tensor, nn

from dallecli.nets.clip import ClipEncoder, ClipTextConfig, TextStates


class GlideTextEncoder(nn.Module):
    """The tower. Of its config `projection_dim` is the width of the UNet's time embedding."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        width, context = config.hidden_size, config.max_position_embeddings
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.position_embedding = nn.Embedding(context, width)
        self.padding_embedding = nn.Embedding(context, width)
        self.encoder = ClipEncoder(config)
        self.final_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.time_projection = nn.Linear(width, config.projection_dim)

    def forward(self, ids: Tensor, mask: Tensor) -> TextStates:
        """Encode prompts.

        Args:
            ids: token ids [b n], n being the whole context.
            mask: bool [b n], True where a token belongs to the prompt. Elsewhere is padding, learned for each position,
                which is read like tokens are.

        Returns the states of all tokens, and as `embedding` the condition [b projection_dim] of the time: from the last
        position, which is padding where a prompt is shorter than the context.
        """
        tokens = self.token_embedding(ids) + self.position_embedding.weight
        x = torch.where(mask[..., None], tokens, self.padding_embedding.weight)
        hidden = self.final_layer_norm(self.encoder(x, causal=False))
        return TextStates(self.time_projection(hidden[:, -1]), hidden)
