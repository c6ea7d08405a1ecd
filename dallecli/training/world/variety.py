"""How much the pictures of one caption differ from seed to seed, beside drawn scenes of the same caption.

A picture is looked at by the judge, in the features of the cells where it finds a thing: a thing that is painted one
pixel further left, or on another ground, is hardly another picture there, and another drawing is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dallecli.training.world.judge import Judge, Verdict, verdicts


def spread(features: Tensor) -> float:
    """Return the mean distance between two of the rows of `features` [n d], n at least 2."""
    return float(torch.pdist(features.float()).mean())


def perplexity(classes: Tensor, count: int) -> float:
    """Return how many of `count` classes are as good as in use among `classes` [n]: e to their entropy."""
    shares = torch.bincount(classes, minlength=count).double() / len(classes)
    return float(torch.special.entr(shares).sum().exp())


def variety(judge: Judge, painted: Sequence[Tensor], drawn: Sequence[Tensor]) -> dict[str, float]:
    """Return how much pictures of one caption vary, as means over captions, beside that of drawn scenes ("drawn_").

    `painted` and `drawn` hold the pictures [n 3 s s] of each caption. `spread` is the share of the drawn scenes'
    spread in the judge's features that is reached; `ground_spread` likewise where the whole picture counts. Where the
    judge knows looks: `looks`, how many are in use (`perplexity`), and `mirrored`, the share of pictures that it takes
    for mirrored ones.
    """
    mine, theirs = ([verdicts(judge, pictures) for pictures in some] for some in (painted, drawn))
    figures = {
        name: _mean([spread(of(one)) for one in mine]) / _mean([spread(of(one)) for one in theirs])
        for name, of in (("spread", _focus), ("ground_spread", _features))
    }
    for prefix, found in (("", mine), ("drawn_", theirs)):
        count = found[0].look.shape[1]
        if count:
            figures[f"{prefix}looks"] = _mean([perplexity(one.look.argmax(dim=-1), count) for one in found])
            figures[f"{prefix}mirrored"] = _mean([float(one.mirrored.argmax(dim=-1).float().mean()) for one in found])
    return figures


def _focus(verdict: Verdict) -> Tensor:
    return verdict.focus


def _features(verdict: Verdict) -> Tensor:
    return verdict.features


def _mean(figures: Sequence[float]) -> float:
    return sum(figures) / len(figures)
