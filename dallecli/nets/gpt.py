"""One stream of text tokens and codes: a causal transformer that writes a picture behind its words, as DALL·E 1's does.

Ramesh et al. 2021 (https://arxiv.org/abs/2102.12092), section 2.2. Keys and arithmetic are those of minDALL-E, a
published model of this kind: full causal attention over all text positions, padding among them, and no start token.
The last text position predicts the first code, and each code the one after it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.conditions import KeysValues, Place
from dallecli.nets.config import PublishedConfig

WIDENING = 4
"""How many times wider the inside of a block's MLP is than the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GptConfig(PublishedConfig):
    """`config.json` of a transformer; the names are minDALL-E's.

    vocab_size_txt, ctx_len_txt: text tokens, and how many of them a text has. vocab_size_img, ctx_len_img: codes, and
    how many of them a picture has.
    """

    vocab_size_txt: int
    vocab_size_img: int
    embed_dim: int
    n_layers: int
    n_heads: int
    ctx_len_txt: int
    ctx_len_img: int

    def __post_init__(self) -> None:
        for name in ("vocab_size_txt", "vocab_size_img", "embed_dim", "n_layers", "n_heads", "ctx_len_txt"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.ctx_len_img < 1:
            raise ValueError(f"ctx_len_img is {self.ctx_len_img}, expected at least 1")
        if self.embed_dim % self.n_heads:
            raise ValueError(f"embed_dim is {self.embed_dim}, which is no multiple of n_heads, {self.n_heads}")

    @property
    def length(self) -> int:
        """Positions of the whole stream. The last code is written at the end of it and never read."""
        return self.ctx_len_txt + self.ctx_len_img


class Cache(NamedTuple):
    """Room for what every layer remembers of b streams: keys and values [b heads length d] each, written in place."""

    layers: tuple[KeysValues, ...]

    def repeat(self, rows: Tensor) -> "Cache":
        """Return a cache of its own for streams that go on from those of `rows` [n]."""
        return Cache(tuple(KeysValues(known.keys[rows], known.values[rows]) for known in self.layers))


class Attention(nn.Module):
    """Causal multi-head attention with biased projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, known: KeysValues | None = None, place: Place | None = None) -> Tensor:
        """Let tokens `x` [b n d] attend to themselves and to those before them, which `known` remembers with them.

        They are the first n of a stream where there is no `place`, and else the one that stands there, [b 1 d].
        """
        q, k, v = self._heads(x)
        if place is None:
            if known is not None:
                known.keys[:, :, : x.shape[1]] = k
                known.values[:, :, : x.shape[1]] = v
            return self._out(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        assert known is not None  # for the type checker: a token is read alone only behind others
        if isinstance(place, int):
            known.keys[:, :, place : place + 1] = k
            known.values[:, :, place : place + 1] = v
            end = place + 1
            return self._out(F.scaled_dot_product_attention(q, known.keys[:, :, :end], known.values[:, :, :end]))
        known.keys.index_copy_(2, place, k)
        known.values.index_copy_(2, place, v)
        seen = torch.arange(known.keys.shape[2], device=x.device) <= place
        return self._out(F.scaled_dot_product_attention(q, known.keys, known.values, attn_mask=seen[None, None, None]))

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (rearrange(of(x), "b n (h d) -> b h n d", h=self.heads) for of in (self.query, self.key, self.value))
        return q, k, v

    def _out(self, y: Tensor) -> Tensor:
        out: Tensor = self.proj(rearrange(y, "b h n d -> b n (h d)"))
        return out


class GptBlock(nn.Module):
    """Attention and an MLP, each behind a norm and added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, WIDENING * width), nn.GELU(), nn.Linear(WIDENING * width, width))

    def forward(self, x: Tensor, known: KeysValues | None = None, place: Place | None = None) -> Tensor:
        """Return the tokens [b n d] after the block; as `Attention.forward`."""
        x = x + self.attn(self.ln1(x), known, place)
        out: Tensor = x + self.mlp(self.ln2(x))
        return out


class Gpt(nn.Module):
    """The transformer of one stream."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        self.tok_emb_img = nn.Embedding(config.vocab_size_img, width)
        self.tok_emb_txt = nn.Embedding(config.vocab_size_txt, width)
        self.pos_emb_img = nn.Embedding(config.ctx_len_img, width)
        self.pos_emb_txt = nn.Embedding(config.ctx_len_txt, width)
        self.blocks = nn.ModuleList([GptBlock(width, config.n_heads) for _ in range(config.n_layers)])
        self.ln_f = nn.LayerNorm(width)
        self.head_img = nn.Linear(width, config.vocab_size_img, bias=False)
        self.head_txt = nn.Linear(width, config.vocab_size_txt, bias=False)

    def forward(self, text: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each position predicts, given all before it: what training compares with the tokens themselves.

        Args:
            text: token ids [b t], all `ctx_len_txt` of them.
            codes: [b n], at least one and at most `ctx_len_img`; the last one is not read.

        Returns:
            The logits [b t-1 v] of the text tokens from the second on, and the logits [b n w] of the codes.
        """
        x = torch.cat([self._text(text), self._codes(codes[:, :-1])], dim=1)
        for block in self.blocks:
            x = block(x)
        x, last = self.ln_f(x), text.shape[1] - 1
        return self.head_txt(x[:, :last]), self.head_img(x[:, last:])

    def cache(self, batch: int, like: Tensor) -> Cache:
        """Return room for `batch` streams of full length, on the device and in the type of `like`."""
        config = self.config
        shape = (batch, config.n_heads, config.length, config.embed_dim // config.n_heads)
        return Cache(tuple(KeysValues(like.new_zeros(shape), like.new_zeros(shape)) for _ in self.blocks))

    def read(self, text: Tensor) -> tuple[Tensor, Cache]:
        """Read texts [b t] once, and return the logits [b w] of the first code with the cache that goes on."""
        x = self._text(text)
        cache = self.cache(len(text), x)
        for block, known in zip(self.blocks, cache.layers, strict=True):
            x = block(x, known)
        return self._next(x[:, -1]), cache

    def write(self, last: Tensor, place: Place, cache: Cache) -> Tensor:
        """Return the logits [b w] of the code behind `last` [b], which stands at `place` among the codes, from 0.

        `place` is a number, or an integer tensor [1] on the device: then every step is the same work, and can be a
        CUDA graph. The cache is written in place.
        """
        positions = self.pos_emb_img(place) if isinstance(place, Tensor) else self.pos_emb_img.weight[place]
        x = (self.tok_emb_img(last) + positions)[:, None]
        for block, known in zip(self.blocks, cache.layers, strict=True):
            x = block(x, known, self.config.ctx_len_txt + place)
        return self._next(x[:, 0])

    def _next(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head_img(self.ln_f(x))
        return logits

    def _text(self, text: Tensor) -> Tensor:
        tokens: Tensor = self.tok_emb_txt(text) + self.pos_emb_txt.weight[: text.shape[1]]
        return tokens

    def _codes(self, codes: Tensor) -> Tensor:
        tokens: Tensor = self.tok_emb_img(codes) + self.pos_emb_img.weight[: codes.shape[1]]
        return tokens
