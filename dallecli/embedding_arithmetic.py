"""Arithmetic with embeddings: what is between them, and what is left when some are taken away. No torch here."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from dallecli.embedding_file import Embedded, check_space
from dallecli.errors import BadEmbedding
from dallecli.unknown import together

if TYPE_CHECKING:
    import numpy as np

    from dallecli.embedding_file import Array


def combine(first: Embedded, minus: Sequence[Embedded], plus: Sequence[Embedded]) -> Embedded:
    """`first` without the meanings in `minus` and with those in `plus`: a sum of directions, as long as `first`.

    The vectors are normalised before they are added, since the lengths of the embeddings of pictures and of sentences
    are not comparable. The noise of `first` is kept, and the name says what was combined.

    Raises: BadEmbedding for different spaces, and where nothing is left.
    """
    import numpy as np

    for other in (*minus, *plus):
        check_space(other, first.space, other.name)
    total = _unit(first.vector)
    for sign, others in ((-1, minus), (1, plus)):
        for other in others:
            total = total + sign * _unit(other.vector)
    length = float(np.linalg.norm(total))
    if length < 1e-6 or not math.isfinite(length):
        raise BadEmbedding("nothing is left of this embedding", where=first.name)
    scaled = total * (float(np.linalg.norm(first.vector.astype(np.float64))) / length)
    story = [f" - {other.name}" for other in minus] + [f" + {other.name}" for other in plus]
    return replace(
        first,
        vector=scaled.astype(np.float32),
        name="".join([first.name, *story]),
        unknown=together(one.unknown for one in (first, *minus, *plus)),
    )


def cosines(a: Sequence[Embedded], b: Sequence[Embedded]) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """The cosines between each of `a` and each of `b`, `[len(a) len(b)]`, in [-1, 1].

    Raises: BadEmbedding for different spaces.
    """
    import numpy as np

    for embedded in (*a, *b):
        check_space(embedded, a[0].space, embedded.name)
    left, right = (np.stack([_unit(embedded.vector) for embedded in side]) for side in (a, b))
    return cast("np.ndarray[tuple[int, int], np.dtype[np.float64]]", left @ right.T)


def _unit(vector: "Array") -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    import numpy as np

    wide = vector.astype(np.float64)
    return cast("np.ndarray[tuple[int, ...], np.dtype[np.float64]]", wide / np.linalg.norm(wide))
