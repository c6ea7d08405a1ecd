"""The two towers of CLIP with their projections (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

Keys and arithmetic are those of transformers' `CLIPTextModelWithProjection` and
`CLIPVisionModelWithProjection`. Embeddings come out as the projections give them, not normalised.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.config import read_config, require


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x), the approximation OpenAI trained its CLIP models with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTextConfig:
    """`text_encoder/config.json`; the defaults are transformers' own."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_config(cls, json: Mapping[str, Any]) -> Self:
        """Read the published JSON (see `read_config`)."""
        return read_config(cls, json)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipVisionConfig:
    """`image_encoder/config.json`; the defaults are transformers' own."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int = 512

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_config(cls, json: Mapping[str, Any]) -> Self:
        """Read the published JSON (see `read_config`)."""
        return read_config(cls, json)


def _check(config: ClipTextConfig | ClipVisionConfig) -> None:
    require("hidden_act", config.hidden_act, *ACTIVATIONS)
    heads = config.num_attention_heads
    if heads < 1 or config.hidden_size % heads:
        raise ValueError(f"{config.hidden_size} hidden_size can't be shared by {heads} num_attention_heads")


class TextStates(NamedTuple):
    """What the text tower says about prompts: `embedding` [b d] in CLIP space and `hidden` [b n d] per token."""

    embedding: Tensor
    hidden: Tensor


class ClipAttention(nn.Module):
    """Multi-head self-attention with biased projections, CLIP's key names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Attend over `x` [b n d]; with `causal`, a token sees itself and those before it."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (rearrange(project(x), "b n (k d) -> b k n d", k=self.heads) for project in projections)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        out: Tensor = self.out_proj(rearrange(y, "b k n d -> b n (k d)"))
        return out


class ClipMlp(nn.Module):
    """The two-layer perceptron of a block."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activate = ACTIVATIONS[activation]
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [b n d] from [b n d]."""
        out: Tensor = self.fc2(self.activate(self.fc1(x)))
        return out


class ClipBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: ClipTextConfig | ClipVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = ClipAttention(width, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = ClipMlp(width, config.intermediate_size, config.hidden_act)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Return [b n d] from [b n d]."""
        x = x + self.self_attn(self.layer_norm1(x), causal)
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class ClipEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: ClipTextConfig | ClipVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList([ClipBlock(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        """Return [b n d] from [b n d]."""
        for layer in self.layers:
            x = layer(x, causal)
        return x


class ClipTextEmbeddings(nn.Module):
    """Token plus position embeddings."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Return [b n d] from token ids [b n]."""
        out: Tensor = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        return out


class ClipTextTransformer(nn.Module):
    """Embeddings, causal blocks and the final norm."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.embeddings = ClipTextEmbeddings(config)
        self.encoder = ClipEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Return [b n d] from token ids [b n]."""
        out: Tensor = self.final_layer_norm(self.encoder(self.embeddings(ids), causal=True))
        return out


class CLIPTextModel(nn.Module):
    """The text tower with its projection.

    Only the causal mask is applied, no padding mask: padding comes after the end token, which therefore
    never sees it, and the published pipelines pass none either.
    """

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = ClipTextTransformer(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, ids: Tensor) -> TextStates:
        """Return the states of token ids [b n].

        The embedding is taken at the first largest id of each row: the end token has the largest id of
        every CLIP vocabulary, and published configs carry a legacy `eos_token_id` that must not be trusted.
        """
        hidden = self.text_model(ids)
        pooled = hidden[torch.arange(ids.shape[0], device=ids.device), ids.argmax(dim=-1)]
        return TextStates(self.text_projection(pooled), hidden)


class ClipVisionEmbeddings(nn.Module):
    """Patch embeddings behind a class token, plus positions."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        nn.init.normal_(self.class_embedding, std=config.hidden_size**-0.5)
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size, bias=False)
        self.position_embedding = nn.Embedding(patches + 1, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [b 1+n d] from pixels [b 3 h w]."""
        patches = rearrange(self.patch_embedding(pixels), "b d h w -> b (h w) d")
        first = self.class_embedding.expand(pixels.shape[0], 1, -1)
        out: Tensor = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return out


class ClipVisionTransformer(nn.Module):
    """Embeddings, norm, blocks, and the norm of the class token. `pre_layrnorm` is spelled so on disk."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.embeddings = ClipVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = ClipEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [b d], the state of the class token, from pixels [b 3 h w]."""
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixels)), causal=False)
        out: Tensor = self.post_layernorm(x[:, 0])
        return out


class CLIPVisionModel(nn.Module):
    """The image tower with its projection."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = ClipVisionTransformer(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return CLIP image embeddings [b d] from pixels [b 3 s s], normalised by CLIP's mean and deviation."""
        out: Tensor = self.visual_projection(self.vision_model(pixels))
        return out
