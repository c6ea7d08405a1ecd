"""A preset: the sizes of the four networks and how long each is trained, from `presets.toml`."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from dallecli.errors import BadSetting
from dallecli.training.loop import Optimisation

PREDICTS_PICTURE = {"_class_name": "UnCLIPScheduler", "num_train_timesteps": 1000, "prediction_type": "sample",
                    "clip_sample": True}  # fmt: skip
SCHEDULERS: dict[str, dict[str, Any]] = {
    "prior": {**PREDICTS_PICTURE, "variance_type": "fixed_small_log", "clip_sample_range": 5.0},
    "decoder": {**PREDICTS_PICTURE, "variance_type": "learned_range", "clip_sample_range": 1.0},
    "super_res": {**PREDICTS_PICTURE, "variance_type": "fixed_small_log", "clip_sample_range": 1.0},
}
"""The `scheduler_config.json` of each stage; all predict the clean sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A stage's budget in seconds of training, and its optimiser."""

    seconds: float
    how: Optimisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is trained. The configs are those of the folder that comes out, one a part, complete."""

    name: str
    context: int
    pool: int
    """Scenes of the main pool; `large_pool` is that of the last upsampler, whose pictures are sixteen times larger."""
    large_pool: int
    text_encoder: dict[str, Any]
    image_encoder: dict[str, Any]
    prior: dict[str, Any]
    text_proj: dict[str, Any]
    decoder: dict[str, Any]
    upsamplers: tuple[dict[str, Any], ...]
    runs: dict[str, Training]


def load_preset(name: str) -> Preset:
    """Read a preset of `presets.toml`.

    Raises:
        BadSetting: there is no preset of that name.
    """
    table = tomllib.loads((files("dallecli.training") / "presets.toml").read_text(encoding="utf-8"))
    if name not in table:
        raise BadSetting(f"there is no training preset {name!r}", hint=f"choose one of {', '.join(table)}")
    raw = table[name]
    text = {"_class_name": "CLIPTextModelWithProjection", "model_type": "clip_text_model",
            "architectures": ["CLIPTextModelWithProjection"], "max_position_embeddings": raw["context"],
            "layer_norm_eps": 1e-5, **raw["text_encoder"]}  # fmt: skip
    vision = {"_class_name": "CLIPVisionModelWithProjection", "model_type": "clip_vision_model",
              "architectures": ["CLIPVisionModelWithProjection"], "layer_norm_eps": 1e-5,
              **raw["image_encoder"]}  # fmt: skip
    decoder = _decoder(raw["decoder"])
    text_proj = {
        "_class_name": "UnCLIPTextProjModel",
        "clip_extra_context_tokens": 4,
        "clip_embeddings_dim": raw["text_encoder"]["projection_dim"],
        "time_embed_dim": decoder["time_embedding_dim"],
        "cross_attention_dim": decoder["cross_attention_dim"],
    }
    runs = {}
    for stage, run in raw["runs"].items():
        how = {key: value for key, value in run.items() if key != "seconds"}
        runs[stage] = Training(seconds=run["seconds"], how=Optimisation(**how))
    return Preset(
        name=name,
        context=raw["context"],
        pool=raw["pool"],
        large_pool=raw["large_pool"],
        text_encoder=text,
        image_encoder=vision,
        prior={"_class_name": "PriorTransformer", **raw["prior"]},
        text_proj=text_proj,
        decoder=decoder,
        upsamplers=tuple(_upsampler(one) for one in raw["upsamplers"]),
        runs=runs,
    )


def _decoder(raw: dict[str, Any]) -> dict[str, Any]:
    attends = raw["attention"]
    config = {key: value for key, value in raw.items() if key != "attention"}
    down = ["SimpleCrossAttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends]
    up = ["SimpleCrossAttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attends)]
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": 3,
        "out_channels": 6,
        "down_block_types": down,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": up,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
        **config,
    }


def _upsampler(raw: dict[str, Any]) -> dict[str, Any]:
    levels = len(raw["block_out_channels"])
    return {
        "_class_name": "UNet2DModel",
        "in_channels": 6,
        "out_channels": 3,
        "down_block_types": ["ResnetDownsampleBlock2D"] * levels,
        "up_block_types": ["ResnetUpsampleBlock2D"] * levels,
        "add_attention": False,
        **raw,
    }
