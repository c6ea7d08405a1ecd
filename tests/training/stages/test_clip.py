"""CLIP begins with what its pictures say alone."""

import pytest
import torch
from torch import Tensor

from dallecli.nets.clip import ClipTextConfig, ClipVisionConfig
from dallecli.training.stages.clip import ClipTowers, fit_reader, seed, seed_patches
from dallecli.training.states import normalised

WIDTH, COUNT = 48, 2000


def towers(patch: int) -> ClipTowers:
    """Fresh towers that see 8 px in patches of so many."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
    text = ClipTextConfig(**shape, vocab_size=20, max_position_embeddings=8, projection_dim=WIDTH)
    return ClipTowers(text, ClipVisionConfig(**shape, image_size=8, patch_size=patch, projection_dim=WIDTH))


def drawn(count: int, generator: torch.Generator) -> Tensor:
    """Pictures [n 3 8 8] that differ in some ways much and in others little."""
    ways = torch.linalg.qr(torch.randn(192, 192, generator=torch.Generator().manual_seed(7)))[0]
    strengths = 60 / torch.arange(1, 193) ** 0.7
    flat = 128 + (torch.randn(count, 192, generator=generator) * strengths) @ ways
    return flat.clamp(0, 255).to(torch.uint8).view(count, 3, 8, 8)


@torch.no_grad()
def unread(of: ClipTowers, pictures: Tensor) -> float:
    """The error of reading pictures from their embeddings."""
    read = of.reader(of.image_encoder(normalised(pictures)))
    return float((read - (pictures.flatten(1).float() / 127.5 - 1)).square().mean())


@torch.no_grad()
def least(fitted: Tensor, pictures: Tensor) -> float:
    """The error of as many principal components as an embedding has numbers: nothing linear reads more."""
    mean = fitted.flatten(1).float().mean(dim=0)
    known = torch.linalg.svd(fitted.flatten(1).float() - mean, full_matrices=False).Vh[:WIDTH]
    flat = pictures.flatten(1).float() - mean
    return float(((flat - flat @ known.T @ known) / 127.5).square().mean())


def test_a_tower_of_one_patch_begins_as_readable_as_principal_components_are():
    generator = torch.Generator().manual_seed(0)
    fitted, held_out = drawn(COUNT, generator), drawn(500, generator)
    torch.manual_seed(1)
    begun, fresh = towers(8), towers(8)
    seed(begun, fitted)
    with torch.no_grad():
        seed_patches(fresh.image_encoder, fitted)
        fit_reader(fresh, fitted)
    floor = least(fitted, held_out)
    # Two of the 48 numbers are the norms': their mean, and the constant beside the picture.
    assert unread(begun, held_out) < 1.25 * floor
    assert unread(fresh, held_out) > 2 * floor  # or there would be nothing to gain
    embeddings = begun.image_encoder(normalised(held_out)).detach()
    assert embeddings.std().item() == pytest.approx(1, abs=0.1)
    assert embeddings.mean(dim=0).abs().max() < 0.2


def test_a_tower_of_several_patches_begins_with_their_components_alone():
    pictures = drawn(COUNT, torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    begun = towers(4)
    other = towers(4)
    other.load_state_dict(begun.state_dict())
    seed(begun, pictures)
    changed = [name for name, value in begun.state_dict().items() if not torch.equal(value, other.state_dict()[name])]
    assert changed == ["image_encoder.vision_model.embeddings.patch_embedding.weight"]


def test_pictures_that_are_all_alike_leave_a_tower_as_it_is():
    torch.manual_seed(1)
    begun = towers(8)
    before = {name: value.clone() for name, value in begun.state_dict().items()}
    seed(begun, torch.full((6, 3, 8, 8), 200, dtype=torch.uint8))
    assert all(torch.equal(value, before[name]) for name, value in begun.state_dict().items())


@pytest.mark.parametrize("count", [2, 20])
def test_few_pictures_give_a_tower_of_finite_numbers(count: int):
    torch.manual_seed(1)
    begun = towers(8)
    seed(begun, drawn(count, torch.Generator().manual_seed(0)))
    assert all(bool(value.isfinite().all()) for value in begun.state_dict().values())
