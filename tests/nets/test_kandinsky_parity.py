"""Kandinsky's own nets against the classes they were published with, on the same random weights.

The bound and its reason are those of `test_parity`.
"""

import kandinsky_oracle as oracle
import pytest
import torch
from oracle import difference
from torch import Tensor

from dallecli.nets.movq import Movq, MovqConfig
from dallecli.nets.unet import UNet, UNetConfig

TOLERANCE = 1e-5
PICTURES = 3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 8)])
def test_the_decoder_reads_an_image_embedding(channels, height, width):
    theirs = oracle.unet(channels)
    ours = UNet(UNetConfig.from_config(dict(theirs.config))).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, embedding = random(PICTURES, channels, height, width), random(PICTURES, oracle.SHAPE.width, seed=1)
    condition = ours.condition(embedding)
    for t in (torch.tensor(961), torch.tensor([1, 417, 999])):
        truth = theirs(x, t, None, added_cond_kwargs={"image_embeds": embedding}).sample
        assert difference(ours(x, t, condition.context, condition.time), truth) < TOLERANCE


@torch.no_grad()
def test_the_autoencoder_goes_both_ways_without_its_codebook():
    theirs = oracle.movq()
    ours = Movq(MovqConfig.from_config(dict(theirs.config))).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    pixels = random(PICTURES, 3, 64, 32).tanh()
    latent = ours.encode(pixels)
    assert latent.shape == (PICTURES, 4, 8, 4)
    assert difference(latent, theirs.encode(pixels).latents) < TOLERANCE
    truth = theirs.decode(latent, force_not_quantize=True).sample
    assert difference(ours.decode(latent), truth) < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"norm_type": "group"},
        {"vq_embed_dim": 8},
        {"lookup_from_codebook": True},
        {"block_out_channels": [32, 48, 32, 64]},
        {"down_block_types": ["DownEncoderBlock2D"]},
    ],
)
def test_another_autoencoder_is_refused_by_the_name_of_what_differs(change):
    with pytest.raises(ValueError, match=r"norm_type|vq_embed_dim|lookup_from_codebook|channels|down_block_types"):
        MovqConfig.from_config(oracle.MOVQ | change)


def test_a_net_of_another_kind_projects_no_embeddings():
    with pytest.raises(ValueError, match="encoder_hid_dim is missing"):
        UNetConfig.from_config(oracle.UNET | {"encoder_hid_dim": None, "in_channels": 4})
    with pytest.raises(ValueError, match="encoder_hid_dim_type"):
        UNetConfig.from_config(oracle.UNET | {"encoder_hid_dim_type": "text_proj", "in_channels": 4})
