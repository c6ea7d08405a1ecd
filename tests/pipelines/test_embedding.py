"""Embeddings know their space, and slerp keeps to the sphere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dallecli.errors import BadEmbedding
from dallecli.pipelines.embedding import Embedding, cosine, slerp


def embedding(*rows: list[float], space: str = "clip") -> Embedding:
    return Embedding(vector=torch.tensor(rows, dtype=torch.float64), space=space)


def random(seed: int) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(vector=torch.randn(3, 16, generator=generator, dtype=torch.float64), space="clip")


def test_mixing_spaces_is_an_error():
    a, b = embedding([1.0, 0.0]), embedding([0.0, 1.0], space="another clip")
    with pytest.raises(ValueError, match="another clip"):
        slerp(a, b, 0.5)
    with pytest.raises(ValueError, match="another clip"):
        cosine(a, b)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_slerp_ends_at_its_ends(seed_a, seed_b):
    a, b = random(seed_a), random(seed_b)
    torch.testing.assert_close(slerp(a, b, 0.0).vector, a.vector)
    torch.testing.assert_close(slerp(a, b, 1.0).vector, b.vector)


@given(st.integers(0, 1000), st.integers(1001, 2000), st.floats(0, 1))
def test_slerp_moves_evenly_in_angle_and_length(seed_a, seed_b, t):
    a, b = random(seed_a), random(seed_b)
    between = slerp(a, b, t)
    whole, part = (cosine(a, other).clamp(-1, 1).acos() for other in (b, between))
    # acos knows small angles only to the root of float32's rounding.
    torch.testing.assert_close(part, t * whole, rtol=0, atol=1e-3)
    lengths = torch.lerp(a.vector.norm(dim=1), b.vector.norm(dim=1), t)
    torch.testing.assert_close(between.vector.norm(dim=1), lengths)
    assert between.space == "clip"


def test_halfway_between_two_axes_is_the_diagonal():
    middle = slerp(embedding([2.0, 0.0]), embedding([0.0, 4.0]), 0.5)
    torch.testing.assert_close(middle.vector, torch.tensor([[3 / math.sqrt(2)] * 2], dtype=torch.float64))


@pytest.mark.parametrize("apart", [0.0, 1e-12, 1e-8, 1e-4])
def test_near_directions_lose_no_digits(apart):
    a, b = embedding([1.0, 0.0]), embedding([math.cos(apart), math.sin(apart)])
    expected = torch.tensor([[math.cos(apart / 4), math.sin(apart / 4)]], dtype=torch.float64)
    torch.testing.assert_close(slerp(a, b, 0.25).vector, expected, rtol=0, atol=1e-15)


def test_opposite_directions_have_no_way_between_them():
    with pytest.raises(BadEmbedding, match="opposite"):
        slerp(embedding([1.0, 2.0]), embedding([-2.0, -4.0]), 0.5)


def test_cosine_ignores_length():
    a, b = embedding([1.0, 0.0], [3.0, 3.0], [0.0, -2.0]), embedding([0.5, 0.0])
    torch.testing.assert_close(cosine(a, b), torch.tensor([1.0, math.sqrt(0.5), 0.0]))
