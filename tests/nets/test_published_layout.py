"""At full size, on the meta device, each net has exactly the tensors of the published Karlo files.

`published_keys/` lists config, keys, shapes and parameter counts of diffusers' and transformers' classes. There is no
file for super_res_last, which is laid out as super_res_first.
"""

import json
from pathlib import Path

import pytest
import torch

from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig

NETS = {
    "text_encoder": (CLIPTextModel, ClipTextConfig),
    "image_encoder": (CLIPVisionModel, ClipVisionConfig),
    "prior": (PriorTransformer, PriorConfig),
    "text_proj": (UnCLIPTextProjModel, TextProjConfig),
    "decoder": (UNet, UNetConfig),
    "super_res_first": (UNet, UNetConfig),
}


@pytest.mark.parametrize("part", NETS)
def test_full_size_nets_have_the_published_tensors(part):
    published = json.loads((Path(__file__).parent / "published_keys" / f"{part}.json").read_text())
    build, config = NETS[part]
    with torch.device("meta"):
        net = build(config.from_config(published["config"]))
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == published["state_dict"]
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == published["num_parameters"]
