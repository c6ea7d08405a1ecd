"""Classifier guidance (Dhariwal & Nichol 2021, section 4): lead a sample along the gradient of a classifier.

`gradient` is that of the log probability of the wanted class, times the guidance scale, at the noisy sample. The
posterior's mean is moved by its variance times that (algorithm 1); for every other sampler the predicted noise is
changed (algorithm 2): `eps - sigma gradient`. The clean sample that follows is not clipped again, as in the published
code.
"""

from collections.abc import Callable

from torch import Tensor

from dallecli.diffusion.denoiser import Denoiser, Guess, Lead
from dallecli.diffusion.schedule import Step

Gradient = Callable[[Tensor, Step], Tensor]
"""From a noisy sample [b c ...] and its step to the direction [b c ...] in which it is led."""


def led(denoise: Denoiser, gradient: Gradient) -> Denoiser:
    """A denoiser whose samples a classifier leads."""

    def guess(x: Tensor, step: Step) -> Guess:
        own = denoise(x, step)
        towards = gradient(x, step).to(x.dtype)
        eps = own.eps - step.sigma * towards
        x0 = (x - step.sigma * eps) / step.signal
        return Guess(x0, eps, own.variance, lead=Lead(own.x0, towards))

    return guess
