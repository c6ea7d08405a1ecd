"""Stable unCLIP's own nets against the classes they were published with, on the same random weights.

The bound and its reason are those of `test_parity`.
"""

import pytest
import stable_oracle as oracle
import torch
from oracle import difference
from torch import Tensor

from dallecli.nets.clip import ClipTextConfig, CLIPTextStates
from dallecli.nets.normalizer import ImageNormalizer, NormalizerConfig
from dallecli.nets.transformer_unet import TransformerUNet, TransformerUNetConfig
from dallecli.nets.vae import Vae, VaeConfig

TOLERANCE = 1e-5
PICTURES = 3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 4)])
def test_the_denoiser_reads_text_and_a_picture(height, width):
    theirs = oracle.unet()
    ours = TransformerUNet(TransformerUNetConfig.from_config(dict(theirs.config))).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, context = random(PICTURES, 4, height, width), random(PICTURES, 7, oracle.TEXT["hidden_size"], seed=1)
    picture = random(PICTURES, 2 * oracle.SHAPE.width, seed=2)
    for t in (torch.tensor(951), torch.tensor([1, 417, 999])):
        truth = theirs(x, t, context, class_labels=picture).sample
        assert difference(ours(x, t, context, picture), truth) < TOLERANCE


@torch.no_grad()
def test_the_autoencoder_goes_both_ways():
    theirs = oracle.vae()
    ours = Vae(VaeConfig.from_config(dict(theirs.config))).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    pixels = random(PICTURES, 3, 64, 32).tanh()
    latent = ours.encode(pixels)
    assert latent.shape == (PICTURES, 4, 8, 4)
    assert difference(latent, theirs.encode(pixels).latent_dist.mode() * 0.18215) < TOLERANCE
    assert difference(ours.decode(latent), theirs.decode(latent / 0.18215).sample) < TOLERANCE


@torch.no_grad()
def test_the_statistics_go_both_ways():
    theirs = oracle.normalizer()
    ours = ImageNormalizer(NormalizerConfig.from_config(dict(theirs.config)))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    embedding = random(PICTURES, oracle.SHAPE.width)
    assert torch.equal(ours.scale(embedding), theirs.scale(embedding))
    assert torch.equal(ours.unscale(embedding), theirs.unscale(embedding))


@torch.no_grad()
def test_the_text_tower_without_a_projection():
    theirs = oracle.text_states(60)
    ours = CLIPTextStates(ClipTextConfig.from_config(theirs.config.to_dict())).eval()
    ours.load_state_dict(oracle.published_names(theirs.state_dict()), strict=True)
    ids = torch.randint(0, 60, (PICTURES, oracle.SHAPE.context), generator=torch.Generator().manual_seed(3))
    assert difference(ours(ids), theirs(ids).last_hidden_state) < TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {"class_embed_type": None},
        {"projection_class_embeddings_input_dim": None},
        {"use_linear_projection": False},
        {"attention_head_dim": [2, 4]},
        {"attention_head_dim": 5},
        {"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 3},
        {"dual_cross_attention": True},
        {"norm_num_groups": 0},
    ],
    ids=str,
)
def test_another_denoiser_is_refused_by_the_name_of_what_differs(change):
    named = {"attention_head_dim": "heads|attention_head_dim", "class_embed_type": "class_embed_type"}
    with pytest.raises(ValueError, match=named.get(next(iter(change)), next(iter(change)))):
        TransformerUNetConfig.from_config(oracle.UNET | change)


@pytest.mark.parametrize(
    "change",
    [
        {"use_quant_conv": False},
        {"latents_mean": [0.0, 0.0, 0.0, 0.0]},
        {"shift_factor": 0.1},
        {"scaling_factor": 0},
        {"up_block_types": ["AttnUpDecoderBlock2D"] * 4},
        {"block_out_channels": [16, 16, 32, 30]},
    ],
    ids=str,
)
def test_another_autoencoder_is_refused_by_the_name_of_what_differs(change):
    named = {"block_out_channels": "norm_num_groups"}
    with pytest.raises(ValueError, match=named.get(next(iter(change)), next(iter(change)))):
        VaeConfig.from_config(oracle.VAE | change)
