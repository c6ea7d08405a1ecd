"""Our own dials beside the fields of the API."""

from typing import Final

DIALS: Final = (
    *("seed", "steps", "guidance", "sampler", "upsampler_steps", "upsampler_guidance", "effort", "strict"),
    *("prior", "prior_steps", "prior_guidance", "prior_temperature", "prior_top_k", "prior_candidates"),
    *("temperature", "top_k", "top_p", "negative", "class", "best_of", "strength"),
    *("fidelity", "inversion_steps", "resample", "expand", "mask_mode", "invert_mask"),
)
"""The values of a prompt line that a client may send. The device and the number type are the owner's, and none of these
names a file."""
