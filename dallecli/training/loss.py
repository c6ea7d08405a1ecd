"""What a diffusion network is to predict, and what an error counts at each noise level.

`x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps`; the signal-to-noise ratio is `alpha_bar / (1 - alpha_bar)`. The
schedule says whether a network predicts x_0 ("sample"), eps ("epsilon") or v (Salimans & Ho 2022).
"""

from torch import Tensor

MOST = 5.0
"""The bound on the weight of an error in x_0: gamma of Hang et al. 2023, section 3.4."""


def expected(prediction_type: str, x0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """Return what the network should have said; `alpha_bar` is broadcast against `x0` and `noise`."""
    if prediction_type == "sample":
        return x0
    if prediction_type == "epsilon":
        return noise
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0


def weights(prediction_type: str, alpha_bar: Tensor) -> Tensor:
    """Return the weight of a squared error in the network's own prediction, so that timesteps do not fight each other.

    For x_0 it is min(SNR + 1, 5): clean samples count more, but not without end, and the noisiest, which decide what
    is painted and where, are not forgotten. For v that is the same error in other units. For eps it is
    min(SNR, 5) / SNR: a plus of one would grow without end there.
    """
    snr = alpha_bar / (1 - alpha_bar)
    if prediction_type == "sample":
        return (snr + 1).clamp(max=MOST)
    if prediction_type == "epsilon":
        return snr.clamp(max=MOST) / snr
    return (snr + 1).clamp(max=MOST) / (snr + 1)
