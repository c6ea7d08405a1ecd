"""Random tiny DeepFloyd IF models in the published layout, written and opened with diffusers' own classes.

As with `oracle`, the last layers of the UNets are fitted to do their job a little. Schedules are the published ones.
"""

from pathlib import Path
from typing import Any

import t5_oracle
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, IFPipeline, IFSuperResolutionPipeline, UNet2DConditionModel
from diffusers.pipelines.deepfloyd_if import (
    pipeline_if,
    pipeline_if_img2img,
    pipeline_if_img2img_superresolution,
    pipeline_if_inpainting,
    pipeline_if_inpainting_superresolution,
    pipeline_if_superresolution,
)
from diffusers.schedulers import scheduling_ddpm
from oracle import fit, random_net, single_randn_tensor
from torch import Tensor
from transformers import T5EncoderModel, T5Tokenizer

TEXT = 32
"""The width of the text's states."""

SMALL: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 6,
    "down_block_types": ["ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "block_out_channels": [32, 64],
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "encoder_hid_dim": TEXT,
    "attention_head_dim": 32,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
}
"""Stage I."""

LARGE: dict[str, Any] = SMALL | {
    "sample_size": 32,
    "in_channels": 6,
    "layers_per_block": [1, 2],
    "class_embed_type": "timestep",
    "time_embedding_dim": 64,
    "time_embedding_act_fn": "gelu",
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1 / 0.7071,
    "mid_block_scale_factor": 1 / 0.7071,
}
"""Stage II."""

MAIN: dict[str, Any] = {
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "timestep_spacing": "leading",
    "steps_offset": 0,
}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "scheduler": MAIN | {"sample_max_value": 1.5},
    "super_res/scheduler": MAIN | {"sample_max_value": 1.0},
    "super_res/image_noising_scheduler": {"beta_schedule": "squaredcos_cap_v2"},
}


def unet(config: dict[str, Any], seed: int = 5) -> UNet2DConditionModel:
    """A random UNet of either stage."""
    return random_net(lambda: UNet2DConditionModel(**config), seed)


def calm(net: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same with weak branches: guidance 7 makes a chain of strong random ones chaotic, and all rounding visible."""
    for name, weight in net.named_parameters():
        if ".conv2." in name or ".to_out." in name:
            weight *= 0.1
    return net


def scheduler(place: str) -> DDPMScheduler:
    """One of the published schedules."""
    return DDPMScheduler(**SCHEDULERS[place])


@torch.no_grad()
def write(folder: Path, *, enlarges: bool = True) -> Path:
    """Write a whole model, or its first stage alone; return its folder."""
    small, schedule = calm(unet(SMALL)), scheduler("scheduler")
    generator = torch.Generator().manual_seed(8)
    states = torch.randn(4, 7, TEXT, generator=generator)
    fit(small, schedule, lambda x, t: small(x, t, states), SMALL["sample_size"], 9)
    pipeline = IFPipeline(
        tokenizer=t5_oracle.tokenizer(),
        text_encoder=t5_oracle.text_encoder(),
        unet=small,
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    if enlarges:
        _write_enlarging(folder / "super_res", states)
    return folder


def _write_enlarging(folder: Path, states: Tensor) -> None:
    large, schedule, side = calm(unet(LARGE, 6)), scheduler("super_res/scheduler"), LARGE["sample_size"]
    low = F.interpolate(torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(9)), size=side)
    level = torch.full((4,), 250)
    fit(large, schedule, lambda x, t: large(torch.cat([x, low], dim=1), t, states, class_labels=level), side, 10)
    large.save_pretrained(folder / "unet")
    schedule.save_pretrained(folder / "scheduler")
    scheduler("super_res/image_noising_scheduler").save_pretrained(folder / "image_noising_scheduler")


def open_pipelines(folder: Path, way: str = "", dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Let diffusers open both stages, for words, or for another `way` of the six: "Img2Img" or "Inpainting"."""
    # torch's double numbers are others than its single ones of the same seed; those compared are the single ones.
    modules: list[Any] = [
        pipeline_if,
        pipeline_if_superresolution,
        pipeline_if_img2img,
        pipeline_if_img2img_superresolution,
        pipeline_if_inpainting,
        pipeline_if_inpainting_superresolution,
        scheduling_ddpm,
    ]
    for module in modules:
        module.randn_tensor = single_randn_tensor
    shared: dict[str, Any] = {
        "tokenizer": T5Tokenizer.from_pretrained(folder / "tokenizer"),
        "text_encoder": T5EncoderModel.from_pretrained(folder / "text_encoder"),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }
    kinds = {"": (IFPipeline, IFSuperResolutionPipeline)} | {
        "Img2Img": (pipeline_if_img2img.IFImg2ImgPipeline, modules[3].IFImg2ImgSuperResolutionPipeline),
        "Inpainting": (pipeline_if_inpainting.IFInpaintingPipeline, modules[5].IFInpaintingSuperResolutionPipeline),
    }
    kind, larger = kinds[way]
    opened = []
    for build, place in ((kind, folder), (larger, folder / "super_res")):
        parts = shared | {
            "unet": UNet2DConditionModel.from_pretrained(place / "unet"),
            "scheduler": DDPMScheduler.from_pretrained(place / "scheduler"),
        }
        if build is larger:
            parts["image_noising_scheduler"] = DDPMScheduler.from_pretrained(place / "image_noising_scheduler")
        pipeline: Any = build(**parts)
        pipeline.set_progress_bar_config(disable=True)
        opened.append(pipeline.to(dtype))
    return opened[0], opened[1]
