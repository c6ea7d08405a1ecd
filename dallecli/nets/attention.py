"""Attention in the unCLIP networks: plain multi-head, and over an image with additional keys of a context."""

from typing import Final

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.conditions import Context, KeysValues

FEW: Final = 2**14
"""Pairs of a query and a key up to which gradients on a CPU are found sooner through plain products."""


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Return what queries [b h n d] gather from values [b h m d] by keys [b h m d]: scaled dot-product attention.

    `bias` is added to the logits and broadcasts over [b h n m]. With `causal`, a query sees as many keys as its place.
    Training on a CPU, torch's fused kernel takes up to ten times as long to go back, in bfloat16 most of all; so few
    tokens are multiplied plainly there, in float32.
    """
    plain = q.is_cpu and torch.is_grad_enabled() and q.requires_grad and q.shape[-2] * k.shape[-2] <= FEW
    if not plain:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    with torch.autocast("cpu", enabled=False):
        logits = (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)
        if bias is not None:
            logits = logits + bias.float()
        if causal:
            logits = logits + torch.full_like(logits[0, 0], -torch.inf).triu(1)
        gathered: Tensor = logits.softmax(dim=-1) @ v.float()
        return gathered.to(q.dtype)


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
        """Let the tokens `x` [b n d] attend to themselves and to the m tokens `before` them.

        Returns [b n d], and the keys and values of all m+n tokens. `bias` is added to the logits and broadcasts over
        [b heads n m+n].
        """
        q, k, v = (rearrange(to(x), "b n (k d) -> b k n d", k=self.heads) for to in (self.to_q, self.to_k, self.to_v))
        if before is not None:
            k, v = torch.cat([before.keys, k], dim=2), torch.cat([before.values, v], dim=2)
        y = attend(q, k, v, bias)
        out: Tensor = self.to_out[0](rearrange(y, "b k n d -> b n (k d)"))
        return out, KeysValues(k, v)


class AddedKVAttention(nn.Module):
    """Attention of the cells of an image to a context and to themselves.

    The attention of GLIDE's decoder, equal to diffusers' `AttnAddedKVProcessor`: the image is group-normed, the
    context is not; the context's keys come first; the result is added to the input.
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

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Return [b c h w] from `x` [b c h w] and a context of width `context_dim`."""
        y = rearrange(self.group_norm(x), "b c h w -> b (h w) c")
        q, (k, v) = self._heads(self.to_q(y)), self._seen(y, context)
        y = attend(q, k, v, context.bias(y.shape[1]))
        y = self.to_out[0](rearrange(y, "b k n d -> b n (k d)"))
        out: Tensor = rearrange(y, "b (h w) c -> b c h w", h=x.shape[2]) + x
        return out

    def _seen(self, y: Tensor, context: Context) -> KeysValues:
        """The keys and values of the context and of the cells `y` [b n c], in this order."""
        k, v = self._heads(self.to_k(y)), self._heads(self.to_v(y))
        told = context.once(self, self._project)
        return KeysValues(torch.cat([told.keys, k], dim=2), torch.cat([told.values, v], dim=2))

    def _project(self, tokens: Tensor) -> KeysValues:
        return KeysValues(self._heads(self.add_k_proj(tokens)), self._heads(self.add_v_proj(tokens)))

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (k d) -> b k n d", k=self.heads)
