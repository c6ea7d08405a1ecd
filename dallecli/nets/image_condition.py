"""How Kandinsky's decoder reads an image embedding (diffusers' `ImageProjection` and `ImageTimeEmbedding`)."""

from torch import Tensor, nn

TOKENS = 32
"""How many context tokens one embedding becomes; no published config states it."""


class ImageProjection(nn.Module):
    """Turns an image embedding into the context tokens that the decoder attends to (`encoder_hid_proj` on disk)."""

    def __init__(self, embedding_dim: int, context_dim: int) -> None:
        super().__init__()
        self.image_embeds = nn.Linear(embedding_dim, TOKENS * context_dim)
        self.norm = nn.LayerNorm(context_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return [b 32 c] from [b d]; the token index is the slowest axis of the projection, unlike Karlo's."""
        out: Tensor = self.norm(self.image_embeds(embedding).unflatten(1, (TOKENS, -1)))
        return out


class ImageTimeEmbedding(nn.Module):
    """Turns an image embedding into what is added to the time embedding (`add_embedding` on disk)."""

    def __init__(self, embedding_dim: int, time_dim: int) -> None:
        super().__init__()
        self.image_proj = nn.Linear(embedding_dim, time_dim)
        self.image_norm = nn.LayerNorm(time_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return [b time] from [b d]."""
        out: Tensor = self.image_norm(self.image_proj(embedding))
        return out
