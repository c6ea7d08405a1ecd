"""The oracle: random tiny unCLIP models in the published Karlo layout, written with diffusers' own classes.

`write` makes a folder, `open_pipeline` lets diffusers paint from it. Weights are random, but the last layer of each
denoiser is fitted by ridge regression to do its job a little: a net that predicts nonsense saturates the picture, and
a picture of zeros and ones hides errors.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import torch.nn.functional as F
from diffusers import PriorTransformer, UnCLIPPipeline, UnCLIPScheduler, UNet2DConditionModel, UNet2DModel
from diffusers.pipelines.deprecated import unclip
from diffusers.pipelines.deprecated.unclip import (
    UnCLIPImageVariationPipeline,
    pipeline_unclip,
    pipeline_unclip_image_variation,
)
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel
from diffusers.schedulers import scheduling_unclip
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

WORDS = ("a", "red", "blue", "cat", "dog", "on", "teddy", "bear")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One tiny model. Dicts are what differs from the classes' defaults, as in their `config.json`.

    No level that attends may have as many cells as there are context tokens: diffusers then forgets to widen the mask.
    """

    context: int
    width: int
    pad: str
    text: dict[str, Any]
    prior: dict[str, Any]
    text_proj: dict[str, Any]
    decoder: dict[str, Any]
    super_res: dict[str, Any]
    vision: dict[str, Any] = field(default_factory=dict)
    second_super_res: dict[str, Any] | None = None
    prior_scheduler: dict[str, Any] = field(default_factory=dict)
    decoder_scheduler: dict[str, Any] = field(default_factory=dict)
    super_res_scheduler: dict[str, Any] = field(default_factory=dict)


def attending(levels: int, attends_from: int = 1) -> dict[str, Any]:
    """The block types of a decoder of `levels` that attends from one level down."""
    plain, crossed = attends_from, levels - attends_from
    return {
        "down_block_types": ["ResnetDownsampleBlock2D"] * plain + ["SimpleCrossAttnDownBlock2D"] * crossed,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ["SimpleCrossAttnUpBlock2D"] * crossed + ["ResnetUpsampleBlock2D"] * plain,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
        "in_channels": 3,
        "out_channels": 6,
    }


def plain(levels: int) -> dict[str, Any]:
    """The block types of an upsampler of `levels`."""
    return {
        "in_channels": 6,
        "out_channels": 3,
        "down_block_types": ["ResnetDownsampleBlock2D"] * levels,
        "up_block_types": ["ResnetUpsampleBlock2D"] * levels,
        "add_attention": False,
    }


SHAPES = {
    # Karlo in small: quick_gelu, "!" as padding, noise predictions, four levels with attention at three.
    "karlo": Shape(
        context=11,
        width=24,
        pad="!",
        text={"hidden_act": "quick_gelu", "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48},
        vision={
            "hidden_act": "quick_gelu",
            "hidden_size": 32,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 7,
        },
        prior={"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2},
        text_proj={"time_embed_dim": 64, "cross_attention_dim": 40},
        decoder={
            **attending(4),
            "sample_size": 16,
            "block_out_channels": [16, 32, 48, 64],
            "layers_per_block": 1,
            "attention_head_dim": 16,
            "norm_num_groups": 8,
        },
        super_res={
            **plain(2),
            "sample_size": 32,
            "block_out_channels": [16, 32],
            "layers_per_block": 1,
            "norm_num_groups": 8,
        },
    ),
    # The starter in small: end token as padding, clean-sample predictions, two upsamplers, one head size a level.
    "starter": Shape(
        context=9,
        width=16,
        pad="<|endoftext|>",
        text={"hidden_act": "gelu", "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 40},
        vision={"hidden_act": "gelu", "hidden_size": 24, "num_attention_heads": 3, "image_size": 16, "patch_size": 8},
        prior={"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 1, "time_embed_dim": 20},
        text_proj={"time_embed_dim": 96, "cross_attention_dim": 20},
        decoder={
            **attending(3),
            "sample_size": 8,
            "block_out_channels": [24, 32, 64],
            "layers_per_block": 2,
            "attention_head_dim": [8, 8, 16],
            "norm_num_groups": 4,
        },
        super_res={
            **plain(3),
            "sample_size": 16,
            "block_out_channels": [8, 16, 24],
            "layers_per_block": 2,
            "norm_num_groups": 4,
            "resnet_time_scale_shift": "scale_shift",
        },
        second_super_res={
            **plain(2),
            "sample_size": 32,
            "block_out_channels": [8, 16],
            "layers_per_block": 1,
            "norm_num_groups": 8,
        },
        decoder_scheduler={"prediction_type": "sample"},
        super_res_scheduler={"prediction_type": "sample"},
    ),
    # Odd numbers: two extra context tokens, its own time width and norm eps, attention at the lowest level only.
    "odd": Shape(
        context=5,
        width=20,
        pad="!",
        text={"hidden_act": "gelu", "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 20},
        vision={
            "hidden_act": "quick_gelu",
            "hidden_size": 30,
            "num_attention_heads": 2,
            "image_size": 20,
            "patch_size": 5,
        },
        prior={"num_attention_heads": 1, "attention_head_dim": 24, "num_layers": 3},
        text_proj={"time_embed_dim": 48, "cross_attention_dim": 12, "clip_extra_context_tokens": 2},
        decoder={
            **attending(2),
            "sample_size": 12,
            "block_out_channels": [12, 36],
            "layers_per_block": 3,
            "attention_head_dim": 12,
            "norm_num_groups": 6,
            "norm_eps": 1e-4,
            "time_embedding_dim": 48,
        },
        super_res={
            **plain(2),
            "sample_size": 48,
            "block_out_channels": [12, 20],
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "norm_eps": 1e-4,
        },
        prior_scheduler={"clip_sample_range": 10.0},
    ),
}


# ----------------------------------------------------------------------------------------------------------------------
# The parts, random.


def tokenizer_files(folder: Path, shape: Shape) -> int:
    """Write a small byte-pair vocabulary made for `WORDS`; return its size."""
    letters = ["!", *sorted(set("".join(WORDS)))]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    merges = list(dict.fromkeys(merges))
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges)]
    vocab = {token: k for k, token in enumerate([*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"])}
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": shape.pad,
    }
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "model_max_length": shape.context, "tokenizer_class": "CLIPTokenizer"})
    )
    return len(vocab)


def random_net(build: Callable[[], nn.Module], seed: int) -> Any:
    """Build a net with random weights in which nothing is left at 0 or 1: a swapped bias or norm would not show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build().eval().requires_grad_(False)
        for parameter in net.parameters():
            spread = parameter.std().item() if parameter.numel() > 1 else 0.0
            parameter += torch.randn_like(parameter) * max(0.1 * spread, 0.05)
    return net


def text_encoder(shape: Shape, vocab_size: int, seed: int = 1) -> CLIPTextModelWithProjection:
    """A random text tower."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=shape.width,
        projection_dim=shape.width,
        max_position_embeddings=shape.context,
        # The legacy id of the published folders: transformers then pools at the largest id.
        eos_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        **shape.text,
    )
    return random_net(lambda: CLIPTextModelWithProjection(config), seed)


def image_encoder(shape: Shape, seed: int = 2) -> CLIPVisionModelWithProjection:
    """A random image tower."""
    config = CLIPVisionConfig(projection_dim=shape.width, num_hidden_layers=2, intermediate_size=40, **shape.vision)
    return random_net(lambda: CLIPVisionModelWithProjection(config), seed)


def feature_extractor(shape: Shape) -> CLIPImageProcessorPil:
    """How pictures are prepared for the image tower: as CLIP's are, at its size."""
    size = shape.vision["image_size"]
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def prior(shape: Shape, seed: int = 3) -> PriorTransformer:
    """A random prior, with the statistics of its embeddings."""
    net = random_net(
        lambda: PriorTransformer(embedding_dim=shape.width, num_embeddings=shape.context, **shape.prior), seed
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net.clip_mean.data = torch.randn_like(net.clip_mean) * 0.2
        net.clip_std.data = torch.rand_like(net.clip_std) + 0.5
    return net


def text_proj(shape: Shape, seed: int = 4) -> UnCLIPTextProjModel:
    """A random bridge to the decoder, with a learned "no image"."""
    return random_net(lambda: UnCLIPTextProjModel(clip_embeddings_dim=shape.width, **shape.text_proj), seed)


def decoder(shape: Shape, seed: int = 5) -> UNet2DConditionModel:
    """A random decoder."""
    cross = shape.text_proj["cross_attention_dim"]
    return random_net(lambda: UNet2DConditionModel(cross_attention_dim=cross, **shape.decoder), seed)


def super_res(config: dict[str, Any], seed: int) -> UNet2DModel:
    """A random upsampling net."""
    return random_net(lambda: UNet2DModel(**config), seed)


def schedulers(shape: Shape) -> dict[str, UnCLIPScheduler]:
    """The three schedulers with Karlo's published settings, changed where the shape says so."""
    published: dict[str, dict[str, Any]] = {
        "prior_scheduler": {"prediction_type": "sample", "clip_sample_range": 5.0} | shape.prior_scheduler,
        "decoder_scheduler": {"variance_type": "learned_range"} | shape.decoder_scheduler,
        "super_res_scheduler": dict(shape.super_res_scheduler),
    }
    return {name: UnCLIPScheduler(**config) for name, config in published.items()}


# ----------------------------------------------------------------------------------------------------------------------
# Fitting the last layers.


def fit(
    net: nn.Module, scheduler: Any, run: Callable[[Tensor, Tensor], Any], size: int, seed: int, channels: int = 3
) -> None:
    """Fit `conv_out` so that `net`, called by `run(noisy, t)`, predicts what its scheduler expects, of smooth pictures.

    Channels behind the first (variances) keep their random weights.
    """
    generator = torch.Generator().manual_seed(seed)
    features: list[Tensor] = []
    hook = net.conv_out.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    targets = []
    for t in range(20, 1000, 140):
        x0 = F.interpolate(torch.rand(4, channels, 4, 4, generator=generator) * 1.6 - 0.8, size=size, mode="bilinear")
        eps = torch.randn(x0.shape, generator=generator)
        alpha_bar = scheduler.alphas_cumprod[t]
        run(alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps, torch.tensor(t))
        targets.append(x0 if scheduler.config.prediction_type == "sample" else eps)
    hook.remove()
    columns = F.unfold(torch.cat(features), 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    columns = torch.cat([columns, torch.ones_like(columns[:, :1])], dim=1)
    wanted = torch.cat(targets).flatten(2).transpose(1, 2).flatten(0, 1).double()
    square = columns.T @ columns
    # A strong ridge: large weights would amplify the rounding of the features.
    ridge = 0.3 * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
    weights = torch.linalg.solve(square + ridge, columns.T @ wanted).T.float()
    net.conv_out.weight[:channels] = weights[:, :-1].reshape(channels, -1, 3, 3)
    net.conv_out.bias[:channels] = weights[:, -1]


def fit_decoder(net: UNet2DConditionModel, scheduler: UnCLIPScheduler, shape: Shape, seed: int) -> None:
    """Fit a decoder under a random condition."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(4, 3, shape.text_proj["cross_attention_dim"], generator=generator)
    time = torch.randn(4, shape.text_proj["time_embed_dim"], generator=generator)
    fit(net, scheduler, lambda x, t: net(x, t, context, class_labels=time), shape.decoder["sample_size"], seed)


def fit_super_res(net: UNet2DModel, scheduler: UnCLIPScheduler, size: int, seed: int) -> None:
    """Fit an upsampling net, given a smooth low-resolution picture."""
    low = F.interpolate(torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(seed)), size=size)
    fit(net, scheduler, lambda x, t: net(torch.cat([x, low], dim=1), t), size, seed)


# ----------------------------------------------------------------------------------------------------------------------
# The folder.


@torch.no_grad()
def write(folder: Path, shape: Shape) -> Path:
    """Write a whole random model and return its folder. A second upsampler is the project's own addition."""
    vocab_size = tokenizer_files(folder / "tokenizer", shape)
    scheduler = schedulers(shape)
    parts: dict[str, Any] = {
        "text_encoder": text_encoder(shape, vocab_size),
        "image_encoder": image_encoder(shape),
        "feature_extractor": feature_extractor(shape),
        "prior": prior(shape),
        "text_proj": text_proj(shape),
        "decoder": decoder(shape),
        "super_res_first": super_res(shape.super_res, 6),
        "super_res_last": super_res(shape.super_res, 7),
        **scheduler,
    }
    fit_decoder(parts["decoder"], scheduler["decoder_scheduler"], shape, 8)
    for name in ("super_res_first", "super_res_last"):
        fit_super_res(parts[name], scheduler["super_res_scheduler"], shape.super_res["sample_size"], 9)
    if shape.second_super_res is not None:
        parts["super_res_2_scheduler"] = scheduler["super_res_scheduler"]
        for seed, name in enumerate(("super_res_2_first", "super_res_2_last")):
            parts[name] = super_res(shape.second_super_res, 10 + seed)
            size = shape.second_super_res["sample_size"]
            fit_super_res(parts[name], scheduler["super_res_scheduler"], size, 12)
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    # The image tower belongs to the variation pipeline; diffusers' UnCLIPPipeline would refuse its name.
    write_index(folder, "UnCLIPPipeline", set(parts) - {"image_encoder", "feature_extractor"})
    return folder


def write_variations(folder: Path, whole: Path) -> Path:
    """Write the image-variation folder of a whole model: no prior, and an image tower with its preprocessing."""
    parts = {path.name for path in whole.iterdir() if path.is_dir()} - {"prior", "prior_scheduler"}
    parts = {part for part in parts if "super_res_2" not in part}
    for part in parts:
        shutil.copytree(whole / part, folder / part)
    write_index(folder, "UnCLIPImageVariationPipeline", parts - {"tokenizer"})
    return folder


def write_index(folder: Path, pipeline: str, parts: set[str]) -> None:
    """Write `model_index.json`, which says what everything is."""
    kinds = {
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "text_proj": ["unclip", "UnCLIPTextProjModel"],
        "prior": ["diffusers", "PriorTransformer"],
        "decoder": ["diffusers", "UNet2DConditionModel"],
        "super_res_first": ["diffusers", "UNet2DModel"],
        "super_res_last": ["diffusers", "UNet2DModel"],
    }
    index: dict[str, Any] = {
        part: kinds.get(part, ["diffusers", "UnCLIPScheduler"]) for part in sorted(parts) if "super_res_2" not in part
    }
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "_class_name": pipeline}
    (folder / "model_index.json").write_text(json.dumps(index))


def open_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> UnCLIPPipeline:
    """Let diffusers open a folder in the published layout."""
    return _opened(UnCLIPPipeline, folder, dtype)


def open_variations(folder: Path, dtype: torch.dtype = torch.float32) -> UnCLIPImageVariationPipeline:
    """Let diffusers open an image-variation folder; pictures are prepared with Pillow, as when it was published."""
    extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    return _opened(UnCLIPImageVariationPipeline, folder, dtype, feature_extractor=extractor)


def _opened(kind: Any, folder: Path, dtype: torch.dtype, **given: Any) -> Any:
    # Published folders name the module "unclip", which diffusers has moved without leaving an address.
    diffusers.pipelines.unclip = unclip
    # All these files draw through a name of their own. torch's double numbers are others than its single ones of the
    # same seed; whatever the nets compute in, the numbers compared are to be the single ones.
    for module in (pipeline_unclip, pipeline_unclip_image_variation, scheduling_unclip):
        module.randn_tensor = single_randn_tensor
    pipeline = kind.from_pretrained(folder, tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), **given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype)


def single_randn_tensor(shape: Any, generator: Any = None, device: Any = None, dtype: Any = None) -> Tensor:
    """diffusers' `randn_tensor`, drawing float32 whatever is asked for."""
    return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the oracle's largest number."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
