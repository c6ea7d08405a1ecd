"""The hidden vocabulary: made words, controls, and what is said of embeddings whose answer is known."""

import numpy as np
import pytest

from dallecli.errors import BadInput
from dallecli.probes.vocabulary import NOUNS, cosine_of_means, nonsense, probe, shuffled, with_controls


def test_a_seed_makes_the_same_words_with_every_model() -> None:
    assert nonsense(4, 7) == ["hookain", "postimo", "drudroon", "brougokex"]
    assert nonsense(2, 7) == nonsense(4, 7)[:2]
    assert nonsense(4, 8) != nonsense(4, 7)
    many = nonsense(50, 1)
    assert len(set(many)) == 50
    assert not set(many) & set(NOUNS)


@pytest.mark.parametrize("word", ["vicootes", "apoploe vesrreaitais", "ab"])
def test_a_shuffled_word_has_the_same_letters_and_blanks(word: str) -> None:
    mixed = shuffled(word, 3)
    assert mixed != word
    assert sorted(mixed) == sorted(word)
    assert [char.isspace() for char in mixed] == [char.isspace() for char in word]
    assert mixed == shuffled(word, 3)


def test_a_word_of_one_letter_has_no_other_order() -> None:
    assert shuffled("aaa", 1) == "aaa"


def test_both_controls_stand_beside_the_words() -> None:
    pairs = with_controls(["vicootes", "vicootes", "contarra"], ["dog", "cat", "frog"], 5)
    assert [kind for _, kind in pairs] == ["nonsense"] * 2 + ["shuffled"] * 2 + ["real"] * 2
    assert pairs == with_controls(["vicootes", "contarra"], ["dog", "cat", "frog"], 5)
    with pytest.raises(BadInput, match="no word to probe"):
        with_controls([], ["dog", "cat"], 5)
    with pytest.raises(BadInput, match="too few words"):
        with_controls(["vicootes"], ["dog", "dog"], 5)


def test_what_a_word_means_is_found_and_what_means_nothing_is_not_consistent() -> None:
    rng = np.random.default_rng(4)
    against = ["dog", "cat", "frog", "sun", "car"]
    real = rng.standard_normal((5, 64))
    means_frog = real[2] + 0.2 * rng.standard_normal((6, 64))
    means_nothing = rng.standard_normal((6, 64))
    texts = np.stack([real[1], rng.standard_normal(64)])
    pairs = [("vicootes", "nonsense"), ("toovices", "shuffled")]
    known, unknown = probe(pairs, [means_frog, means_nothing], texts, against, real)
    assert known.nearest[0][0] == "frog"
    assert known.read == "cat"  # the text tower says something else
    assert known.consistency > 0.8 > 0.3 > unknown.consistency
    assert -1 <= unknown.agreement <= 1
    assert cosine_of_means(means_frog, real[2:3]) > 0.95 > cosine_of_means(means_nothing, real[2:3])
    assert known.facts()["nearest"][0]["word"] == "frog"


def test_a_word_that_is_near_to_every_picture_is_nearest_to_none() -> None:
    rng = np.random.default_rng(5)
    everywhere, frog, sun = np.eye(16)[:3]
    pictures = [
        10 * everywhere + frog + 0.01 * rng.standard_normal((3, 16)),
        10 * everywhere + sun + 0.01 * rng.standard_normal((3, 16)),
    ]
    found = probe(
        [("x", "nonsense"), ("y", "nonsense")],
        pictures,
        np.stack([frog, sun]),
        ["thing", "frog", "sun"],
        np.stack([everywhere, frog, sun]),
    )
    assert [one.nearest[0][0] for one in found] == ["frog", "sun"]
    assert [one.agreement for one in found] == pytest.approx([1, 1])
