"""Random tiny DeepFloyd IF models in the published layout, written and opened with diffusers' own classes.

As with `oracle`, the last layers of the UNets are fitted to do their job a little. Schedules are the published ones.
"""

from typing import Any

from diffusers import (
    UNet2DConditionModel,
)
from oracle import random_net

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
