"""The autoregressive prior, of which nobody has published one to compare with: what its formulas promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dallecli.nets.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig, Codebook

CONFIG = AutoregressivePriorConfig(
    num_attention_heads=2,
    attention_head_dim=8,
    num_layers=2,
    embedding_dim=12,
    num_embeddings=7,
    num_codes=5,
    num_buckets=9,
    num_fits=6,
)


def codebook(embeddings: Tensor) -> Codebook:
    """Codes by the principal components of these embeddings [n d], as numpy finds them."""
    book = Codebook(CONFIG).double()
    centred = (embeddings - embeddings.mean(dim=0)).numpy()
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    basis = torch.from_numpy(directions[: CONFIG.num_codes])
    components = torch.from_numpy(centred) @ basis.T
    with torch.no_grad():
        book.mean.copy_(embeddings.mean(dim=0, keepdim=True))
        book.basis.copy_(basis)
        book.std.copy_(components.std(dim=0))
        book.low.copy_(components.min(dim=0).values)
        book.high.copy_(components.max(dim=0).values)
    return book


@pytest.fixture
def prior() -> AutoregressivePrior:
    """A network with random weights in double precision, so that equal means equal."""
    torch.manual_seed(0)
    prior = AutoregressivePrior(CONFIG).double()
    with torch.no_grad():
        for weight in prior.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.3)
    return prior.eval()


def captions(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, states and masks of captions of several lengths."""
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(count, 12, generator=generator, dtype=torch.float64)
    hidden = torch.randn(count, 7, 12, generator=generator, dtype=torch.float64)
    lengths = 2 + torch.arange(count) % 6
    return embedding, hidden, torch.arange(7)[None] < lengths[:, None]


def some_codes(count: int) -> Tensor:
    return torch.randint(CONFIG.num_buckets, (count, CONFIG.num_codes), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("inside", [0.001, 0.5, 0.999])
def test_what_is_decoded_anywhere_in_a_bucket_has_its_code(inside: float) -> None:
    embeddings = torch.randn(50, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    book, codes = codebook(embeddings), some_codes(20)
    assert torch.equal(book.encode(book.decode(codes, torch.full(codes.shape, inside))), codes)


def test_an_embedding_loses_its_last_components_and_half_a_bucket_at_most() -> None:
    embeddings = torch.randn(50, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    book = codebook(embeddings)
    codes = book.encode(embeddings)
    again = book.decode(codes, torch.full(codes.shape, 0.5))
    lost = ((embeddings - again) @ book.basis.double().T).abs()
    # float32 rounding of numbers of order one may tip what lies on an edge
    assert (lost <= (book.high - book.low) / CONFIG.num_buckets / 2 + 1e-5).all()
    projected = (embeddings - book.mean) @ book.basis.T @ book.basis + book.mean
    assert (again - projected).abs().max() <= (book.high - book.low).max() / 2 / CONFIG.num_buckets * 5**0.5 + 1e-5


def test_what_lies_outside_of_all_buckets_is_counted_to_the_nearest() -> None:
    book = codebook(torch.randn(50, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    far = book.mean + 1000 * book.basis.sum(dim=0)
    assert torch.equal(book.encode(far), torch.full((1, 5), CONFIG.num_buckets - 1))
    assert torch.equal(book.encode(-far), torch.zeros(1, 5, dtype=torch.long))


def test_a_code_depends_on_no_later_one(prior: AutoregressivePrior) -> None:
    words, fits, codes = captions(3), torch.arange(3), some_codes(3)
    before = prior(codes, fits, *words)
    for place in range(CONFIG.num_codes):
        changed = codes.clone()
        changed[:, place] = (changed[:, place] + 4) % CONFIG.num_buckets
        after = prior(changed, fits, *words)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        if place + 1 < CONFIG.num_codes:
            assert not torch.allclose(after[:, place + 1], before[:, place + 1])


@pytest.mark.parametrize("what", ["fits", "embedding", "hidden"])
def test_every_code_depends_on_the_caption_and_the_fit(prior: AutoregressivePrior, what: str) -> None:
    (embedding, hidden, mask), fits, codes = captions(2), torch.arange(2), some_codes(2)
    before = prior(codes, fits, embedding, hidden, mask)
    match what:
        case "fits":
            fits = fits + 1
        case "embedding":
            embedding = embedding + 1
        case _:
            hidden = hidden + torch.linspace(0, 1, 12)
    after = prior(codes, fits, embedding, hidden, mask)
    assert ((after - before).abs().amax(dim=(0, 2)) > 1e-6).all()


def test_padding_is_not_read(prior: AutoregressivePrior) -> None:
    (embedding, hidden, mask), fits, codes = captions(4), torch.arange(4), some_codes(4)
    noisy = torch.where(mask[..., None], hidden, hidden + 5)
    # what is hidden gets exp(-10000) of the attention, which is nothing in any precision
    assert torch.equal(prior(codes, fits, embedding, noisy, mask), prior(codes, fits, embedding, hidden, mask))


def test_codes_written_one_by_one_have_the_logits_of_all_at_once(prior: AutoregressivePrior) -> None:
    words, fits, codes = captions(3), torch.tensor([0, 5, 6]), some_codes(3)
    rows = torch.tensor([2, 0, 1])
    at_once = prior(codes, fits, *(of[rows] for of in words))
    writing, last, one_by_one = prior.begin(prior.read(*words), rows), fits, []
    for place in range(CONFIG.num_codes):
        logits, writing = prior.write(writing, last)
        one_by_one.append(logits)
        last = codes[:, place]
    # logits are made in float32
    assert torch.allclose(torch.stack(one_by_one, dim=1), at_once, atol=1e-5)


def test_without_corrections_a_code_is_normally_distributed(prior: AutoregressivePrior) -> None:
    with torch.no_grad():
        for layer in (prior.to_normal, prior.to_means, prior.to_corrections):
            layer.weight.zero_()
            layer.bias.zero_()
        prior.to_normal.bias.copy_(torch.tensor([0.25, -0.5]))
    centres = prior.codebook.centres(torch.arange(CONFIG.num_codes))
    density = torch.distributions.Normal(0.25, float(np.exp(-0.5))).log_prob(centres)
    wanted = density - density.logsumexp(dim=1, keepdim=True)
    found = prior(some_codes(2), torch.arange(2), *captions(2)).log_softmax(dim=2)
    # float32 against float64
    assert torch.allclose(found.double(), wanted.double().expand_as(found), atol=1e-5)


def test_fits_are_counted_by_their_edges(prior: AutoregressivePrior) -> None:
    with torch.no_grad():
        prior.fit_edges.copy_(torch.tensor([-0.5, 0.0, 0.25, 0.5, 0.75]))
    assert prior.fits(torch.tensor([-1.0, -0.2, 0.1, 0.3, 0.7, 0.9])).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"num_codes": 13}, "num_codes"), ({"num_buckets": 1}, "num_buckets"), ({"num_fits": 0}, "num_fits")],
)
def test_a_network_that_cannot_be_is_refused_by_name(change: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(CONFIG, **change)
