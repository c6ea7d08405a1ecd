"""Classifier-free guidance (Ho & Salimans 2022): move a prediction away from what it would be without the prompt.

Both halves run as one batch, the unconditional one first, as in diffusers' unCLIP pipelines. Only this file knows the
order: it pairs the conditions and splits the outputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dallecli.diffusion.schedule import Step

Predict = Callable[[Tensor, Step], Tensor]
"""A network with its conditions bound: a noisy sample [b c ...] and a step give raw output, [b c ...] or [b 2c ...]."""

OFF = 1.0
"""The guidance scale that means the conditional prediction alone."""


def pair(unconditional: Tensor, conditional: Tensor) -> Tensor:
    """Stack the conditions [b ...] of both halves for a guided network: [2b ...]."""
    return torch.cat([unconditional, conditional])


def guided(predict: Predict, scale: float) -> Predict:
    """Guide a network whose conditions are paired. At scale 1, return `predict` itself, whose conditions are not.

    The raw outputs are mixed in the sample's own dtype: `u + scale (c - u)`. Scale 0 is the unconditional prediction.
    Where the network also predicts variances (twice as many channels as the sample), those of the conditional half are
    kept as they are, as in Karlo's `guided_model_fn`.
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
