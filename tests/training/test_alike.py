"""Data whose pictures are all alike are learned from without a number that is none."""

import torch

from dallecli.nets.clip import ClipVisionConfig, CLIPVisionModel
from dallecli.training.conditions import deviations
from dallecli.training.stages.clip import seed_patches


def test_no_deviation_is_zero():
    assert torch.equal(deviations(torch.ones(5, 8)), torch.full((8,), 1e-3))
    spread = torch.randn(100, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(deviations(spread), spread.std(dim=0))


def test_pictures_of_one_colour_leave_the_patches_as_they_are():
    config = ClipVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=8,
        patch_size=4,
        projection_dim=8,
    )
    net = CLIPVisionModel(config)
    before = net.vision_model.embeddings.patch_embedding.weight.clone()
    seed_patches(net, torch.full((6, 3, 8, 8), 255, dtype=torch.uint8))
    assert torch.equal(net.vision_model.embeddings.patch_embedding.weight, before)
