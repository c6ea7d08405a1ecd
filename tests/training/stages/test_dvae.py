"""The stages of a discrete autoencoder: what they minimise, and that its codes are the nearest means."""

import math

import pytest
import torch
from torch.distributions import Laplace, SigmoidTransform, TransformedDistribution

from dallecli.nets.dvae import squeeze
from dallecli.training.batch import Draw
from dallecli.training.dataset import Examples
from dallecli.training.stages.dvae import (
    AutoencoderObjective,
    AutoencoderStage,
    DvaeLesson,
    DvaeObjective,
    DvaeStage,
    PlainParts,
    begin_codes,
    k_means,
    logit_laplace,
)

HALF = {"sample_size": 16, "vocab_size": 12, "block_out_channels": [4, 8, 8], "layers_per_block": 1}
HALVES = {"encoder": HALF, "decoder": HALF | {"init_channels": 4}, "size": 16, "lesson": DvaeLesson()}
CPU = torch.device("cpu")


@pytest.fixture
def plain() -> PlainParts:
    torch.manual_seed(0)
    return AutoencoderStage(**HALVES).fresh()


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_likelihood_is_that_of_a_laplace_variable_behind_a_sigmoid() -> None:
    generator = torch.Generator().manual_seed(0)
    means, scales = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    pixels = squeeze(torch.rand(2, 3, 4, 4, generator=generator))
    told = TransformedDistribution(Laplace(means, scales.exp()), SigmoidTransform())
    found = logit_laplace(torch.cat([means, scales], dim=1), pixels)
    torch.testing.assert_close(found, -told.log_prob(pixels), rtol=1e-4, atol=1e-4)


def test_no_scale_is_narrower_than_the_narrowest() -> None:
    stats = torch.cat([torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), -9.0)], dim=1)
    at_limit = torch.cat([torch.zeros(1, 3, 1, 1), torch.full((1, 3, 1, 1), math.log(0.05))], dim=1)
    pixels = torch.full((1, 3, 1, 1), 0.7)
    assert torch.equal(logit_laplace(stats, pixels, 0.05), logit_laplace(at_limit, pixels, 0.05))


def test_the_encoder_chooses_the_nearest_mean_and_the_decoder_reads_it(
    plain: PlainParts, pictures: torch.Tensor
) -> None:
    torch.nn.init.normal_(plain.bridge.bias)
    parts = DvaeStage(**HALVES).fresh()
    begin_codes(parts, plain, pictures)
    means = parts.table.w[:, :, 0, 0].T
    vectors = plain.vectors(squeeze(pictures.float() / 255)).detach().permute(0, 2, 3, 1)
    codes = parts.codes(pictures)
    assert torch.equal(codes, torch.cdist(vectors, means[None]).argmin(dim=-1))
    read = means[codes].permute(0, 3, 1, 2)
    torch.testing.assert_close(parts.decoder(codes), plain.stats(read), rtol=0, atol=1e-5)


def test_means_settle_in_the_middle_of_clusters_and_none_is_lost() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centres.repeat_interleave(30, dim=0) + torch.randn(90, 2, generator=torch.Generator().manual_seed(0)) / 10
    found = k_means(points, 3, 5)
    assert torch.cdist(found, centres).amin(dim=0).max() < 0.1
    assert k_means(torch.zeros(5, 2), 3, 2).isfinite().all()


def test_the_autoencoder_learns_and_the_encoder_stays_once_there_are_codes(
    plain: PlainParts, pictures: torch.Tensor
) -> None:
    examples = Examples(pictures=pictures, held_out=4)
    objective = AutoencoderObjective(plain, examples, DvaeLesson())
    objective.loss(Draw(0, 4, CPU)).backward()
    assert plain.bridge.weight.grad is not None
    parts = DvaeStage(**HALVES).fresh()
    begin_codes(parts, plain, pictures[:-4])
    coded = DvaeObjective(parts, examples, DvaeLesson())
    coded.loss(Draw(0, 4, CPU)).backward()
    assert all(weight.grad is None for weight in parts.encoder.parameters())
    assert all(weight.grad is not None for weight in parts.decoder.parameters())
    figures = coded.validate()
    assert figures["codes"] >= figures["perplexity"] >= 1
    assert coded.samples().shape == (8, 3, 16, 16)


@pytest.mark.parametrize("field", ["rate_weight", "least_scale"])
def test_a_lesson_that_means_nothing_is_refused_by_name(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        DvaeLesson(**{field: -1.0})
