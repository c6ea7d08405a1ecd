"""Which sentence fits a picture best, and which picture a sentence, by CLIP."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from dallecli.embedding_arithmetic import cosines
from dallecli.embedding_file import Embedded
from dallecli.errors import BadInput
from dallecli.unknown import Unknown, together

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[tuple[int, int], np.dtype[np.float64]]

SCALE: Final = 100.0
"""CLIP's inverse temperature: cosines times this are the logits of its softmax. Training ends at 100, where it is
clipped (Radford et al. 2021, section 2.5); published folders do not hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How well a picture and a sentence fit.

    picture, text: as they were given. score: the cosine between what CLIP sees and what it reads, from -1 to 1. share:
    what it would bet on this sentence if one of all were true, from 0 to 1. unknown: what the model does not know of
    both.
    """

    picture: str
    text: str
    score: float
    share: float
    unknown: Unknown = field(default_factory=Unknown)


def rank(found: Sequence[Embedded], names: Sequence[str] | None = None) -> list[Score]:
    """For each picture, the best sentence first; of a single sentence, the best picture.

    `names` are what the embeddings are called, their own names if there are none.

    Raises: BadInput where there is no picture, or no sentence, to compare with; BadEmbedding for two CLIPs.
    """
    import numpy as np

    named = list(zip(names if names is not None else [embedded.name for embedded in found], found, strict=True))
    pictures = [(name, embedded) for name, embedded in named if embedded.kind == "image"]
    texts = [(name, embedded) for name, embedded in named if embedded.kind == "text"]
    if not pictures or not texts:
        missing = "sentence" if not texts else "picture"
        raise BadInput(f"there is no {missing} to compare with", hint='dalle rank cat.jpg "a cat" "a dog"')
    scores = cosines([embedded for _, embedded in pictures], [embedded for _, embedded in texts])
    shares = softmax(SCALE * scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    pairs = [(i, int(j)) for i in range(len(pictures)) for j in order[i]]
    if len(texts) == 1:
        pairs.sort(key=lambda pair: -scores[pair])
    return [
        Score(
            picture=pictures[i][0],
            text=texts[j][0],
            score=float(scores[i, j]),
            share=float(shares[i, j]),
            unknown=together((pictures[i][1].unknown, texts[j][1].unknown)),
        )
        for i, j in pairs
    ]


def softmax(logits: "Numbers") -> "Numbers":
    """Shares [n, m] that sum to 1 along the last axis."""
    import numpy as np

    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return cast("Numbers", weights / weights.sum(axis=1, keepdims=True))
