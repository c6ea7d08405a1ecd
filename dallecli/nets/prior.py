"""The diffusion prior: it makes a CLIP image embedding of a text (Ramesh et al. 2022, section 2.2).

Keys and arithmetic are those of diffusers' `PriorTransformer`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.attention import SelfAttention
from dallecli.nets.conditions import MASKED, KeysValues
from dallecli.nets.config import PublishedConfig, require
from dallecli.nets.resnet import TimestepEmbedding, sinusoid


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorConfig(PublishedConfig):
    """`prior/config.json`; the defaults are the published library's, which are Karlo's."""

    num_attention_heads: int = 32
    attention_head_dim: int = 64
    num_layers: int = 20
    embedding_dim: int = 768
    num_embeddings: int = 77
    additional_embeddings: int = 4
    time_embed_act_fn: str = "silu"
    norm_in_type: str | None = None
    embedding_proj_norm_type: str | None = None
    encoder_hid_proj_type: str | None = "linear"
    added_emb_type: str | None = "prd"
    time_embed_dim: int | None = None
    embedding_proj_dim: int | None = None
    clip_embed_dim: int | None = None

    def __post_init__(self) -> None:
        require("additional_embeddings", self.additional_embeddings, 4)
        require("time_embed_act_fn", self.time_embed_act_fn, "silu")
        require("norm_in_type", self.norm_in_type, None)
        require("embedding_proj_norm_type", self.embedding_proj_norm_type, None)
        require("encoder_hid_proj_type", self.encoder_hid_proj_type, "linear")
        require("added_emb_type", self.added_emb_type, "prd")
        require("embedding_proj_dim", self.embedding_proj_dim, None, self.embedding_dim)
        require("clip_embed_dim", self.clip_embed_dim, None, self.embedding_dim)

    @property
    def width(self) -> int:
        """The width of a token inside the transformer."""
        return self.num_attention_heads * self.attention_head_dim


class GeluProjection(nn.Module):
    """A linear layer and an exact GELU (`ff.net.0` on disk)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n hidden] from [b n width]."""
        return F.gelu(self.proj(x))


class FeedForward(nn.Module):
    """The perceptron of a block; `net.1` stands for a dropout, which has no weights and does nothing here."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GeluProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n d] from [b n d]."""
        out: Tensor = self.net(x)
        return out


class PriorBlock(nn.Module):
    """A pre-norm transformer block (there is no `norm2` on disk: it belongs to cross-attention)."""

    def __init__(self, heads: int, head_dim: int) -> None:
        super().__init__()
        width = heads * head_dim
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = SelfAttention(width, heads, head_dim)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, bias: Tensor, before: KeysValues | None = None) -> tuple[Tensor, KeysValues]:
        """Return [b n d] from [b n d], which may follow m tokens `before` it, and the keys and values of all m+n.

        `bias` [b 1 n m+n] is added to the attention's logits.
        """
        attended, known = self.attn1(self.norm1(x), bias, before)
        x = x + attended
        return x + self.ff(self.norm3(x)), known


class ReadText(NamedTuple):
    """r texts that the prior has read."""

    blocks: list[KeysValues]
    """The keys and values of the texts' tokens, in every block."""
    bias: Tensor
    """[r 1 1 n+1], hides the padding of the texts from the tokens after them."""


class PriorTransformer(nn.Module):
    """A causal transformer over a text's states, its embedding, the time, the noised image embedding and a last token.

    The state of the last token is projected to the prediction. The network works on normalised image embeddings: the
    finished sample is `x * clip_std + clip_mean`, both [1 d].
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        width, d = config.width, config.embedding_dim
        tokens = config.num_embeddings + config.additional_embeddings
        time_out = width if config.time_embed_dim is None else config.time_embed_dim
        self.time_embedding = TimestepEmbedding(width, time_out, width)
        self.proj_in = nn.Linear(d, width)
        self.embedding_proj = nn.Linear(d, width)
        self.encoder_hidden_states_proj = nn.Linear(d, width)
        self.positional_embedding = nn.Parameter(torch.zeros(1, tokens, width))
        self.prd_embedding = nn.Parameter(torch.zeros(1, 1, width))
        self.transformer_blocks = nn.ModuleList(
            [PriorBlock(config.num_attention_heads, config.attention_head_dim) for _ in range(config.num_layers)]
        )
        self.norm_out = nn.LayerNorm(width)
        self.proj_to_clip_embeddings = nn.Linear(width, d)
        self.clip_mean = nn.Parameter(torch.zeros(1, d))
        self.clip_std = nn.Parameter(torch.zeros(1, d))

    def forward(self, x: Tensor, t: Tensor, text_embedding: Tensor, text_hidden: Tensor, text_mask: Tensor) -> Tensor:
        """Return the network's prediction [b d] (of x0, in every published prior).

        Args:
            x: noised, normalised image embeddings [b d].
            t: timesteps of the trained schedule, [b] or a scalar.
            text_embedding: CLIP text embeddings [b d].
            text_hidden: the text tower's states [b n d], n at most `num_embeddings`. Columns at the end that are
                padding in the whole batch may be left out: no token attends to them.
            text_mask: bool [b n], True where a token belongs to the prompt.
        """
        tokens = torch.cat([self._text(text_embedding, text_hidden), self._asked(x, t)], dim=1)
        bias = F.pad(hidden_padding(text_mask, x.dtype), (0, self.config.additional_embeddings - 1)) + future(tokens)
        return self._predict(tokens, bias, [None] * len(self.transformer_blocks))

    def read(self, text_embedding: Tensor, text_hidden: Tensor, text_mask: Tensor) -> ReadText:
        """Read r texts once for all steps and all samples of each; the arguments are those of `forward`, with r for b.

        No token attends to a later one, so the states of the text's tokens do not depend on the time or the sample.
        """
        tokens, padding = self._text(text_embedding, text_hidden), hidden_padding(text_mask, text_hidden.dtype)
        bias, blocks = padding + future(tokens), []
        for block in self.transformer_blocks:
            tokens, known = block(tokens, bias)
            blocks.append(known)
        return ReadText(blocks, padding)

    def answer(self, x: Tensor, t: Tensor, text: ReadText, rows: Tensor) -> Tensor:
        """Return the prediction [b d] of `forward` for texts that were read, from three tokens instead of n + 4.

        `rows` [b] says which text each sample has.
        """
        tokens = self._asked(x, t)
        later = future(tokens)
        bias = torch.cat([text.bias[rows].expand(-1, -1, len(later), -1), later.expand(len(x), 1, -1, -1)], dim=-1)
        # One block at a time: repeated for every sample, those of all blocks would be gigabytes in a large batch.
        return self._predict(tokens, bias, (KeysValues(*(of[rows] for of in known)) for known in text.blocks))

    def _text(self, embedding: Tensor, hidden: Tensor) -> Tensor:
        """The tokens [b n+1 w] of a text's states and of its embedding."""
        positions, n = self.positional_embedding, hidden.shape[1]
        states = self.encoder_hidden_states_proj(hidden) + positions[:, :n]
        place = self.config.num_embeddings
        return torch.cat([states, self.embedding_proj(embedding)[:, None] + positions[:, place : place + 1]], dim=1)

    def _asked(self, x: Tensor, t: Tensor) -> Tensor:
        """The tokens [b 3 w] after a text: the time, the noised embedding, and the one that becomes the prediction."""
        features = sinusoid(t.expand(len(x)), self.config.width).to(x.dtype)
        parts = [
            self.time_embedding(features)[:, None],
            self.proj_in(x)[:, None],
            self.prd_embedding.expand(len(x), -1, -1),
        ]
        return torch.cat(parts, dim=1) + self.positional_embedding[:, self.config.num_embeddings + 1 :]

    def _predict(self, tokens: Tensor, bias: Tensor, before: Iterable[KeysValues | None]) -> Tensor:
        """The prediction [b d] from the last token, given the keys and values of tokens `before`, for each block."""
        for block, known in zip(self.transformer_blocks, before, strict=True):
            tokens, _ = block(tokens, bias, known)
        out: Tensor = self.proj_to_clip_embeddings(self.norm_out(tokens[:, -1]))
        return out


def hidden_padding(text_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias [b 1 1 n+1] that hides the padding of a text, but not its embedding, which comes after it."""
    return F.pad((~text_mask).to(dtype) * MASKED, (0, 1))[:, None, None, :]


def future(tokens: Tensor) -> Tensor:
    """The bias [n n] that hides later tokens from earlier ones."""
    n = tokens.shape[1]
    return torch.full((n, n), MASKED, dtype=tokens.dtype, device=tokens.device).triu(1)
