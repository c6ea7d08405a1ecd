"""A folder in Karlo's layout that is right in every file and far too small to paint."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

NETWORKS = {
    "text_encoder": "model.safetensors",
    "prior": "diffusion_pytorch_model.safetensors",
    "text_proj": "diffusion_pytorch_model.safetensors",
    "decoder": "diffusion_pytorch_model.safetensors",
    "super_res_first": "diffusion_pytorch_model.safetensors",
    "super_res_last": "diffusion_pytorch_model.safetensors",
}
SECOND = ("super_res_2_first", "super_res_2_last")
SIDES = {"decoder": 16, "super_res_first": 64, "super_res_last": 64, "super_res_2_first": 256, "super_res_2_last": 256}


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_model(folder: Path, second: bool = False) -> Path:
    """Write the folder: one tensor of six numbers a network, with `second` a second upsampler."""
    write_json(
        folder / "model_index.json", {"_class_name": "UnCLIPPipeline", "prior": ["diffusers", "PriorTransformer"]}
    )
    schedulers = ["prior_scheduler", "decoder_scheduler", "super_res_scheduler"]
    networks = dict(NETWORKS)
    if second:
        networks |= dict.fromkeys(SECOND, "diffusion_pytorch_model.safetensors")
        schedulers.append("super_res_2_scheduler")
    for part, name in networks.items():
        write_json(
            folder / part / "config.json",
            {"sample_size": SIDES[part], "block_out_channels": [8, 16]} if part in SIDES else {"num_layers": 2},
        )
        save_file({"weight": torch.arange(6.0).reshape(2, 3)}, folder / part / name)
    for part in schedulers:
        write_json(folder / part / "scheduler_config.json", {"_class_name": "UnCLIPScheduler"})
    write_json(folder / "tokenizer" / "vocab.json", {"a": 0})
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    return folder
