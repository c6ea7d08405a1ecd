"""Predicting the picture, the noise or the velocity: three names of one error."""

import pytest
import torch

from dallecli.training.loss import expected, weights

ALPHA_BAR = torch.tensor([0.999, 0.9, 0.5, 0.1, 0.001])


def test_each_prediction_gives_the_clean_sample_back() -> None:
    x0, noise = torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = ALPHA_BAR.double()
    x = a.sqrt() * x0 + (1 - a).sqrt() * noise
    v = expected("v_prediction", x0, noise, a)
    assert torch.allclose(a.sqrt() * x - (1 - a).sqrt() * v, x0)
    assert torch.allclose((x - (1 - a).sqrt() * expected("epsilon", x0, noise, a)) / a.sqrt(), x0)
    assert expected("sample", x0, noise, a) is x0


def test_an_error_counts_the_same_in_x0_and_in_v() -> None:
    # An error d in v is an error of sqrt(1 - a) d in x0.
    ours, theirs = weights("v_prediction", ALPHA_BAR), weights("sample", ALPHA_BAR) * (1 - ALPHA_BAR)
    assert torch.allclose(ours, theirs)


def test_weights_in_x0_are_bounded_and_never_vanish() -> None:
    snr = ALPHA_BAR / (1 - ALPHA_BAR)
    assert weights("sample", ALPHA_BAR).tolist() == pytest.approx([min(s + 1, 5) for s in snr.tolist()])


def test_weights_of_noise_are_one_where_there_is_little_signal() -> None:
    # Hang et al. 2023: min(SNR, 5) / SNR. An error d in eps is an error of d / sqrt(SNR) in x0.
    assert weights("epsilon", torch.tensor([1e-8, 0.5])).tolist() == pytest.approx([1, 1])
    assert weights("epsilon", torch.tensor([0.999])).item() == pytest.approx(5 / 999, rel=1e-3)  # float32 of 1 - 0.999
