"""Our own dials beside the fields of the API: the values of a prompt line that a client may send, and what they mean.

The device and the number type are the owner's, and none of these names a file.
"""

from collections.abc import Mapping
from typing import Final

from dallecli.limits import CANDIDATES, COUNT_LIMIT, REUSE_LIMIT
from dallecli.server.schema import Schema, flag, number, steps, text, whole, word_or_number
from dallecli.tasks.inpaint import RESAMPLE_LIMIT
from dallecli.tasks.mask import MASK_MODES
from dallecli.tasks.stages import PRIOR_KINDS, RESPACINGS
from dallecli.tasks.task import EFFORTS, SEED_LIMIT

DIALS: Final[Mapping[str, Schema]] = {
    "seed": whole("The first picture's; picture k has this plus k. A random one if there is none.", 0, SEED_LIMIT - 1),
    "steps": steps("Steps of the decoder.", RESPACINGS, 2),
    "guidance": number("How closely the decoder follows the words; 1 is off.", 0),
    "guidance_start": number("The share of the noise that is gone when the decoder's guidance begins.", 0, 1),
    "guidance_stop": number("The share of the noise that is gone when the decoder's guidance ends.", 0, 1),
    "reuse": whole("Of how many steps of the decoder one computes all of it.", 1, REUSE_LIMIT),
    "sampler": text("The decoder's sampler, one of those that the model has."),
    "upsampler_sampler": text("The same for every upsampler."),
    "upsampler_steps": steps("Steps of every upsampler.", RESPACINGS, 2),
    "upsampler_guidance": number("How closely the upsamplers follow the words; 1 is off.", 0),
    "upsampler_guidance_start": number("The same as guidance_start for upsamplers that follow the words.", 0, 1),
    "upsampler_guidance_stop": number("The same as guidance_stop for upsamplers that follow the words.", 0, 1),
    "upsampler_reuse": whole("The same as reuse for every upsampler.", 1, REUSE_LIMIT),
    "effort": text("Fewer or more steps than the model's own.", EFFORTS),
    "strict": flag("Refuse words that the model does not know, and a prompt that it would not read to its end."),
    "prior": text("What makes an image embedding of the words.", PRIOR_KINDS),
    "prior_steps": steps("Steps of the prior.", RESPACINGS, 2),
    "prior_guidance": number("How closely the prior follows the words; 1 is off.", 0),
    "prior_temperature": number("How evenly an autoregressive prior draws its tokens.", 0),
    "prior_top_k": whole("Of how many of the likeliest tokens an autoregressive prior draws; 0 is all.", 0),
    "prior_candidates": whole("Of how many embeddings the best is painted.", 1, CANDIDATES),
    "temperature": number("How evenly a model that writes codes draws them; 0 takes the likeliest.", 0),
    "top_k": whole("Of how many of the likeliest codes is drawn; 0 is all.", 0),
    "top_p": number("Of the likeliest codes with this share together is drawn.", above=0, most=1),
    "negative": text("What guidance leads the pictures away from."),
    "class": word_or_number("What a model without words paints, by its name or its number, in place of a prompt."),
    "best_of": whole("Paint so many, and answer with the n that fit the prompt best.", 1, COUNT_LIMIT),
    "strength": number("How much of a picture is painted over that is edited without a mask.", above=0, most=1),
    "fidelity": number("How close a variation is to its picture: 1 is the picture itself.", 0, 1),
    "inversion_steps": whole("Steps of the inversion that fidelity takes.", 2),
    "resample": whole("How often each step of an inpainting is taken.", 1, RESAMPLE_LIMIT),
    "expand": word_or_number("By how many pixels an edited picture grows: `left=64,top=32`."),
    "mask_mode": text("What a mask marks for painting: what is transparent, or what is white.", MASK_MODES),
    "invert_mask": flag("Paint what the mask does not mark."),
}
