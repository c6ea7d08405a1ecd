"""Training the prior: from a caption's text states, take the noise off its picture's embedding.

Ramesh et al. 2022, section 2.2: the network predicts the clean embedding itself, with a mean-squared error, and
the text is dropped from one sample in ten so that guidance works.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dallecli.diffusion.schedule import Schedule
from dallecli.nets.prior import PriorTransformer
from dallecli.training.states import Captions

TEXT_DROP = 0.1


class PriorObjective:
    """The mean-squared error of the predicted, normalised image embedding."""

    name = "prior"

    def __init__(
        self, prior: PriorTransformer, schedule: Schedule, embeddings: Tensor, captions: Captions, held_out: int
    ) -> None:
        """Train on `embeddings` [n d] and their `captions`, but for the last `held_out`, which validate.

        The mean and deviation of the embeddings become the prior's `clip_mean` and `clip_std`.
        """
        with torch.no_grad():
            prior.clip_mean.copy_(embeddings.mean(dim=0, keepdim=True))
            prior.clip_std.copy_(embeddings.std(dim=0, keepdim=True))
        prior.clip_mean.requires_grad_(False)
        prior.clip_std.requires_grad_(False)
        self.module = prior
        self.prior = prior
        self.alpha_bars = schedule.alpha_bars.to(embeddings.device)
        self.embeddings = (embeddings - prior.clip_mean) / prior.clip_std
        self.captions = captions
        self.count = len(embeddings) - held_out

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the error at random timesteps."""
        device = self.embeddings.device
        chosen = torch.randint(self.count, (batch,), generator=generator, device=device)
        t = stratified(batch, len(self.alpha_bars), generator)
        drop = torch.rand(batch, generator=generator, device=device) < TEXT_DROP
        return self._error(chosen, t, drop, generator).mean()

    def _error(self, chosen: Tensor, t: Tensor, drop: Tensor, generator: torch.Generator) -> Tensor:
        x0 = self.embeddings[chosen]
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        alpha_bar = self.alpha_bars[t][:, None]
        x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        text = self.captions.states(chosen, drop, trim=True)
        predicted = self.prior(x, t, text.embedding, text.hidden, text.mask)
        return F.mse_loss(predicted.float(), x0, reduction="none").mean(dim=-1)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the held-out error at four noise levels (1.0 is knowing nothing)."""
        device = self.embeddings.device
        chosen = torch.arange(self.count, len(self.embeddings), device=device)[:512]
        keep = torch.zeros(len(chosen), dtype=torch.bool, device=device)
        figures = {}
        for level in (990, 750, 500, 250):
            generator = torch.Generator(device).manual_seed(level)
            t = torch.full((len(chosen),), level, device=device)
            figures[f"mse_{level}"] = float(self._error(chosen, t, keep, generator).mean())
        return figures

    def samples(self) -> None:
        """There is nothing to see."""


def stratified(batch: int, steps: int, generator: torch.Generator, power: float = 1.0) -> Tensor:
    """Return timesteps [batch], one from each of `batch` equal slices of the schedule, in random order.

    With `power` below 1 the slices crowd towards the noisy end: u uniform in [0, 1) becomes u ** power.
    """
    device = generator.device
    u = (torch.arange(batch, device=device) + torch.rand(batch, generator=generator, device=device)) / batch
    t = (u**power * steps).long().clamp(max=steps - 1)
    return t[torch.randperm(batch, generator=generator, device=device)]
