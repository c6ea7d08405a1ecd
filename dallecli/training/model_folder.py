"""The parts of a model folder in the layout that diffusers publishes (see weights/folder.py), weights in float16."""

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save
from torch import nn

from dallecli.errors import BadOutput, NonFinite
from dallecli.nets.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from dallecli.nets.clip import MEAN, STD, ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.dvae import DvaeConfig, DvaeDecoder, DvaeEncoder
from dallecli.nets.gpt import Gpt, GptConfig
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.publish import publish
from dallecli.weights.folder import Folder
from dallecli.weights.load import load_net

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


TOKEN_INDEX: Final[dict[str, Any]] = {"_class_name": "Dalle1Pipeline"}
"""That of a model that writes codes, which no library takes."""

CONFIGS: Final[dict[str, Any]] = {
    "text_encoder": ClipTextConfig,
    "image_encoder": ClipVisionConfig,
    "prior": PriorConfig,
    "autoregressive_prior": AutoregressivePriorConfig,
    "text_proj": TextProjConfig,
    "decoder": UNetConfig,
    "Gpt": GptConfig,
    "DvaeEncoder": DvaeConfig,
    "DvaeDecoder": DvaeConfig,
}
"""The dataclass of each part's config, by the class that it states or else by the part; that of an upsampler is the
decoder's."""


def config_of(part: str, json: dict[str, Any]) -> Any:
    """Return the config of a part with weights as its dataclass. Raises ValueError."""
    return CONFIGS.get(json.get("_class_name", ""), CONFIGS.get(part, UNetConfig)).from_config(json)


def build_network(part: str, json: dict[str, Any]) -> nn.Module:
    """Return the network of a part from its config. Raises ValueError."""
    config = config_of(part, json)
    match config:
        case ClipTextConfig():
            return CLIPTextModel(config)
        case ClipVisionConfig():
            return CLIPVisionModel(config)
        case PriorConfig():
            return PriorTransformer(config)
        case AutoregressivePriorConfig():
            return AutoregressivePrior(config)
        case TextProjConfig():
            return UnCLIPTextProjModel(config)
        case GptConfig():
            return Gpt(config)
        case DvaeConfig():
            return DvaeEncoder(config) if config.init_channels is None else DvaeDecoder(config)
        case _:
            return UNet(config)


def read_network(folder: Folder, part: str, device: torch.device) -> nn.Module:
    """Return the network of a part, frozen, in float32.

    Raises:
        BadFolder, BadFile, LayoutMismatch: it is missing, damaged, or not what its config says.
    """
    json = folder.config(part)
    return load_net(lambda: build_network(part, json), folder.weights_file(part), torch.float32, device)


def write_network(folder: Path, part: str, net: nn.Module) -> None:
    """Write the weights of a part as one .safetensors file. Raises as `check_half` and `write_file`."""
    name = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
    check_half(part, net)
    half = {key: value.half().cpu().contiguous() for key, value in net.state_dict().items()}
    write_file(folder / part / f"{name}.safetensors", save(half, {"format": "pt"}))


def check_half(part: str, net: nn.Module) -> None:
    """Refuse weights that float16 does not hold.

    Raises:
        NonFinite: some are NaN, infinite, or become so.
    """
    for key, value in net.state_dict().items():
        if not bool(value.half().isfinite().all()):
            raise NonFinite(
                f"{key} of the {part} holds numbers that float16 cannot",
                where=part,
                hint="the part that was written before stays; begin its training again with a smaller rate",
            )


def write_config(folder: Path, part: str, config: dict[str, Any]) -> None:
    """Write the config of a part: of a network, a scheduler or the feature extractor."""
    names = {"scheduler": "scheduler_config", "extractor": "preprocessor_config"}
    name = names.get(part.rpartition("_")[2], "config")
    write_json(folder / part / f"{name}.json", config)


def write_tokenizer(folder: Path, tokenizer: Path) -> None:
    """Copy the files of a tokenizer."""
    for file in sorted(tokenizer.iterdir()):
        write_file(folder / "tokenizer" / file.name, file.read_bytes())


def feature_extractor(size: int) -> dict[str, Any]:
    """Return the config that says how a picture becomes the input of an image tower of `size` px."""
    return {
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
