"""Embeddings know their space, and slerp keeps to the sphere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dallecli.errors import BadEmbedding
from dallecli.pipelines.embedding import Embedding, blend, cosine, slerp, slerp_rows, turned


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


def test_slerp_of_noise_keeps_its_size_and_shape():
    a, b = (torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    middle = slerp_rows(a, b, 0.5)
    assert middle.shape == a.shape
    # The mean of two independent noises would have 0.71 of their deviation; its error is 1 / sqrt(2 * 12288).
    assert middle.std().item() == pytest.approx(1, abs=0.03)


@given(st.integers(0, 1000), st.integers(1001, 2000), st.floats(0, 1))
def test_a_blend_of_two_is_their_slerp(seed_a, seed_b, t):
    a, b = random(seed_a), random(seed_b)
    torch.testing.assert_close(blend([a, b], [1 - t, t]).vector, slerp(a, b, t).vector)


def test_a_blend_of_one_alone_is_that_one():
    ends = [random(seed) for seed in (0, 1, 2)]
    torch.testing.assert_close(blend(ends, [0.0, 1.0, 0.0]).vector, ends[1].vector)


def test_the_middle_of_three_axes_is_their_diagonal_with_their_mean_length():
    axes = [embedding([3.0, 0.0, 0.0]), embedding([0.0, 2.0, 0.0]), embedding([0.0, 0.0, 1.0])]
    expected = torch.full((1, 3), 2 / math.sqrt(3), dtype=torch.float64)
    torch.testing.assert_close(blend(axes, [1 / 3] * 3).vector, expected)


def test_the_ways_from_a_blend_to_its_ends_cancel_out():
    # What defines the mean of several points on a sphere: it is where none of them pulls more than the others.
    ends, weights = [random(seed) for seed in range(5)], [0.1, 0.3, 0.2, 0.25, 0.15]
    middle = blend(ends, weights).vector
    middle = middle / middle.norm(dim=-1, keepdim=True)
    pull = torch.zeros_like(middle)
    for end, weight in zip(ends, weights, strict=True):
        unit = end.vector / end.vector.norm(dim=-1, keepdim=True)
        along = (middle * unit).sum(dim=-1, keepdim=True)
        across = unit - along * middle
        pull += weight * along.acos() * across / across.norm(dim=-1, keepdim=True)
    assert pull.abs().max() < 1e-6


def test_ends_that_cancel_out_have_no_blend():
    with pytest.raises(BadEmbedding, match="cancel"):
        blend([embedding([1.0, 0.0]), embedding([-1.0, 0.0])], [0.5, 0.5])


@given(st.floats(0, 1))
def test_a_text_diff_turns_by_its_share_of_the_angle_and_keeps_the_length(strength):
    image = embedding([3.0, 0.0, 0.0])
    # The difference of the unit vectors is at a right angle to the image.
    before, after = embedding([0.0, 2.0, 0.0]), embedding([0.0, 0.0, 5.0])
    found = turned(image, before, after, strength)
    expected = torch.tensor([math.cos(strength * math.pi / 2), -math.sin(strength * math.pi / 2) / math.sqrt(2)])
    torch.testing.assert_close(found.vector[0, :2] / 3, expected.double(), rtol=0, atol=1e-7)
    assert found.vector.norm().item() == pytest.approx(3)


def test_a_text_diff_is_for_all_pictures_of_a_batch():
    images = random(0)
    before, after = embedding([1.0] * 16), embedding([1.0] * 15 + [2.0])
    for row, together in zip(images.vector, turned(images, before, after, 0.3).vector, strict=True):
        alone = turned(Embedding(vector=row[None], space="clip"), before, after, 0.3)
        torch.testing.assert_close(alone.vector[0], together)


def test_sentences_that_mean_the_same_have_no_difference():
    with pytest.raises(BadEmbedding, match="mean the same"):
        turned(random(0), embedding([1.0] * 16), embedding([2.0] * 16), 0.5)
