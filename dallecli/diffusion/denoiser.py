"""From a network to a Denoiser, which is all that a sampler sees.

The order is fixed, because clipping is not linear: the network, guidance on its raw outputs, the prediction type's
formula for the clean sample, what is known of that, clipping. Letters are those of schedule.py, and
`v = signal eps - sigma x0` (Salimans & Ho 2022).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dallecli.diffusion.guidance import OFF, Predict, guided
from dallecli.diffusion.schedule import Schedule, Step


@dataclass(frozen=True, slots=True)
class Guess:
    """What a denoiser predicts from a noisy sample: `signal x0 + sigma eps` is that sample again, clipped or not."""

    x0: Tensor
    """The clean sample [b c ...]."""
    eps: Tensor
    """The noise [b c ...]."""
    variance: Tensor | None
    """[b c ...], places the log-variance of the next step between its two bounds: -1 is the smaller, 1 the larger
    (Nichol & Dhariwal 2021, eq. 15). None if the network does not predict it."""
    unclipped: Tensor | None = None
    """The noise [b c ...] as it was before x0 was clipped, where the schedule has `ddim` go on with that."""
    lead: "Lead | None" = None
    """Of a sample that a classifier leads: `x0` and `eps` are led, and `ancestral` is led in another way."""

    @property
    def carried(self) -> Tensor:
        """The noise [b c ...] that `ddim` goes on with."""
        return self.eps if self.unclipped is None else self.unclipped


@dataclass(frozen=True, slots=True)
class Lead:
    """What `ancestral` needs of classifier guidance; see classifier.py."""

    x0: Tensor
    """The clean sample [b c ...] that the network itself predicts."""
    gradient: Tensor
    """[b c ...], along which the mean of the next step is moved, times that step's variance."""


Denoiser = Callable[[Tensor, Step], Guess]


def make_denoiser(
    predict: Predict, schedule: Schedule, guidance: float = OFF, known: Callable[[Tensor], Tensor] | None = None
) -> Denoiser:
    """Make a Denoiser of a network with its conditions bound (paired, unless guidance is 1; see guidance.py).

    `known` takes every clean sample [b c ...], before it is clipped, and returns it with the part that is known put in.

    It raises ValueError at the first step if the network's channels are neither those of the sample nor twice as many,
    or if the schedule expects a learned variance and the network predicts none.
    """
    predict = guided(predict, guidance)
    to_x0 = _TO_X0[schedule.prediction_type]
    learned = schedule.variance_type == "learned_range"
    clip = _clip(schedule)

    def denoise(x: Tensor, step: Step) -> Guess:
        output = predict(x, step).to(x.dtype)
        prediction, variance = _split(output, x.shape[1])
        if learned and variance is None:
            raise ValueError("the schedule learns its variance, but the net predicts none")
        x0 = to_x0(x, prediction, step)
        if known is not None:
            x0 = known(x0)
        unclipped = None
        if clip is not None:
            if schedule.keeps_noise:
                unclipped = (x - step.signal * x0) / step.sigma
            x0 = clip(x0)
        eps = (x - step.signal * x0) / step.sigma
        return Guess(x0, eps, variance if learned else None, unclipped)

    return denoise


def _clip(schedule: Schedule) -> Callable[[Tensor], Tensor] | None:
    """What keeps clean samples [b ...] within their range; None if nothing does."""
    threshold, clip_range = schedule.threshold, schedule.clip_range
    if threshold is not None and threshold.most > 1:
        return threshold
    if threshold is not None:  # divided by 1: the quantile would be found for nothing
        clip_range = 1.0
    return None if clip_range is None else partial(torch.clamp, min=-clip_range, max=clip_range)


def _split(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    if output.shape[1] == channels:
        return output, None
    if output.shape[1] == 2 * channels:
        prediction, variance = output.chunk(2, dim=1)
        return prediction, variance
    raise ValueError(f"the net returned {output.shape[1]} channels for a sample of {channels}")


def _from_epsilon(x: Tensor, eps: Tensor, step: Step) -> Tensor:
    return (x - step.sigma * eps) / step.signal


def _from_sample(x: Tensor, x0: Tensor, step: Step) -> Tensor:
    return x0


def _from_v(x: Tensor, v: Tensor, step: Step) -> Tensor:
    return step.signal * x - step.sigma * v


_TO_X0: dict[str, Callable[[Tensor, Tensor, Step], Tensor]] = {
    "epsilon": _from_epsilon,
    "sample": _from_sample,
    "v_prediction": _from_v,
}
