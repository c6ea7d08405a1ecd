"""The two towers of CLIP with their projections (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

Keys and arithmetic are those of transformers' `CLIPTextModelWithProjection` and
`CLIPVisionModelWithProjection`. Embeddings come out as the projections give them, not normalised.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image, ImageOps
from torch import Tensor, nn

from dallecli.nets.attention import attend
from dallecli.nets.config import PublishedConfig, require
from dallecli.nets.threads import in_whole_vectors


def quick_gelu(x: Tensor) -> Tensor:
    """Return x * sigmoid(1.702 x), the approximation OpenAI trained its CLIP models with."""
    return x * in_whole_vectors(1.702 * x, torch.sigmoid)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""The mean and deviation of red, green and blue in [0, 1] with which OpenAI, and since then everybody, normalises."""

LONGEST = 64
"""Of a picture that is more than this many times as long as wide only the middle is resized; the tower sees less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTextConfig(PublishedConfig):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipVisionConfig(PublishedConfig):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPreprocessing:
    """`feature_extractor/preprocessor_config.json`: how a picture of any size becomes what the image tower reads.

    Equals transformers' `CLIPImageProcessorPil`; the defaults are CLIP's own.
    """

    resize: int | tuple[int, int] | None = 224
    """The shortest side in pixels, or (height, width); None keeps the size."""
    resample: int = Image.Resampling.BICUBIC
    """Pillow's number of the filter."""
    crop: tuple[int, int] | None = (224, 224)
    """The (height, width) that is cut from the middle; None cuts nothing."""
    scale: float = 1 / 255
    """Levels from 0 to 255 are multiplied by this."""
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    """Then the mean is subtracted, and the result divided by the deviation: one number, or one for each channel."""

    @classmethod
    def for_size(cls, size: int) -> Self:
        """CLIP's own preprocessing for a tower that reads `size` x `size` pixels."""
        return cls(resize=size, crop=(size, size))

    @classmethod
    def from_config(cls, json: Mapping[str, Any]) -> Self:
        """Read the published JSON. Raises ValueError for a field of the wrong kind, or one that is not known here."""
        size, crop = json.get("size", 224), json.get("crop_size", 224)
        filters = [filter.value for filter in Image.Resampling]
        resample = json.get("resample", Image.Resampling.BICUBIC)
        require("resample", resample, *filters)
        rescale, normalise = json.get("do_rescale", True), json.get("do_normalize", True)
        return cls(
            resize=_side(size) if json.get("do_resize", True) else None,
            resample=resample,
            crop=_sides("crop_size", crop) if json.get("do_center_crop", True) else None,
            scale=_numbers("rescale_factor", [json.get("rescale_factor", 1 / 255)])[0] if rescale else 1.0,
            mean=_numbers("image_mean", json.get("image_mean", MEAN)) if normalise else (0.0,),
            std=_numbers("image_std", json.get("image_std", STD)) if normalise else (1.0,),
        )

    @property
    def size(self) -> tuple[int, int] | None:
        """The (height, width) of the result; None where that depends on the picture."""
        return self.crop if self.crop is not None or isinstance(self.resize, int) else self.resize

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Return pixels [b 3 h w], float32, of RGB pictures."""
        return torch.stack([self._prepare(image) for image in images])

    def _prepare(self, image: Image.Image) -> Tensor:
        width, height = image.size
        if isinstance(self.resize, int):
            short = min(width, height)
            if max(width, height) > LONGEST * short:  # a strip that would fill the memory when it is enlarged
                image = ImageOps.fit(image, (min(width, LONGEST * short), min(height, LONGEST * short)))
                width, height = image.size
            # The longer side is rounded down.
            width, height = int(self.resize * width / short), int(self.resize * height / short)
        elif self.resize is not None:
            height, width = self.resize
        image = image.resize((width, height), Image.Resampling(self.resample))
        if self.crop is not None:
            top, left = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2
            image = image.crop((left, top, left + self.crop[1], top + self.crop[0]))
        # In double and then in single, like the oracle, so that it is the same to the last bit.
        levels = (torch.from_numpy(np.array(image)).double() * self.scale).float().permute(2, 0, 1)
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (levels - mean) / std


def _side(size: Any) -> int | tuple[int, int]:
    """A `size` of the published JSON: older files have the shortest side as a bare number."""
    if isinstance(size, Mapping) and "shortest_edge" in size:
        size = size["shortest_edge"]
    sides = _sides("size", size)
    return sides if isinstance(size, Mapping) else sides[0]


def _sides(name: str, size: Any) -> tuple[int, int]:
    height, width = (size.get("height"), size.get("width")) if isinstance(size, Mapping) else (size, size)
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise ValueError(f"{name} is {size!r}, expected a side in pixels, or height and width")
    return height, width


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    """One number for all three channels, or one for each."""
    if not isinstance(values, Sequence) or len(values) not in (1, 3):
        raise ValueError(f"{name} is {values!r}, expected three numbers")
    if not all(type(value) in (int, float) and 0 < value < math.inf for value in values):
        raise ValueError(f"{name} is {values!r}, expected numbers above 0")
    return tuple(float(value) for value in values)


def _check(config: ClipTextConfig | ClipVisionConfig) -> None:
    require("hidden_act", config.hidden_act, *ACTIVATIONS)
    heads = config.num_attention_heads
    if heads < 1 or config.hidden_size % heads:
        raise ValueError(f"{config.hidden_size} hidden_size can't be shared by {heads} num_attention_heads")


class TextStates(NamedTuple):
    """What the text tower makes of prompts."""

    embedding: Tensor
    """[b d], in CLIP's space."""
    hidden: Tensor
    """[b n d], the state of every token."""


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
        """Return [b n d] from `x` [b n d]; with `causal`, a token attends to itself and to those before it."""
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (rearrange(project(x), "b n (k d) -> b k n d", k=self.heads) for project in projections)
        y = attend(q, k, v, causal=causal)
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


class CLIPTextStates(nn.Module):
    """The text tower without a projection, for networks that read its states alone (transformers' `CLIPTextModel`)."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = ClipTextTransformer(config)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the states [b n d] of token ids [b n]."""
        hidden: Tensor = self.text_model(ids)
        return hidden


class ClipVisionEmbeddings(nn.Module):
    """A class token followed by patch embeddings, plus position embeddings."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        self.class_embedding = nn.Parameter(torch.empty(config.hidden_size))
        nn.init.normal_(self.class_embedding, std=config.hidden_size**-0.5)
        self.patch_embedding = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size, bias=False)
        self.position_embedding = nn.Embedding(patches + 1, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return [b 1+n d] from pixels [b 3 h w]."""
        patches = rearrange(self._patches(pixels), "b d h w -> b (h w) d")
        first = self.class_embedding.expand(pixels.shape[0], 1, -1)
        out: Tensor = torch.cat([first, patches], dim=1) + self.position_embedding.weight
        return out

    def _patches(self, pixels: Tensor) -> Tensor:
        convolution = self.patch_embedding
        if not (torch.is_grad_enabled() and convolution.weight.requires_grad and pixels.is_cpu):
            out: Tensor = convolution(pixels)
            return out
        # Patches do not overlap, and a product goes back many times faster than a convolution of such a size.
        weight, size = convolution.weight, convolution.kernel_size[0]
        height, width = (side // size * size for side in pixels.shape[-2:])
        flat = rearrange(pixels[..., :height, :width], "b c (h p) (w q) -> b h w (c p q)", p=size, q=size)
        return rearrange(F.linear(flat, weight.flatten(1)), "b h w d -> b d h w")


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
