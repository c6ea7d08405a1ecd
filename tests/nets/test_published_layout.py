"""At full size, on the meta device, each net has exactly the tensors of the published files.

`published_keys/` lists config, keys, shapes and parameter counts of diffusers' and transformers' classes. There is no
file for Karlo's super_res_last, which is laid out as super_res_first, nor for Kandinsky's inpainting UNet, which has
five more channels at its entrance, nor for the image tower of the smaller Stable unCLIP, which is Karlo's.
"""

import json
from pathlib import Path

import pytest
import torch

from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, CLIPTextStates, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.dalle_bart import DalleBartConfig, DalleBartDecoder, DalleBartEncoder
from dallecli.nets.movq import Movq, MovqConfig
from dallecli.nets.normalizer import ImageNormalizer, NormalizerConfig
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.t5 import T5Config, T5Encoder
from dallecli.nets.text_proj import TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.transformer_unet import TransformerUNet, TransformerUNetConfig
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.nets.vae import Vae, VaeConfig

NETS = {
    "text_encoder": (CLIPTextModel, ClipTextConfig),
    "image_encoder": (CLIPVisionModel, ClipVisionConfig),
    "prior": (PriorTransformer, PriorConfig),
    "text_proj": (UnCLIPTextProjModel, TextProjConfig),
    "decoder": (UNet, UNetConfig),
    "super_res_first": (UNet, UNetConfig),
    "kandinsky_text_encoder": (CLIPTextModel, ClipTextConfig),
    "kandinsky_image_encoder": (CLIPVisionModel, ClipVisionConfig),
    "kandinsky_prior": (PriorTransformer, PriorConfig),
    "kandinsky_unet": (UNet, UNetConfig),
    "kandinsky_movq": (Movq, MovqConfig),
    "stable_text_encoder": (CLIPTextStates, ClipTextConfig),
    "stable_image_encoder": (CLIPVisionModel, ClipVisionConfig),
    "stable_image_normalizer": (ImageNormalizer, NormalizerConfig),
    "stable_unet": (TransformerUNet, TransformerUNetConfig),
    "stable_vae": (Vae, VaeConfig),
    "stable_small_image_normalizer": (ImageNormalizer, NormalizerConfig),
    "stable_small_unet": (TransformerUNet, TransformerUNetConfig),
    "if_text_encoder": (T5Encoder, T5Config),
    "dalle_mini_encoder": (DalleBartEncoder, DalleBartConfig),
    "dalle_mini_decoder": (DalleBartDecoder, DalleBartConfig),
    "dalle_mega_encoder": (DalleBartEncoder, DalleBartConfig),
    "dalle_mega_decoder": (DalleBartDecoder, DalleBartConfig),
}


@pytest.mark.parametrize("part", NETS)
def test_full_size_nets_have_the_published_tensors(part):
    published = json.loads((Path(__file__).parent / "published_keys" / f"{part}.json").read_text())
    build, config = NETS[part]
    with torch.device("meta"):
        net = build(config.from_config(published["config"]))
    assert {key: list(tensor.shape) for key, tensor in net.state_dict().items()} == published["state_dict"]
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == published["num_parameters"]


def test_kandinskys_inpainting_net_also_takes_the_known_latents_and_where_they_are():
    published = json.loads((Path(__file__).parent / "published_keys" / "kandinsky_unet.json").read_text())
    with torch.device("meta"):
        net = UNet(UNetConfig.from_config(published["config"] | {"in_channels": 9}))
    shapes = {key: list(tensor.shape) for key, tensor in net.state_dict().items()}
    assert shapes == published["state_dict"] | {"conv_in.weight": [384, 9, 3, 3]}
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == 1_253_074_568
