"""A prior begins by predicting a part of the noised embedding."""

import pytest
import torch
from torch import Tensor

from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.training.stages.prior import PASSED, pass_through

WIDTH, COUNT, WORDS = 48, 64, 7


def fresh(heads: int) -> PriorTransformer:
    """A prior of embeddings of 48 numbers that is 16 a head wide."""
    torch.manual_seed(0)
    return PriorTransformer(
        PriorConfig(
            num_attention_heads=heads, attention_head_dim=16, num_layers=2, embedding_dim=WIDTH, num_embeddings=WORDS
        )
    )


@torch.no_grad()
def answer(prior: PriorTransformer, x: Tensor, seed: int) -> Tensor:
    """What it predicts of noised embeddings with random words and times."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(COUNT, WIDTH, generator=generator)
    states = torch.randn(COUNT, WORDS, WIDTH, generator=generator)
    mask = torch.arange(WORDS) < torch.randint(1, WORDS + 1, (COUNT, 1), generator=generator)
    return prior(x, torch.randint(1000, (COUNT,), generator=generator), embeddings, states, mask)


@pytest.mark.parametrize("heads", [3, 4])
def test_a_prior_as_wide_as_an_embedding_begins_by_passing_a_part_of_it_on(heads: int) -> None:
    prior = fresh(heads)
    x = torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(1))
    before = answer(prior, x, seed=2)
    pass_through(prior, torch.ones(WIDTH))
    # A tenth of every fresh part is left, and the length of so few random numbers differs by a tenth, which norms undo.
    assert (answer(prior, x, seed=2) - PASSED * x).square().mean().sqrt() < 0.3 * PASSED
    assert (before - PASSED * x).square().mean().sqrt() > PASSED  # as far from it as nothing at all


def test_a_narrower_prior_is_left_as_it_is() -> None:
    prior = fresh(2)
    pass_through(prior, torch.ones(WIDTH))
    assert all(
        torch.equal(mine, theirs) for mine, theirs in zip(prior.parameters(), fresh(2).parameters(), strict=True)
    )
