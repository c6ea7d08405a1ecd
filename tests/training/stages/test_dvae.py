"""The stage of a discrete autoencoder: what it minimises, and that its codes are the nearest means of patches."""

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Laplace, SigmoidTransform, TransformedDistribution

from dallecli.nets.dvae import squeeze
from dallecli.training.batch import Draw
from dallecli.training.dataset import Examples
from dallecli.training.stages.dvae import (
    DvaeLesson,
    DvaeObjective,
    DvaeParts,
    DvaeStage,
    begin_codes,
    k_means,
    logit_laplace,
)
from dallecli.training.token_preset import DvaeShape

SHAPE = DvaeShape(patch_size=4, codes=12, components=6, width=16, blocks=1)
CPU = torch.device("cpu")


@pytest.fixture
def parts() -> DvaeParts:
    torch.manual_seed(0)
    return DvaeStage(encoder=SHAPE.encoder, decoder=SHAPE.decoder, size=16, lesson=DvaeLesson()).fresh()


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    small = torch.randint(256, (40, 3, 4, 4), generator=torch.Generator().manual_seed(1)).float()
    return F.interpolate(small, 16, mode="bilinear").byte()


def test_the_likelihood_is_that_of_a_laplace_variable_behind_a_sigmoid() -> None:
    generator = torch.Generator().manual_seed(0)
    means, scales = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    pixels = squeeze(torch.rand(2, 3, 4, 4, generator=generator))
    told = TransformedDistribution(Laplace(means, scales.exp()), SigmoidTransform())
    found = logit_laplace(torch.cat([means, scales], dim=1), pixels)
    torch.testing.assert_close(found, -told.log_prob(pixels), rtol=1e-4, atol=1e-4)


def test_no_scale_is_narrower_than_the_narrowest() -> None:
    stats = torch.cat([torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), -9.0)], dim=1)
    at_limit = torch.cat([torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), 0.05).log()], dim=1)
    pixels = torch.full((1, 3, 1, 1), 0.7)
    assert torch.equal(logit_laplace(stats, pixels, 0.05), logit_laplace(at_limit, pixels, 0.05))


@torch.no_grad()
def test_the_encoder_chooses_the_nearest_mean_and_the_decoder_begins_as_that_mean(
    parts: DvaeParts, pictures: torch.Tensor
) -> None:
    begin_codes(parts, pictures)
    patches = F.pixel_unshuffle(squeeze(pictures.float() / 255), 4).permute(0, 2, 3, 1).flatten(0, 2)
    centred = patches - patches.mean(dim=0)
    # With as many components as they have, patches would be told exactly; the first six are the best six.
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:6]
    told = centred @ components.T
    codes = parts.codes(pictures).flatten()
    means = torch.stack([told[codes == code].mean(dim=0) for code in codes.unique()])  # type: ignore[no-untyped-call]
    nearest = codes.unique()[torch.cdist(told, means).argmin(dim=1)]  # type: ignore[no-untyped-call]
    # The last round of k-means moved the means once more than the patches.
    assert float((nearest == codes).float().mean()) > 0.95
    painted = parts.decoder(parts.codes(pictures))[:, :3].sigmoid()
    told_back = F.pixel_unshuffle(painted, 4).permute(0, 2, 3, 1).flatten(0, 2)
    expected = means[torch.searchsorted(codes.unique(), codes)] @ components + patches.mean(dim=0)  # type: ignore[no-untyped-call]
    # The logit is taken as straight around the mean.
    assert float((told_back - expected).abs().mean()) < 0.02


def test_means_settle_in_the_middle_of_clusters_and_none_is_lost() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centres.repeat_interleave(30, dim=0) + torch.randn(90, 2, generator=torch.Generator().manual_seed(0)) / 10
    found = k_means(points, 3, 5)
    assert torch.cdist(found, centres).amin(dim=0).max() < 0.1
    assert k_means(torch.zeros(5, 2), 3, 2).isfinite().all()


def test_the_decoder_learns_and_the_encoder_stays(parts: DvaeParts, pictures: torch.Tensor) -> None:
    begin_codes(parts, pictures[:-4])
    objective = DvaeObjective(parts, Examples(pictures=pictures, held_out=4), DvaeLesson())
    objective.loss(Draw(0, 4, CPU)).backward()
    assert all(weight.grad is None for weight in parts.encoder.parameters())
    assert all(weight.grad is not None for weight in parts.decoder.parameters())
    figures = objective.validate()
    assert figures["codes"] >= figures["perplexity"] >= 1
    assert objective.samples().shape == (8, 3, 16, 16)


def test_a_lesson_that_means_nothing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="least_scale"):
        DvaeLesson(least_scale=-1.0)
