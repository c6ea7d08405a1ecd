"""Principal components of embeddings: what is kept, what is lost, and what cannot be fitted."""

from itertools import pairwise

import numpy as np
import pytest

from dallecli.errors import BadInput, BadSetting
from dallecli.probes.pca import POOL, Components, captions, check_enough, chosen_counts, fit, read_counts

SIZES = [(3, 8), (20, 8), (8, 20), (40, 192)]


def embeddings(count: int, width: int, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    scales = np.linspace(3, 0.1, width)
    return list((rng.standard_normal((count, width)) * scales + rng.standard_normal(width)).astype(np.float32))


@pytest.fixture(params=SIZES, ids=str)
def fitted(request: pytest.FixtureRequest) -> tuple[list[np.ndarray], Components]:
    vectors = embeddings(*request.param)
    return vectors, fit(vectors)


def test_all_components_give_a_fitted_embedding_back(fitted: tuple[list[np.ndarray], Components]) -> None:
    vectors, components = fitted
    assert components.rank == min(len(vectors) - 1, len(vectors[0]))
    for vector in vectors:
        # float64 throughout, but for what float32 rounded before
        assert np.abs(components.project(vector.astype(np.float64), components.rank) - vector).max() < 1e-9


def test_more_components_lose_less_and_keep_more(fitted: tuple[list[np.ndarray], Components]) -> None:
    vectors, components = fitted
    stranger = embeddings(1, len(vectors[0]), seed=9)[0].astype(np.float64)
    for vector in (vectors[0].astype(np.float64), stranger):
        lost = [components.error(vector, k) for k in range(components.rank + 1)]
        assert lost[0] == pytest.approx(1)
        assert all(after <= before + 1e-12 for before, after in pairwise(lost))
    kept = [components.kept(k) for k in range(components.rank + 1)]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, pytest.approx(1))


def test_no_component_is_the_mean_and_a_projection_stays_where_it_is(
    fitted: tuple[list[np.ndarray], Components],
) -> None:
    vectors, components = fitted
    z = vectors[-1].astype(np.float64)
    assert np.allclose(components.project(z, 0), np.stack(vectors).mean(axis=0), atol=1e-5)
    for k in range(components.rank + 1):
        once = components.project(z, k)
        assert np.allclose(components.project(once, k), once, atol=1e-9)
        # what is lost is at a right angle to what is kept
        assert abs((z - once) @ (once - components.mean)) < 1e-6 * (1 + z @ z)


def test_the_order_and_the_sign_of_what_is_fitted_do_not_matter() -> None:
    vectors = embeddings(12, 6)
    z = vectors[3].astype(np.float64)
    for k in (1, 3):
        assert np.allclose(fit(vectors).project(z, k), fit(vectors[::-1]).project(z, k), atol=1e-9)


def test_what_lies_on_a_plane_has_two_components() -> None:
    rng = np.random.default_rng(2)
    plane = rng.standard_normal((2, 30))
    assert fit([(row @ plane).astype(np.float32) for row in rng.standard_normal((10, 2))]).rank == 2


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_are_refused(count: int) -> None:
    with pytest.raises(BadInput, match="too few to find components of"):
        fit(embeddings(count, 4))


def test_what_is_all_the_same_is_refused() -> None:
    with pytest.raises(BadInput, match="is the same"):
        fit(embeddings(1, 4) * 5)


def test_counts_are_the_papers_as_far_as_they_go_and_all() -> None:
    assert chosen_counts(None, 95) == [1, 4, 16, 64, 95]
    assert chosen_counts(None, 16) == [1, 4, 16]
    assert chosen_counts(None, 1) == [1]
    assert chosen_counts([8, 0, 2, 8], 8) == [0, 2, 8]
    with pytest.raises(BadSetting, match="8 components, and 9 are asked for"):
        chosen_counts([9], 8)
    with pytest.raises(BadSetting, match="4 embeddings have 3 components, and 9"):
        check_enough(4, [1, 9])


@pytest.mark.parametrize("text", ["", "1,,2", "-1", "1.5", "x", "9" * 20, "²"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="are not numbers"):
        read_counts(text)


def test_captions_are_different_and_of_everything_that_is_known() -> None:
    kinds = {"things": [f"thing{k}" for k in range(12)], "colours": ["red", "orange"], "places": ["in space", "at sea"]}
    found = captions(kinds, 48)
    assert len(set(found)) == len(found) == 48
    assert all(any(word in caption.split() for caption in found) for word in (*kinds["things"], *kinds["colours"]))
    assert all(any(place in caption for caption in found[:20]) for place in kinds["places"])
    assert "an orange thing0 at sea" in found
    assert captions({"things": ["owl"]}) == ["an owl"]
    assert captions({}) == []
    assert len(captions(kinds)) == 48 < POOL
