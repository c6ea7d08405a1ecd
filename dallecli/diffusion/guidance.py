"""Classifier-free guidance (Ho & Salimans 2022): push a prediction away from what it would be without the prompt.

Both halves run as one batch, the unconditional one first, as in diffusers' unCLIP pipelines. This file alone knows
that order: conditions are paired here and outputs taken apart here.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dallecli.diffusion.schedule import Step

Predict = Callable[[Tensor, Step], Tensor]
"""A net with its conditions bound: noisy sample [b, c, ...] and step to raw output [b, c or 2c, ...]."""

OFF = 1.0
"""The guidance scale that means the conditional prediction alone."""


def pair(unconditional: Tensor, conditional: Tensor) -> Tensor:
    """Stack the conditions of both halves for a guided net: [b, ...] and [b, ...] to [2b, ...]."""
    return torch.cat([unconditional, conditional])


def guided(predict: Predict, scale: float) -> Predict:
    """Guide a net whose conditions are paired; at scale 1 return `predict` itself, whose conditions must not be.

    Mixing is done on the raw outputs in the sample's own dtype: `u + scale (c - u)`. Scale 0 is the unconditional
    prediction. Where the net also predicts variances (twice as many channels as the sample), those of the conditional
    half are kept unmixed, as Karlo's `guided_model_fn` does.
    """
    if scale == OFF:
        return predict

    def mixed(x: Tensor, step: Step) -> Tensor:
        unconditional, conditional = predict(torch.cat([x, x]), step).to(x.dtype).chunk(2)
        channels = x.shape[1]
        u, c = unconditional[:, :channels], conditional[:, :channels]
        mean = u + scale * (c - u)
        if conditional.shape[1] == channels:
            return mean
        return torch.cat([mean, conditional[:, channels:]], dim=1)

    return mixed
