"""Attention as the unCLIP networks use it: plain multi-head, and over an image with added context keys."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

MASKED = -10000.0
"""Added to the logits of a masked key: finite, as the published networks were trained and as fp16 needs."""


class KeysValues(NamedTuple):
    """The keys and the values of some tokens, each [b heads n d]: all that later tokens ever ask of them."""

    keys: Tensor
    values: Tensor


class SelfAttention(nn.Module):
    """Multi-head self-attention with biased projections (the `attn1` of a transformer block)."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.to_q = nn.Linear(width, inner)
        self.to_k = nn.Linear(width, inner)
        self.to_v = nn.Linear(width, inner)
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])

    def forward(
        self, x: Tensor, bias: Tensor | None = None, before: KeysValues | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Attend over `x` [b n d], and over the `m` tokens `before` it; return [b n d] and the keys and values of all.

        `bias` is added to the logits and broadcasts over [b heads n m+n].
        """
        q, k, v = (rearrange(to(x), "b n (k d) -> b k n d", k=self.heads) for to in (self.to_q, self.to_k, self.to_v))
        if before is not None:
            k, v = torch.cat([before.keys, k], dim=2), torch.cat([before.values, v], dim=2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.to_out[0](rearrange(y, "b k n d -> b n (k d)"))
        return out, KeysValues(k, v)


class AddedKVAttention(nn.Module):
    """Self-attention over the cells of an image whose keys begin with those of a context.

    GLIDE's decoder attention, matching diffusers' `AttnAddedKVProcessor`: the image is group-normed, the
    context is not; context keys come first; the result is added to the input.
    """

    def __init__(self, channels: int, head_dim: int, context_dim: int, groups: int, eps: float) -> None:
        super().__init__()
        self.heads = channels // head_dim
        self.group_norm = nn.GroupNorm(groups, channels, eps=eps)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.add_k_proj = nn.Linear(context_dim, channels)
        self.add_v_proj = nn.Linear(context_dim, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return [b c h w] from `x` [b c h w], `context` [b n d] and a `bias` [b 1 1 n] on the context keys."""
        height, width = x.shape[-2:]
        y = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        k = torch.cat([self.add_k_proj(context), self.to_k(y)], dim=1)
        v = torch.cat([self.add_v_proj(context), self.to_v(y)], dim=1)
        q, k, v = (rearrange(part, "b n (k d) -> b k n d", k=self.heads) for part in (self.to_q(y), k, v))
        if bias is not None:
            bias = F.pad(bias, (0, height * width))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        y = self.to_out[0](rearrange(y, "b k n d -> b n (k d)"))
        out: Tensor = rearrange(y, "b (h w) c -> b c h w", h=height, w=width) + x
        return out
