"""Drawing tokens from the logits of a network that writes them one after the other."""

import torch
from torch import Tensor

from dallecli.tasks.stages import TokenSettings


def mixed(unguided: Tensor, guided: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance of logits [b n]: away from what they would be without the words."""
    return unguided + scale * (guided - unguided)


def allowed(logits: Tensor, settings: TokenSettings) -> Tensor:
    """The probabilities [b n] with which tokens are drawn: of few, by temperature; 0 beyond `top_k` and `top_p`.

    The likeliest token is always among them. Temperature 0 leaves it alone.
    """
    if settings.temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
    logits = logits / settings.temperature
    if 0 < settings.top_k < logits.shape[1]:
        least = logits.topk(settings.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    shares = logits.softmax(dim=1)
    if settings.top_p < 1:
        ordered, places = shares.sort(dim=1, descending=True)
        beyond = ordered.cumsum(dim=1) - ordered >= settings.top_p
        shares = shares.masked_fill(beyond.gather(1, places.argsort(dim=1)), 0)
    return shares


def drawn(shares: Tensor, chances: Tensor) -> Tensor:
    """The tokens [b] where the running sum of `shares` [b n] passes `chances` [b], which are from 0 up to 1.

    Shares need not sum up to 1. One whose share is 0 is never drawn.
    """
    sums = shares.double().cumsum(dim=1)
    found = torch.searchsorted(sums, (chances.double() * sums[:, -1])[:, None], right=True)[:, 0]
    last = shares.shape[1] - 1 - (shares > 0).int().flip(1).argmax(dim=1)
    return torch.minimum(found, last)
