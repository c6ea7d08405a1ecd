"""`dalle rank`: which sentence fits a picture best, and which picture a sentence."""

from typing import TYPE_CHECKING, cast

from dallecli.cli import options
from dallecli.cli.folding import folded

if TYPE_CHECKING:
    import numpy as np

    from dallecli.embedding_file import Embedded

    Numbers = np.ndarray[tuple[int, int], np.dtype[np.float64]]

SCALE = 100.0
"""CLIP's inverse temperature: cosines times this are the logits of its softmax. Training ends at 100, where it is
clipped (Radford et al. 2021, section 2.5); published folders do not hold it."""


@folded
def rank(
    things: options.Things,
    model: options.ModelOptions,
    memory: options.MemoryOptions,
    reporting: options.Reporting,
) -> None:
    """Score how well sentences and pictures fit.

    For each picture, the best sentence comes first; of a single sentence, the best picture. The score is the cosine
    between what CLIP sees and what it reads, the share what it would bet on this sentence if one of them were true. An
    argument is a file if there is one of this name, else a sentence.

    \b
    Examples:
      dalle rank cat.jpg "a cat" "a dog" "a red car"
      dalle rank *.png "a cat in the snow" | head -3
      dalle rank --json *.png "day" "night" | jq -r 'select(.text == "night" and .share > 0.9).path'
    """
    import numpy as np

    from dallecli.arguments import read_batches
    from dallecli.cli.display import Display, emit_json, emit_table
    from dallecli.embedding_file import cosines
    from dallecli.errors import BadInput
    from dallecli.tasks.embed import Embed

    display = Display(quiet=reporting.quiet)
    engine = memory.engine()
    found: list[Embedded] = []
    for batch in read_batches(things):
        request = Embed(inputs=tuple(batch), model=model.model, device=model.device, dtype=model.dtype)
        with display.opening(model.model):
            found += engine.embed(request, display.progress)
    named = list(zip(things, found, strict=True))
    pictures = [(name, embedded) for name, embedded in named if embedded.kind == "image"]
    texts = [(name, embedded) for name, embedded in named if embedded.kind == "text"]
    if not pictures or not texts:
        missing = "sentence" if not texts else "picture"
        hint = 'dalle rank cat.jpg "a cat" "a dog"'
        raise BadInput(f"there is no {missing} to compare with", hint=hint)
    scores = cosines([embedded for _, embedded in pictures], [embedded for _, embedded in texts])
    shares = softmax(SCALE * scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    pairs = [(i, int(j)) for i in range(len(pictures)) for j in order[i]]
    if len(texts) == 1:
        pairs.sort(key=lambda pair: -scores[pair])
    if reporting.json:
        for i, j in pairs:
            score, share = float(scores[i, j]), float(shares[i, j])
            emit_json({"path": pictures[i][0], "text": texts[j][0], "score": score, "share": share})
        return
    rows = [(f"{scores[i, j]:.3f}", f"{shares[i, j]:.1%}", pictures[i][0], texts[j][0]) for i, j in pairs]
    emit_table(("SCORE", "SHARE", "PICTURE", "TEXT"), rows)


def softmax(logits: "Numbers") -> "Numbers":
    """Shares [n, m] that sum to 1 along the last axis."""
    import numpy as np

    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return cast("Numbers", weights / weights.sum(axis=1, keepdims=True))
