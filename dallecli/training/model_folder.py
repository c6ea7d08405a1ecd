"""Writing a model folder in the layout that diffusers publishes (see weights/folder.py), weights in float16."""

import json
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save
from torch import nn

from dallecli.errors import BadOutput
from dallecli.publish import publish
from dallecli.training.clip import MEAN, STD

INDEX: Final[dict[str, Any]] = {
    "_class_name": "UnCLIPPipeline",
    "decoder": ["diffusers", "UNet2DConditionModel"],
    "decoder_scheduler": ["diffusers", "UnCLIPScheduler"],
    "prior": ["diffusers", "PriorTransformer"],
    "prior_scheduler": ["diffusers", "UnCLIPScheduler"],
    "super_res_first": ["diffusers", "UNet2DModel"],
    "super_res_last": ["diffusers", "UNet2DModel"],
    "super_res_scheduler": ["diffusers", "UnCLIPScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_proj": ["unclip", "UnCLIPTextProjModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
"""`model_index.json`: the parts that diffusers' UnCLIPPipeline takes."""


def write_network(folder: Path, part: str, config: dict[str, Any], net: nn.Module) -> None:
    """Write a part with weights: its `config.json` and one .safetensors file."""
    name = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
    half = {key: value.half().cpu().contiguous() for key, value in net.state_dict().items()}
    write_json(folder / part / "config.json", config)
    write_file(folder / part / f"{name}.safetensors", save(half, {"format": "pt"}))


def write_scheduler(folder: Path, part: str, config: dict[str, Any]) -> None:
    """Write the schedule of a stage."""
    write_json(folder / part / "scheduler_config.json", config)


def write_tokenizer(folder: Path, tokenizer: Path) -> None:
    """Copy the files of a tokenizer."""
    for file in sorted(tokenizer.iterdir()):
        write_file(folder / "tokenizer" / file.name, file.read_bytes())


def write_feature_extractor(folder: Path, size: int) -> None:
    """Write how a picture becomes the input of an image tower of `size` px."""
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_convert_rgb": True,
    }
    write_json(folder / "feature_extractor" / "preprocessor_config.json", config)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all; folders on the way are made."""
    write_file(path, (json.dumps(content, indent=2) + "\n").encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; folders on the way are made. Raises BadOutput or DiskFull."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise BadOutput(f"no folder can be made here: {problem.strerror}", where=str(path.parent)) from problem
    publish(path, data, force=True)
