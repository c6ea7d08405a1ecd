"""What the decoder makes of a small picture: an upsampler that has only seen averages of pictures is misled by it."""

from collections.abc import Callable
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.denoiser import make_denoiser
from dallecli.diffusion.guidance import pair
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import ddim
from dallecli.diffusion.schedule import Schedule, Step
from dallecli.training.batch import Draw, take
from dallecli.training.stages.decoder import DecoderParts
from dallecli.training.states import Captions

PaintOver = Callable[[Tensor, Tensor, Draw], Tensor]
"""From samples [b], their small pictures [b 3 l l] in [-1, 1] and random numbers to what is painted, [b 3 l l]."""

STEPS: Final = 7
"""Steps from noise to a picture; pictures that are painted over start at one between the second and the last but one:
at the first the decoder would paint another picture, and at the last it would change none."""
GUIDANCE: Final = 1.5
"""As the starter paints."""


class Overpainter:
    """Paints over small pictures (SDEdit, Meng et al. 2022), each with its own embedding [n d] and caption."""

    def __init__(self, decoder: DecoderParts, schedule: Schedule, embeddings: Tensor, captions: Captions) -> None:
        self.decoder = decoder
        self.schedule = schedule
        self.embeddings = embeddings
        self.captions = captions

    @torch.no_grad()
    def __call__(self, chosen: Tensor, low: Tensor, draw: Draw) -> Tensor:
        """Return what the decoder makes of `low` [b 3 l l], which shows the samples `chosen` [b]."""
        steps = self.schedule.steps(STEPS)
        steps = steps[1 + int(draw.once() * (STEPS - 2)) :]
        x = steps[0].signal * low + steps[0].sigma * draw.normal(*low.shape[1:])
        denoise = make_denoiser(self._predict(chosen), self.schedule, GUIDANCE)
        return ddim(denoise, x, steps, Noise(range(len(low))), lambda _: None).clamp(-1, 1)

    def _predict(self, chosen: Tensor) -> Callable[[Tensor, Step], Tensor]:
        twice = pair(chosen, chosen)
        drop = torch.arange(len(twice), device=twice.device) < len(chosen)
        text_proj = self.decoder.text_proj
        nothing = text_proj.learned_classifier_free_guidance_embeddings
        image = torch.where(drop[:, None], nothing, take(self.embeddings, twice))
        text = self.captions.states(twice, drop, trim=True)
        mask = F.pad(text.mask, (text_proj.config.clip_extra_context_tokens, 0), value=True)
        condition = text_proj(image, text.embedding, text.hidden)

        def predict(x: Tensor, step: Step) -> Tensor:
            t = torch.full((), step.t, device=x.device)
            out: Tensor = self.decoder.decoder(x, t, condition.context, condition.time, mask)
            return out

        return predict
