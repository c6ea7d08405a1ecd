"""What is done to small pictures before an upsampler learns from them."""

import math

import pytest
import torch

from dallecli.training.batch import Draw
from dallecli.training.corruption import added_noise, blurred, bsr, paper_blur
from dallecli.training.stages.upsampler import UpsamplerLesson

CPU = torch.device("cpu")


def pictures(count: int = 4) -> torch.Tensor:
    return torch.rand((count, 3, 16, 16), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_point_is_blurred_into_the_gaussian_kernel() -> None:
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 1
    seen = blurred(point, torch.full((1, 1, 1, 1), 0.6))[0, 0]
    side = math.exp(-1 / (2 * 0.6**2))
    row = torch.tensor([0, side, 1, side, 0]) / (1 + 2 * side)
    assert torch.allclose(seen, row[:, None] * row[None])


def test_a_blur_of_nothing_changes_nothing_and_no_blur_changes_a_flat_picture() -> None:
    sharp = pictures()
    assert torch.equal(blurred(sharp, torch.zeros(4, 1, 1, 1)), sharp)
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert torch.allclose(blurred(flat, torch.full((1, 1, 1, 1), 1.0)), flat)


def test_the_papers_blur_does_not_depend_on_luck() -> None:
    low = pictures()
    seen = [
        paper_blur(low, torch.full((4, 1, 1, 1), share), Draw(seed, 4, CPU)) for seed, share in ((1, 0.1), (2, 0.9))
    ]
    assert torch.equal(*seen)


def test_noise_is_as_large_as_it_is_said_to_be() -> None:
    low = torch.zeros(64, 3, 16, 16)
    seen = added_noise(0.12)(low, torch.full((64, 1, 1, 1), 0.5), Draw(1, 64, CPU))
    assert seen.std().item() == pytest.approx(0.06, rel=0.02)  # of 49,152 numbers


@pytest.mark.parametrize("seed", range(8))
def test_bsr_degrades_each_picture_as_much_as_drawn_and_not_at_all_for_nothing(seed: int) -> None:
    low, much = pictures(), torch.tensor([0.0, 0.2, 0.6, 1.0])[:, None, None, None]
    seen = bsr(low, much, Draw(seed, 4, CPU))
    assert torch.allclose(seen[0], low[0], atol=1e-6)  # a lerp by zero, rounded
    assert (seen[1:] != low[1:]).flatten(1).any(dim=1).all()
    assert seen.abs().max() <= 1


def test_bsr_is_the_same_however_a_batch_is_shared_out() -> None:
    low, much = pictures(), torch.full((4, 1, 1, 1), 0.7)
    whole = bsr(low, much, Draw(5, 4, CPU))
    parts = [bsr(low[2 * k : 2 * k + 2], much[:2], Draw(5, 4, CPU, k, 2)) for k in range(2)]
    assert torch.allclose(torch.cat(parts), whole, atol=1e-6)  # resampling rounds by batch


def test_an_unknown_corruption_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="blur, bsr, none"):
        UpsamplerLesson(corruption="rust")
