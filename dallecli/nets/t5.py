"""The encoder of T5 v1.1 (Raffel et al. 2020, https://arxiv.org/abs/1910.10683), gated (2002.05202).

Keys and arithmetic are those of transformers' `T5EncoderModel`: no biases, norms that only scale, attention that is not
divided by the square root of its width, and learned biases by how far apart two tokens are, which all blocks share.

It was trained in bfloat16, and overflows in float16. There the output of each feed-forward layer (`wo`) stays in
float32, and with it everything that is added up from then on.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.config import PublishedConfig, require

SPARE = 1000
"""How far below the largest float16 a state is put that was infinite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Config(PublishedConfig):
    """`text_encoder/config.json`; the defaults are transformers' own."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "relu"
    is_decoder: bool = False

    def __post_init__(self) -> None:
        require("feed_forward_proj", self.feed_forward_proj, "gated-gelu")
        require("is_decoder", self.is_decoder, False)
        if self.relative_attention_num_buckets < 4 or self.relative_attention_num_buckets % 4:
            raise ValueError(
                f"relative_attention_num_buckets is {self.relative_attention_num_buckets}, expected a multiple of 4"
            )
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets // 4:
            raise ValueError(
                f"relative_attention_max_distance is {self.relative_attention_max_distance}, "
                "which is no more than the distances with a bucket of their own"
            )


class T5Norm(nn.Module):
    """Divides by the root of the mean square, computed in float32, and scales."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.d_model))
        nn.init.ones_(self.weight)
        self.eps = config.layer_norm_epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n d] in the type of the weights."""
        size = x.float().square().mean(dim=-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(size + self.eps)).to(self.weight.dtype)


class T5Attention(nn.Module):
    """Attention of all tokens to all that belong to the prompt. The first block's holds the biases of all."""

    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self.heads = config.num_heads
        self.q, self.k, self.v = (nn.Linear(config.d_model, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, config.d_model, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return [b n d] from [b n d] and what is added to the products of queries and keys [b h n n]."""
        q, k, v = (rearrange(of(x), "b n (h d) -> b h n d", h=self.heads) for of in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        out: Tensor = self.o(rearrange(attended, "b h n d -> b n (h d)"))
        return out


class T5FeedForward(nn.Module):
    """Two projections, of which one, through GELU in its tanh approximation, is the gate of the other."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = (nn.Linear(config.d_model, config.d_ff, bias=False) for _ in range(2))
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n d]: of float16 in float32, in which `wo` is loaded there (see `Layout.single`)."""
        hidden = F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x)
        out: Tensor = self.wo(hidden.float() if hidden.dtype == torch.float16 else hidden)
        return out


class T5AttentionLayer(nn.Module):
    """The attention of a block, with its norm."""

    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.SelfAttention = T5Attention(config, first)
        self.layer_norm = T5Norm(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return [b n d]."""
        out: Tensor = x + self.SelfAttention(self.layer_norm(x), bias)
        return out


class T5FeedForwardLayer(nn.Module):
    """The feed-forward network of a block, with its norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.DenseReluDense = T5FeedForward(config)
        self.layer_norm = T5Norm(config)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n d]."""
        out: Tensor = x + self.DenseReluDense(self.layer_norm(x))
        return out


class T5Block(nn.Module):
    """Attention and a feed-forward network."""

    def __init__(self, config: T5Config, first: bool) -> None:
        super().__init__()
        self.layer = nn.ModuleList([T5AttentionLayer(config, first), T5FeedForwardLayer(config)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return [b n d]."""
        return _finite(self.layer[1](_finite(self.layer[0](x, bias))))


class T5Stack(nn.Module):
    """The blocks and the final norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.block = nn.ModuleList([T5Block(config, first=index == 0) for index in range(config.num_layers)])
        self.final_layer_norm = T5Norm(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return [b n d]."""
        for block in self.block:
            x = block(x, bias)
        out: Tensor = self.final_layer_norm(x)
        return out


class T5Encoder(nn.Module):
    """The encoder. Its states are what the networks of DeepFloyd IF read, those of padding included."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the states [b n d] of token ids [b n].

        Args:
            ids: as the tokenizer gives them.
            mask: bool [b n], True where a token belongs to the prompt. Nothing attends to the others.
        """
        x = self.shared(ids)
        first = next(layer for layer in self.modules() if isinstance(layer, T5Attention))
        buckets = relative_buckets(ids.shape[1], self.config).to(ids.device)
        near = rearrange(first.relative_attention_bias(buckets), "i j h -> 1 h i j")
        lowest = torch.finfo(near.dtype).min
        out: Tensor = self.encoder(x, torch.where(mask[:, None, None, :], near, lowest))
        return out


def relative_buckets(tokens: int, config: T5Config) -> Tensor:
    """The bucket [n n] of each key as each query sees it: half of them for keys that come later.

    Of each half one half is for the exact distances, the rest is spaced logarithmically up to the maximal distance
    (Raffel et al. 2020, section 2.1).
    """
    place = torch.arange(tokens)
    ahead = place[None, :] - place[:, None]
    side = config.relative_attention_num_buckets // 2
    exact = side // 2
    distance = ahead.abs()
    # in float32, as published: at the borders the rounding decides
    share = torch.log(distance.float() / exact) / math.log(config.relative_attention_max_distance / exact)
    far = (exact + (share.clamp(min=0) * (side - exact)).long()).clamp(max=side - 1)
    return torch.where(distance < exact, distance, far) + side * (ahead > 0)


def _finite(x: Tensor) -> Tensor:
    """Of float16 with infinities in it: everything within what it holds, with some room. Other types pass."""
    if x.dtype != torch.float16:
        return x
    largest = torch.finfo(x.dtype).max
    bound = torch.where(x.isinf().any(), largest - SPARE, largest)
    return torch.clamp(x, min=-bound, max=bound)
