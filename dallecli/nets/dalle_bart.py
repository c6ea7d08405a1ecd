"""DALL·E Mini's and Mega's transformer: an encoder reads the words, a decoder writes the codes (Dayma et al. 2021).

Keys are those of the published PyTorch files, arithmetic is that of the published flax model: BART (Lewis et al. 2020)
without biases in its projections, with gated feed-forward layers (Shazeer 2020) and norms before and after each part
(Shleifer et al. 2021). Norms that a dense layer follows only shift: their scale would be a part of that layer, so no
file has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.conditions import KeysValues
from dallecli.nets.config import PublishedConfig, require

EPS = 1e-5
"""Of every norm."""

_PUBLISHED: dict[str, Any] = {
    "activation_function": "gelu",
    "ln_type": "layernorm",
    "ln_positions": "normformer",
    "use_head_scale": False,
    "use_cosine_attention": False,
    "use_absolute_position_embeddings": True,
    "use_swin_position_embeddings": False,
    "use_deepnet_scaling": False,
    "use_subln_init": False,
    "use_glu": True,
    "use_bias": False,
    "force_ln_scale": False,
    "use_final_ln_encoder": True,
    "use_final_ln_decoder": True,
    "scale_embedding": False,
    "tie_word_embeddings": False,
}
"""The fields of the published configs that choose a variant, and the one that was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DalleBartConfig(PublishedConfig):
    """`config.json` of either half; the names are those of dalle-mini, and the defaults DALL·E Mini's.

    image_vocab_size: codes, besides the start token, or more than the codebook has. image_length: codes of a picture.
    """

    d_model: int = 1024
    encoder_vocab_size: int = 50264
    max_text_length: int = 64
    encoder_layers: int = 12
    encoder_attention_heads: int = 16
    encoder_ffn_dim: int = 2730
    image_vocab_size: int = 16384
    image_length: int = 256
    decoder_layers: int = 12
    decoder_attention_heads: int = 16
    decoder_ffn_dim: int = 2730
    decoder_start_token_id: int = 16384

    def __post_init__(self) -> None:
        for half in ("encoder", "decoder"):
            heads = getattr(self, f"{half}_attention_heads")
            if heads < 1 or self.d_model % heads:
                raise ValueError(f"d_model is {self.d_model}, which {heads} {half}_attention_heads cannot share")
        if self.image_length < 1 or self.max_text_length < 3:
            raise ValueError("image_length and max_text_length must be at least 1 and 3")
        if not self.decoder_start_token_id <= self.image_vocab_size:
            what = f"decoder_start_token_id is {self.decoder_start_token_id}"
            raise ValueError(f"{what}, and the decoder has embeddings up to {self.image_vocab_size}")

    @classmethod
    def from_config(cls, json: Any) -> "DalleBartConfig":
        """Read the published JSON, in which fields that came later may be missing. Raises ValueError."""
        for name, value in _PUBLISHED.items():
            require(name, json.get(name, value), value)
        return super(DalleBartConfig, cls).from_config(json)


class Shift(nn.Module):
    """A layer norm that only shifts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.bias.shape, None, self.bias, EPS)


class Attention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.q_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def known(self, x: Tensor) -> KeysValues:
        """The keys and values [b heads n d] of tokens [b n w]."""
        return KeysValues(self._heads(self.k_proj(x)), self._heads(self.v_proj(x)))

    def forward(self, x: Tensor, known: KeysValues, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Let tokens [b n w] attend to known ones, where `mask`, bool [b 1 1 m], is True, or to those up to each."""
        y = F.scaled_dot_product_attention(
            self._heads(self.q_proj(x)), known.keys, known.values, attn_mask=mask, is_causal=causal
        )
        out: Tensor = self.out_proj(rearrange(y, "b h n d -> b n (h d)"))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "b n (h d) -> b h n d", h=self.heads)


class Glu(nn.Module):
    """The gated feed-forward layer, with a norm before and within it."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.ln0 = Shift(width)
        self.ln1 = Shift(inside)
        self.fc0 = nn.Linear(width, inside, bias=False)
        self.fc1 = nn.Linear(width, inside, bias=False)
        self.fc2 = nn.Linear(inside, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.ln0(x)
        out: Tensor = self.fc2(self.ln1(F.gelu(self.fc0(x)) * self.fc1(x)))
        return out


class EncoderLayer(nn.Module):
    """A layer that reads words."""

    def __init__(self, width: int, heads: int, inside: int) -> None:
        super().__init__()
        self.pre_self_attn_layer_norm = Shift(width)
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width, eps=EPS)
        self.glu = Glu(width, inside)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the tokens [b n w] after the layer; `mask`, bool [b 1 1 n], hides padding."""
        y = self.pre_self_attn_layer_norm(x)
        x = x + self.self_attn_layer_norm(self.self_attn(y, self.self_attn.known(y), mask))
        out: Tensor = x + self.glu(x)
        return out


class DalleBartEncoder(nn.Module):
    """Reads words."""

    def __init__(self, config: DalleBartConfig) -> None:
        super().__init__()
        width = config.d_model
        self.embed_tokens = nn.Embedding(config.encoder_vocab_size, width)
        self.embed_positions = nn.Embedding(config.max_text_length, width)
        self.layers = nn.ModuleList(
            [
                EncoderLayer(width, config.encoder_attention_heads, config.encoder_ffn_dim)
                for _ in range(config.encoder_layers)
            ]
        )
        self.layernorm_embedding = nn.LayerNorm(width, eps=EPS)
        self.final_ln = Shift(width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the states [b n w] of token ids [b n], n up to `max_text_length`; `mask` [b n] hides padding."""
        x = self.layernorm_embedding(self.embed_tokens(ids) + self.embed_positions.weight[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, mask[:, None, None])
        out: Tensor = self.final_ln(x)
        return out


class Writing(NamedTuple):
    """Pictures of which some codes are written, and what they were told."""

    told: Sequence[KeysValues]
    """Of each layer, the keys and values [b heads n d] of the words: the same for all codes."""
    mask: Tensor
    """bool [b 1 1 n], True where a token belongs to the words."""
    before: Sequence[KeysValues]
    """Of each layer, room [b heads length d] for those of all codes, written in place."""

    @classmethod
    def begin(cls, decoder: "DalleBartDecoder", states: Tensor, mask: Tensor, rows: Sequence[int]) -> "Writing":
        """Begin pictures of words [t n w] with this `mask`, bool [t n]; `rows` [b] says which of them each is told."""
        layers: list[DecoderLayer] = [layer for layer in decoder.layers if isinstance(layer, DecoderLayer)]
        chosen = torch.tensor(rows, device=states.device)
        told = [KeysValues(*(of[chosen] for of in layer.encoder_attn.known(states))) for layer in layers]
        shape = (len(rows), told[0].keys.shape[1], decoder.embed_positions.num_embeddings, told[0].keys.shape[3])
        before = [KeysValues(states.new_zeros(shape), states.new_zeros(shape)) for _ in layers]
        return cls(told, mask[chosen][:, None, None], before)


class DecoderLayer(nn.Module):
    """A layer that writes codes."""

    def __init__(self, width: int, heads: int, inside: int) -> None:
        super().__init__()
        self.pre_self_attn_layer_norm = Shift(width)
        self.self_attn = Attention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width, eps=EPS)
        self.pre_encoder_attn_layer_norm = Shift(width)
        self.encoder_attn = Attention(width, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(width, eps=EPS)
        self.glu = Glu(width, inside)

    def forward(self, x: Tensor, before: KeysValues, place: int, told: KeysValues, mask: Tensor) -> Tensor:
        """Return the tokens [b n w] after the layer, the first of which stands at `place`.

        Several at once are the first ones of all, as `before` holds nothing then.
        """
        y = self.pre_self_attn_layer_norm(x)
        new, end = self.self_attn.known(y), place + x.shape[1]
        before.keys[:, :, place:end], before.values[:, :, place:end] = new
        seen = new if place == 0 else KeysValues(before.keys[:, :, :end], before.values[:, :, :end])
        x = x + self.self_attn_layer_norm(self.self_attn(y, seen, causal=place == 0))
        y = self.pre_encoder_attn_layer_norm(x)
        x = x + self.encoder_attn_layer_norm(self.encoder_attn(y, told, mask))
        out: Tensor = x + self.glu(x)
        return out


class DalleBartDecoder(nn.Module):
    """Writes codes, one after another; the first follows a start token."""

    def __init__(self, config: DalleBartConfig) -> None:
        super().__init__()
        width, vocabulary = config.d_model, config.image_vocab_size + 1
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.embed_positions = nn.Embedding(config.image_length, width)
        self.layers = nn.ModuleList(
            [
                DecoderLayer(width, config.decoder_attention_heads, config.decoder_ffn_dim)
                for _ in range(config.decoder_layers)
            ]
        )
        self.layernorm_embedding = nn.LayerNorm(width, eps=EPS)
        self.final_ln = Shift(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def write(self, tokens: Tensor, place: int, writing: Writing) -> Tensor:
        """Return the logits [b v] of what follows `tokens` [b n], the first of which stands at `place`, from 0.

        At place 0 is the start token. Behind others, a token is read alone. `writing` is added to in place.
        """
        x = self.embed_tokens(tokens) + self.embed_positions.weight[place : place + tokens.shape[1]]
        x = self.layernorm_embedding(x)
        for layer, before, told in zip(self.layers, writing.before, writing.told, strict=True):
            x = layer(x, before, place, told, writing.mask)
        logits: Tensor = self.lm_head(self.final_ln(x[:, -1]))
        return logits
