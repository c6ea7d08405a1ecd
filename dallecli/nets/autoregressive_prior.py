"""The autoregressive prior: it writes a CLIP image embedding of a text as a row of codes (Ramesh et al. 2022, 2.2).

As in the paper, an embedding is reduced by principal component analysis, each component is quantised into buckets, and
a causal transformer predicts one after the other behind the caption, its embedding, and a token that says how well the
picture fits the words. Nobody has published one; where the paper leaves something open, docs/decisions/priors.md says
what was chosen. What the paper does not have is that the network knows the order of the buckets: a code is read with
the number that it stands for, and predicted by a normal distribution whose shape may be corrected bucket by bucket.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.conditions import KeysValues
from dallecli.nets.config import PublishedConfig
from dallecli.nets.prior import PriorBlock, future, hidden_padding

NARROWEST = -4.0
"""The least logarithm of a predicted deviation, in deviations of the component: narrower than any bucket is wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoregressivePriorConfig(PublishedConfig):
    """`autoregressive_prior/config.json`.

    embedding_dim: numbers of an embedding. num_embeddings: tokens of a caption. num_codes: principal components that
    are kept. num_buckets: values of each. num_fits: buckets of the cosine between picture and text.
    """

    num_attention_heads: int = 26
    attention_head_dim: int = 64
    num_layers: int = 24
    embedding_dim: int = 768
    num_embeddings: int = 77
    num_codes: int = 319
    num_buckets: int = 1024
    num_fits: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.num_codes <= self.embedding_dim:
            raise ValueError(f"num_codes is {self.num_codes}, expected 1 to {self.embedding_dim}, the embedding_dim")
        for name in ("num_buckets", "num_fits"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 2 or more")

    @property
    def width(self) -> int:
        """The width of a token inside the transformer."""
        return self.num_attention_heads * self.attention_head_dim


class Codebook(nn.Module):
    """Between embeddings [b d] and codes [b k], whole numbers from 0 to `num_buckets` - 1.

    The buckets of a component are of one width, from `low` to `high`; what lies outside is counted to the nearest.
    """

    def __init__(self, config: AutoregressivePriorConfig) -> None:
        super().__init__()
        k, d = config.num_codes, config.embedding_dim
        self.buckets = config.num_buckets
        self.mean = nn.Parameter(torch.zeros(1, d), requires_grad=False)
        self.basis = nn.Parameter(torch.zeros(k, d), requires_grad=False)
        self.std = nn.Parameter(torch.ones(k), requires_grad=False)
        self.low = nn.Parameter(torch.full((k,), -1.0), requires_grad=False)
        self.high = nn.Parameter(torch.ones(k), requires_grad=False)

    def encode(self, embeddings: Tensor) -> Tensor:
        """Return the codes [b k] of embeddings [b d]."""
        components = (embeddings.float() - self.mean.float()) @ self.basis.float().T
        places = (components - self.low) / (self.high - self.low) * self.buckets
        return places.floor().clamp(0, self.buckets - 1).long()

    def decode(self, codes: Tensor, inside: Tensor) -> Tensor:
        """Return embeddings [b d] of codes [b k], in float32.

        `inside` [b k], from 0 to 1, is the place within each bucket.
        """
        low, high, mean = self.low.float(), self.high.float(), self.mean.float()
        components = low + (codes + inside) / self.buckets * (high - low)
        basis = self.basis.float()
        # Row by row, as a product with one row may be rounded in another way than one with several.
        return torch.cat([row @ basis for row in torch.split(components, 1)]) + mean

    def centres(self, places: Tensor) -> Tensor:
        """The middle of every bucket [n buckets] of the components at `places` [n], in deviations of the component."""
        middles = (torch.arange(self.buckets, device=self.low.device) + 0.5) / self.buckets
        low, high, std = (of[places, None].float() for of in (self.low, self.high, self.std))
        return (low + middles * (high - low)) / std


class ReadCaptions(NamedTuple):
    """r captions that the prior has read."""

    blocks: list[KeysValues]
    """The keys and values of the captions' tokens, in every block."""
    bias: Tensor
    """[r 1 1 n+1], hides the padding of the captions from the tokens after them."""
    embedding: Tensor
    """[r d], their embeddings, which every code is told again."""


class Writing(NamedTuple):
    """Samples of which some codes are written."""

    before: list[KeysValues]
    """The keys and values of all tokens up to now, in every block."""
    bias: Tensor
    """[b 1 1 n+1], that of each sample's caption."""
    embedding: Tensor
    """[b d], that of each sample's caption."""
    written: int
    """How many codes there are."""


class AutoregressivePrior(nn.Module):
    """A causal transformer over a caption's states, its embedding, the fit, and the codes of an image embedding."""

    def __init__(self, config: AutoregressivePriorConfig) -> None:
        super().__init__()
        self.config = config
        width, d, k = config.width, config.embedding_dim, config.num_codes
        self.codebook = Codebook(config)
        self.fit_edges = nn.Parameter(torch.linspace(-1, 1, config.num_fits - 1), requires_grad=False)
        self.encoder_hidden_states_proj = nn.Linear(d, width)
        self.embedding_proj = nn.Linear(d, width)
        # The last one is for samples without a caption, whose fit would give it away.
        self.fit_embedding = nn.Embedding(config.num_fits + 1, width)
        self.code_embedding = nn.Embedding(config.num_buckets, width)
        self.value_proj = nn.Linear(1, width)
        self.caption_proj = nn.Linear(d, width)
        self.positional_embedding = nn.Parameter(torch.zeros(1, config.num_embeddings + 1 + k, width))
        self.transformer_blocks = nn.ModuleList(
            [PriorBlock(config.num_attention_heads, config.attention_head_dim) for _ in range(config.num_layers)]
        )
        self.norm_out = nn.LayerNorm(width)
        self.to_normal = nn.Linear(width, 2)
        self.to_means = nn.Linear(d, k)
        self.to_corrections = nn.Linear(width, config.num_buckets)

    def forward(self, codes: Tensor, fits: Tensor, embedding: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the logits [b k buckets] of every code, given those before it.

        Args:
            codes: [b k], from 0 to `num_buckets` - 1; the last one is not read.
            fits: [b], from 0 to `num_fits` - 1, or `num_fits` where there is no caption.
            embedding: CLIP text embeddings [b d].
            hidden: the text tower's states [b n d], n at most `num_embeddings`.
            mask: bool [b n], True where a token belongs to the caption.
        """
        caption = self._caption(embedding, hidden)
        places = torch.arange(codes.shape[1], device=codes.device)
        written = self._written(codes[:, :-1], places[:-1])
        asked = torch.cat([self.fit_embedding(fits)[:, None], written], dim=1)
        tokens = torch.cat([caption, self._told(asked, embedding, places)], dim=1)
        bias = F.pad(hidden_padding(mask, tokens.dtype), (0, codes.shape[1])) + future(tokens)
        for block in self.transformer_blocks:
            tokens, _ = block(tokens, bias)
        return self._logits(tokens[:, caption.shape[1] :], embedding, places)

    def read(self, embedding: Tensor, hidden: Tensor, mask: Tensor) -> ReadCaptions:
        """Read r captions once for all samples of each; the arguments are those of `forward`, with r for b."""
        tokens, padding, read = self._caption(embedding, hidden), hidden_padding(mask, hidden.dtype), []
        bias = padding + future(tokens)
        for block in self.transformer_blocks:
            tokens, known = block(tokens, bias)
            read.append(known)
        return ReadCaptions(read, padding, embedding)

    def begin(self, captions: ReadCaptions, rows: Tensor) -> Writing:
        """Start samples without codes; `rows` [b] says which caption each one has."""
        before = [KeysValues(*(of[rows] for of in known)) for known in captions.blocks]
        return Writing(before, captions.bias[rows], captions.embedding[rows], 0)

    def write(self, writing: Writing, last: Tensor) -> tuple[Tensor, Writing]:
        """Return the logits [b buckets] of the next code, in float32.

        `last` [b] is the code before it; before the first one it is the fit.
        """
        place = torch.full((1,), writing.written, device=last.device)
        asked = self._written(last[:, None], place - 1) if writing.written else self.fit_embedding(last)[:, None]
        tokens = self._told(asked, writing.embedding, place)
        bias = F.pad(writing.bias, (0, writing.written + 1))
        known = []
        for block, before in zip(self.transformer_blocks, writing.before, strict=True):
            tokens, now = block(tokens, bias, before)
            known.append(now)
        logits = self._logits(tokens, writing.embedding, place)[:, 0]
        return logits, writing._replace(before=known, written=writing.written + 1)

    def fits(self, cosines: Tensor) -> Tensor:
        """Return the bucket [b] of cosines [b] between pictures and their texts."""
        return torch.bucketize(cosines.float(), self.fit_edges.float())

    def _caption(self, embedding: Tensor, hidden: Tensor) -> Tensor:
        """The tokens [b n+1 w] of captions' states and of their embeddings."""
        positions, n = self.positional_embedding, hidden.shape[1]
        states = self.encoder_hidden_states_proj(hidden) + positions[:, :n]
        place = self.config.num_embeddings
        return torch.cat([states, self.embedding_proj(embedding)[:, None] + positions[:, place : place + 1]], dim=1)

    def _written(self, codes: Tensor, places: Tensor) -> Tensor:
        """The tokens [b n w] of codes [b n] at `places` [n]: what they are called, and the number that they mean."""
        centres = self.codebook.centres(places)
        values = centres.expand(len(codes), -1, -1).gather(2, codes[..., None]).to(self.positional_embedding.dtype)
        tokens: Tensor = self.code_embedding(codes) + self.value_proj(values)
        return tokens

    def _told(self, tokens: Tensor, embedding: Tensor, places: Tensor) -> Tensor:
        """Tokens [b n w] that ask for the codes at `places` [n], told where they are and what the caption means."""
        positions = self.positional_embedding[:, self.config.num_embeddings + 1 :][:, places]
        told: Tensor = tokens + positions + self.caption_proj(embedding)[:, None]
        return told

    def _logits(self, tokens: Tensor, embedding: Tensor, places: Tensor) -> Tensor:
        """The logits [b n buckets] in float32 of the codes at `places` [n], which `tokens` [b n w] ask for."""
        tokens = self.norm_out(tokens)
        normal = self.to_normal(tokens).float()
        means = normal[..., :1] + self.to_means(embedding).float()[:, places, None]
        narrowness = torch.exp(-normal[..., 1:].clamp(min=NARROWEST))
        distances = (self.codebook.centres(places) - means) * narrowness
        logits: Tensor = self.to_corrections(tokens).float() - distances.square() / 2
        return logits
