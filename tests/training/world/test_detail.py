"""Blur and speckle, which a judge of 32 px does not see, move the figures for large pictures."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.training.world.detail import edges, gradient_energy
from dallecli.training.world.evaluate import frechet
from dallecli.training.world.first import FIRST
from dallecli.training.world.pool import scenes


def drawn(seed: int, count: int = 64) -> Tensor:
    pictures = [scene.draw(256) for scene in scenes(2**32 + seed, count, FIRST.held_out)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return drawn(0)


def blurred(some: Tensor) -> Tensor:
    return F.avg_pool2d(some.float(), 5, stride=1, padding=2, count_include_pad=False)


def speckled(some: Tensor) -> Tensor:
    noise = torch.randn(some.shape, generator=torch.Generator().manual_seed(0))
    return (some.float() + 6 * noise).clamp(0, 255)


def test_a_ramp_of_two_levels_a_pixel_has_an_energy_of_half_of_that() -> None:
    ramp = (2 * torch.arange(64.0))[None, None, None].expand(1, 3, 64, 64)
    assert gradient_energy(ramp) == pytest.approx(1)  # two along the rows, none along the columns


@pytest.mark.long
def test_blur_has_less_energy_and_speckle_more(pictures: Tensor) -> None:
    energy = gradient_energy(pictures)
    assert gradient_energy(blurred(pictures)) < 0.8 * energy
    assert gradient_energy(speckled(pictures)) > 1.5 * energy


@pytest.mark.long
def test_blur_and_speckle_are_far_from_drawn_scenes_and_other_drawn_scenes_are_near(pictures: Tensor) -> None:
    known = edges(pictures)
    floor = frechet(edges(drawn(1000)), known)
    assert frechet(edges(blurred(pictures)), known) > 2 * floor
    assert frechet(edges(speckled(pictures)), known) > 2 * floor


def test_a_flat_picture_has_no_edges() -> None:
    found = edges(torch.full((2, 3, 64, 64), 90))
    assert found.shape[0] == 2 and found.isfinite().all()
    assert set(found.unique().tolist()) == {0.0, 1.0}  # nothing in any band, and all of it flat
