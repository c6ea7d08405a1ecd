"""The autoregressive prior in training: what its codes mean, and that it learns what captions say."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.nets.autoregressive_prior import AutoregressivePrior
from dallecli.training.batch import Draw
from dallecli.training.conditions import Conditions
from dallecli.training.stages.autoregressive_prior import (
    AutoregressivePriorLesson,
    AutoregressivePriorObjective,
    AutoregressivePriorStage,
)
from dallecli.training.states import CaptionTable

HELD_OUT, WIDTH, CAPTIONS = 64, 12, 4
CONFIG = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 1,
    "embedding_dim": WIDTH,
    "num_embeddings": 6,
    "num_codes": 4,
    "num_buckets": 16,
    "num_fits": 8,
}


def mixture(count: int = 2000) -> Conditions:
    """Embeddings around the one that their caption has: a caption says most about them, and not all."""
    generator = torch.Generator().manual_seed(4)
    text = torch.randn(1 + CAPTIONS, WIDTH, generator=generator)
    row = torch.randint(1, 1 + CAPTIONS, (count,), generator=generator)
    images = text[row] + 0.2 * torch.randn(count, WIDTH, generator=generator)
    hidden = torch.randn(1 + CAPTIONS, 6, WIDTH, generator=generator)
    mask = torch.arange(6)[None] < torch.tensor([2, 3, 4, 5, 6])[:, None]
    return Conditions(images, CaptionTable(row, text, hidden, mask))


def begun(conditions: Conditions, dropout: float = 0.1) -> tuple[AutoregressivePrior, AutoregressivePriorObjective]:
    torch.manual_seed(0)
    lesson = AutoregressivePriorLesson(caption_dropout=dropout)
    prior = AutoregressivePriorStage(prior=CONFIG, lesson=lesson).fresh()
    return prior, AutoregressivePriorObjective(prior, conditions, HELD_OUT, lesson)


def marginals(codes: Tensor) -> float:
    """The nats a code of whoever knows how often each code occurs, and no caption."""
    total = 0.0
    for column in codes.T:
        shares = column.bincount(minlength=16) / len(column)
        total -= float((shares[shares > 0] * shares[shares > 0].log()).sum())
    return total / codes.shape[1]


def test_codes_are_the_principal_components_of_the_data() -> None:
    conditions = mixture()
    prior, objective = begun(conditions)
    seen = conditions.images[: objective.count].double()
    basis = prior.codebook.basis.double()
    assert torch.allclose(basis @ basis.T, torch.eye(4, dtype=torch.float64), atol=1e-6)  # float32
    _, values, directions = torch.linalg.svd(seen - seen.mean(dim=0), full_matrices=False)
    assert torch.allclose((directions[:4] * basis).sum(dim=1).abs(), torch.ones(4, dtype=torch.float64), atol=1e-6)
    # the deviations of components are the singular values, and fall
    assert torch.allclose(prior.codebook.std.double(), values[:4] / math.sqrt(len(seen)), rtol=1e-5)


def test_buckets_leave_a_two_thousandth_of_the_data_outside_at_either_end() -> None:
    conditions = mixture()
    prior, objective = begun(conditions)
    book, seen = prior.codebook, conditions.images[: objective.count]
    components = (seen - book.mean) @ book.basis.T
    assert ((components < book.low - 1e-5).float().mean(dim=0) <= 0.0005).all()
    assert ((components > book.high + 1e-5).float().mean(dim=0) <= 0.0005).all()


def test_fits_are_equally_frequent_in_the_data() -> None:
    conditions = mixture()
    prior, objective = begun(conditions)
    chosen = torch.arange(objective.count)
    text = conditions.captions.states(chosen, torch.zeros(len(chosen), dtype=torch.bool))
    counts = prior.fits(F.cosine_similarity(conditions.images[chosen], text.embedding)).bincount(minlength=8)
    assert counts.min() >= len(chosen) // 8 - 1 and counts.max() <= len(chosen) // 8 + 1


def test_data_that_never_vary_still_have_buckets() -> None:
    conditions = mixture(200)
    same = conditions._replace(images=conditions.images[:1].expand(200, -1).clone())
    prior, objective = begun(same)
    assert (prior.codebook.high > prior.codebook.low).all()
    assert objective.loss(Draw(0, 8, torch.device("cpu"))).isfinite()


def test_it_learns_what_captions_say() -> None:
    conditions = mixture()
    prior, objective = begun(conditions)
    codes = prior.codebook.encode(conditions.images)
    optimizer = torch.optim.AdamW([one for one in prior.parameters() if one.requires_grad], 5e-3)
    for step in range(80):
        optimizer.zero_grad()
        objective.loss(Draw(step, 64, torch.device("cpu"))).backward()
        optimizer.step()
    figures = objective.validate()
    # Four captions tell 1.4 nats together; what is left is the noise around them.
    assert figures["held_out"] < marginals(codes) - 0.25
    assert figures["first_8"] == pytest.approx(figures["held_out"])


def test_a_dropped_caption_says_nothing_at_all() -> None:
    conditions = mixture()
    _, objective = begun(conditions, dropout=1.0)
    other = conditions._replace(captions=mixture().captions)
    other.captions.embedding[1:] += 3  # type: ignore[attr-defined]  # a CaptionTable has it
    other.captions.hidden[1:] += 3  # type: ignore[attr-defined]
    _, changed = begun(other, dropout=1.0)
    changed.prior.load_state_dict(objective.prior.state_dict())
    assert torch.equal(*(one.loss(Draw(1, 32, torch.device("cpu"))) for one in (objective, changed)))


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match="caption_dropout"):
        AutoregressivePriorLesson(caption_dropout=1.5)
