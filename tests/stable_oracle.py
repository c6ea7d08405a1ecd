"""Random tiny Stable unCLIP models in the published layouts, written and opened with diffusers' own classes.

As with `oracle`, the last layer of the denoiser is fitted to do its job a little. Schedules are the published ones.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    PNDMScheduler,
    StableUnCLIPImg2ImgPipeline,
    StableUnCLIPPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import pipeline_stable_unclip, pipeline_stable_unclip_img2img
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from oracle import (
    Shape,
    feature_extractor,
    fit,
    image_encoder,
    prior,
    random_net,
    single_randn_tensor,
    text_encoder,
    tokenizer_files,
)
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SHAPE = Shape(
    context=11,
    width=24,
    pad="!",
    text={"hidden_act": "quick_gelu", "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48},
    vision={"hidden_act": "gelu", "hidden_size": 32, "num_attention_heads": 4, "image_size": 28, "patch_size": 7},
    prior={"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2},
    text_proj={},
    decoder={},
    super_res={},
)
"""The parts that Stable unCLIP shares with Karlo: the image tower, and for words its whole prior."""

TEXT: dict[str, Any] = {
    "hidden_size": 20,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
}

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 2 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 2,
    "block_out_channels": [16, 32, 48],
    "layers_per_block": 1,
    "attention_head_dim": [2, 4, 3],
    "norm_num_groups": 8,
    "cross_attention_dim": TEXT["hidden_size"],
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 2 * SHAPE.width,
}

VAE: dict[str, Any] = {
    "block_out_channels": [16, 16, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": 64,
}

LATENT: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "prediction_type": "v_prediction",
}
SCHEDULERS: dict[str, Any] = {
    "pndm": lambda: PNDMScheduler(**LATENT, skip_prk_steps=True),
    "ddim": lambda: DDIMScheduler(**LATENT, clip_sample=False),
}
"""The two classes that the published folder may have; it is not known which."""


def text_states(vocab_size: int, seed: int = 1) -> CLIPTextModel:
    """A random text tower without a projection."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        max_position_embeddings=SHAPE.context,
        eos_token_id=2,
        bos_token_id=0,
        pad_token_id=1,
        **TEXT,
    )
    return random_net(lambda: CLIPTextModel(config), seed)


def unet(seed: int = 5) -> UNet2DConditionModel:
    """A random denoiser of latents."""
    return random_net(lambda: UNet2DConditionModel(**UNET), seed)


def vae(seed: int = 6) -> AutoencoderKL:
    """A random autoencoder."""
    return random_net(lambda: AutoencoderKL(**VAE), seed)


def normalizer(seed: int = 7) -> StableUnCLIPImageNormalizer:
    """Random statistics of embeddings."""
    net = StableUnCLIPImageNormalizer(embedding_dim=SHAPE.width)
    generator = torch.Generator().manual_seed(seed)
    net.mean.data = 0.2 * torch.randn(1, SHAPE.width, generator=generator)
    net.std.data = 0.5 + torch.rand(1, SHAPE.width, generator=generator)
    return net


def published_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a text tower by the names in published files; transformers 5 leaves out what they begin with."""
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}


@torch.no_grad()
def write(folder: Path, scheduler: str = "pndm", *, words: bool = False) -> Path:
    """Write a whole model for pictures, or one for words, with a prior instead of an image tower; return its folder."""
    vocab_size = tokenizer_files(folder / "tokenizer", SHAPE)
    net, schedule = unet(), SCHEDULERS[scheduler]()
    generator = torch.Generator().manual_seed(8)
    context = torch.randn(4, 5, TEXT["hidden_size"], generator=generator)
    seen = torch.randn(4, 2 * SHAPE.width, generator=generator)
    fit(net, schedule, lambda x, t: net(x, t, context, class_labels=seen), 8, 9, channels=4)
    parts: dict[str, Any] = {
        "image_normalizer": normalizer(),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "text_encoder": text_states(vocab_size),
        "unet": net,
        "scheduler": schedule,
        "vae": vae(),
    }
    if words:
        tokenizer_files(folder / "prior_tokenizer", SHAPE)
        parts |= {
            "prior_text_encoder": text_encoder(SHAPE, vocab_size),
            "prior": prior(SHAPE),
            "prior_scheduler": DDPMScheduler(
                beta_schedule="squaredcos_cap_v2",
                prediction_type="sample",
                clip_sample_range=5.0,
                variance_type="fixed_small_log",
            ),
        }
    else:
        parts |= {"image_encoder": image_encoder(SHAPE), "feature_extractor": feature_extractor(SHAPE)}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    states = parts["text_encoder"].state_dict()
    save_file(published_names(states), folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
    kinds = {
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "prior_tokenizer": ["transformers", "CLIPTokenizer"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "prior_text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "prior": ["diffusers", "PriorTransformer"],
        "prior_scheduler": ["diffusers", "DDPMScheduler"],
        "image_noising_scheduler": ["diffusers", "DDPMScheduler"],
        "image_normalizer": ["stable_diffusion", "StableUnCLIPImageNormalizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", type(schedule).__name__],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    index: dict[str, Any] = {path.name: kinds[path.name] for path in sorted(folder.iterdir())}
    index["_class_name"] = "StableUnCLIPPipeline" if words else "StableUnCLIPImg2ImgPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def open_variations(folder: Path, dtype: torch.dtype = torch.float32) -> StableUnCLIPImg2ImgPipeline:
    """Let diffusers open a model for pictures, which are prepared with Pillow, as when it was published."""
    extractor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    return _opened(StableUnCLIPImg2ImgPipeline, folder, dtype, feature_extractor=extractor)


def open_words(folder: Path, dtype: torch.dtype = torch.float32) -> StableUnCLIPPipeline:
    """Let diffusers open a model for words."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "prior_tokenizer")
    return _opened(StableUnCLIPPipeline, folder, dtype, prior_tokenizer=tokenizer)


def _opened(kind: Any, folder: Path, dtype: torch.dtype, **given: Any) -> Any:
    # torch's double numbers are others than its single ones of the same seed; those compared are the single ones.
    for module in (pipeline_stable_unclip, pipeline_stable_unclip_img2img, scheduling_ddim, scheduling_ddpm):
        module.randn_tensor = single_randn_tensor
    pipeline = kind.from_pretrained(folder, tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"), **given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype)
