"""Random tiny Kandinsky 2.2 models in the published layout, written and opened with diffusers' own classes.

As with `oracle`, the last layer of each denoiser is fitted to do its job a little. Schedules are the published ones.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    KandinskyV22Img2ImgPipeline,
    KandinskyV22InpaintPipeline,
    KandinskyV22Pipeline,
    KandinskyV22PriorPipeline,
    UnCLIPScheduler,
    UNet2DConditionModel,
    VQModel,
)
from diffusers.pipelines.kandinsky2_2 import (
    pipeline_kandinsky2_2,
    pipeline_kandinsky2_2_img2img,
    pipeline_kandinsky2_2_inpainting,
    pipeline_kandinsky2_2_prior,
)
from diffusers.schedulers import scheduling_ddpm, scheduling_unclip
from oracle import Shape, fit, image_encoder, prior, random_net, single_randn_tensor, text_encoder, tokenizer_files
from transformers import CLIPImageProcessorPil, CLIPTokenizer

SHAPE = Shape(
    context=11,
    width=24,
    pad="<|endoftext|>",
    text={"hidden_act": "gelu", "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48},
    vision={"hidden_act": "gelu", "hidden_size": 26, "num_attention_heads": 2, "image_size": 28, "patch_size": 7},
    prior={"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2},
    text_proj={},
    decoder={},
    super_res={},
)
"""The parts that Kandinsky shares with Karlo."""

UNET: dict[str, Any] = {
    "sample_size": 8,
    "out_channels": 8,
    "down_block_types": ["ResnetDownsampleBlock2D"] + ["SimpleCrossAttnDownBlock2D"] * 3,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"],
    "block_out_channels": [16, 16, 32, 48],
    "layers_per_block": 1,
    "attention_head_dim": 16,
    "norm_num_groups": 8,
    "cross_attention_dim": 20,
    "encoder_hid_dim": SHAPE.width,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
    "addition_embed_type_num_heads": 64,
    "resnet_time_scale_shift": "scale_shift",
}

MOVQ: dict[str, Any] = {
    "block_out_channels": [32, 32, 32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 3 + ["AttnDownEncoderBlock2D"],
    "up_block_types": ["AttnUpDecoderBlock2D"] + ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "latent_channels": 4,
    "vq_embed_dim": 4,
    "num_vq_embeddings": 16,
    "norm_num_groups": 16,
    "norm_type": "spatial",
}

DDPM: dict[str, Any] = {"beta_schedule": "linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def unet(in_channels: int, seed: int = 5) -> UNet2DConditionModel:
    """A random decoder of latents."""
    return random_net(lambda: UNet2DConditionModel(**UNET, in_channels=in_channels), seed)


def movq(seed: int = 6) -> VQModel:
    """A random autoencoder."""
    return random_net(lambda: VQModel(**MOVQ), seed)


@torch.no_grad()
def write(folder: Path) -> Path:
    """Write the three repositories of a whole model side by side; return their folder."""
    vocab_size = tokenizer_files(folder / "kandinsky-2-2-prior" / "tokenizer", SHAPE)
    parts: dict[str, dict[str, Any]] = {
        "kandinsky-2-2-prior": {
            "text_encoder": text_encoder(SHAPE, vocab_size),
            "image_encoder": image_encoder(SHAPE),
            "prior": prior(SHAPE),
            "scheduler": UnCLIPScheduler(prediction_type="sample", clip_sample_range=10.0),
        }
    }
    for name, channels, clips in (("decoder", 4, True), ("decoder-inpaint", 9, False)):
        scheduler = DDPMScheduler(**DDPM, clip_sample=clips)
        net = unet(channels)
        generator = torch.Generator().manual_seed(8)
        seen = {"image_embeds": torch.randn(4, SHAPE.width, generator=generator)}
        known = torch.rand(4, channels - 4, 8, 8, generator=generator)

        def run(x: Any, t: Any, net: Any = net, known: Any = known, seen: Any = seen) -> None:
            net(torch.cat([x, known], dim=1), t, None, added_cond_kwargs=seen)

        fit(net, scheduler, run, 8, 9, channels=4)
        parts[f"kandinsky-2-2-{name}"] = {"unet": net, "movq": movq(), "scheduler": scheduler}
    for repository, own in parts.items():
        for name, part in own.items():
            part.save_pretrained(folder / repository / name)
    # Written by hand, because the published file has sizes as bare numbers, which transformers no longer writes.
    side = SHAPE.vision["image_size"]
    (folder / "kandinsky-2-2-prior" / "image_processor").mkdir()
    (folder / "kandinsky-2-2-prior" / "image_processor" / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "crop_size": side,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor",
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
                "resample": 3,
                "size": side,
            }
        )
    )
    kinds = {
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "image_processor": ["transformers", "CLIPImageProcessor"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "prior": ["diffusers", "PriorTransformer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "movq": ["diffusers", "VQModel"],
    }
    for repository, pipeline, scheduler in (
        ("prior", "KandinskyV22PriorPipeline", "UnCLIPScheduler"),
        ("decoder", "KandinskyV22Pipeline", "DDPMScheduler"),
        ("decoder-inpaint", "KandinskyV22InpaintPipeline", "DDPMScheduler"),
    ):
        place = folder / f"kandinsky-2-2-{repository}"
        index = {name.name: kinds.get(name.name, ["diffusers", scheduler]) for name in sorted(place.iterdir())}
        (place / "model_index.json").write_text(json.dumps(index | {"_class_name": pipeline}))
    return folder


def open_prior(folder: Path, dtype: torch.dtype = torch.float32) -> KandinskyV22PriorPipeline:
    """Let diffusers open the prior; pictures are prepared with Pillow, as when it was published."""
    place = folder / "kandinsky-2-2-prior"
    given = {
        "tokenizer": CLIPTokenizer.from_pretrained(place / "tokenizer"),
        "image_processor": CLIPImageProcessorPil.from_pretrained(place / "image_processor"),
    }
    return _opened(KandinskyV22PriorPipeline, place, dtype, **given)


def open_decoder(folder: Path, dtype: torch.dtype = torch.float32) -> KandinskyV22Pipeline:
    """Let diffusers open the decoder."""
    return _opened(KandinskyV22Pipeline, folder / "kandinsky-2-2-decoder", dtype)


def open_img2img(folder: Path, dtype: torch.dtype = torch.float32) -> KandinskyV22Img2ImgPipeline:
    """Let diffusers open the decoder as one that starts from a picture."""
    return _opened(KandinskyV22Img2ImgPipeline, folder / "kandinsky-2-2-decoder", dtype)


def open_inpaint(folder: Path, dtype: torch.dtype = torch.float32) -> KandinskyV22InpaintPipeline:
    """Let diffusers open the inpainting decoder."""
    return _opened(KandinskyV22InpaintPipeline, folder / "kandinsky-2-2-decoder-inpaint", dtype)


def _opened(kind: Any, folder: Path, dtype: torch.dtype, **given: Any) -> Any:
    # torch's double numbers are others than its single ones of the same seed; those compared are the single ones.
    for module in (
        pipeline_kandinsky2_2,
        pipeline_kandinsky2_2_img2img,
        pipeline_kandinsky2_2_inpainting,
        pipeline_kandinsky2_2_prior,
        scheduling_ddpm,
        scheduling_unclip,
    ):
        module.randn_tensor = single_randn_tensor
    pipeline = kind.from_pretrained(folder, **given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(dtype)
