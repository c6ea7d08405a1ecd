"""The stage that trains the prior: from a caption's text states, take the noise off its picture's embedding.

Ramesh et al. 2022, section 2.2: the network predicts the clean embedding itself, with a mean-squared error, and
the text is dropped from one sample in ten so that guidance works.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.diffusion.schedule import Schedule
from dallecli.nets.attention import SelfAttention
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.training.batch import Draw, take
from dallecli.training.conditions import Conditions, deviations
from dallecli.training.loop import TrainingRun
from dallecli.training.loss import expected
from dallecli.training.stages.stage import Material, trained_schedule

BESIDE, FAINT = 2.0, 0.1
"""How large the constant is beside an embedding of size 1, and how much is left of a fresh block (`pass_through`)."""
FOUND, PASSED = 8.0, 0.6
"""The logit of the noised embedding in the first block, beside which that of any other token is small; and the share
of it that a fresh prior predicts, which is about the best one share of all timesteps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorLesson:
    """How the prior is taught; the defaults are the paper's where it has any.

    caption_dropout: the share of samples that are trained with the empty caption, for guidance. scale: the paper
    multiplies embeddings of unit length by 17.2, so that schedules made for pictures suit them; given here, that is
    what is done. Without it every dimension gets mean 0 and deviation 1 over the data, as in published priors.
    """

    caption_dropout: float = 0.1
    scale: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}, expected a share from 0 to 1")
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}, expected a number above 0")


class PriorObjective:
    """The mean-squared error of the predicted, normalised image embedding."""

    name = "prior"

    def __init__(
        self, prior: PriorTransformer, schedule: Schedule, conditions: Conditions, held_out: int, lesson: PriorLesson
    ) -> None:
        """Train on what CLIP says about pictures and captions, but for the last `held_out`, which validate.

        How embeddings are normalised is decided here, and becomes the prior's `clip_mean` and `clip_std`.
        """
        normalise_by(prior, conditions.images, lesson)
        pass_through(prior, deviations(conditions.images) / prior.clip_std[0])
        prior.clip_mean.requires_grad_(False)
        prior.clip_std.requires_grad_(False)
        self.lesson = lesson
        self.module = prior
        self.prior = prior
        self.schedule = schedule
        self.alpha_bars = schedule.alpha_bars.to(prior.clip_mean.device)
        self.embeddings = conditions.images
        self.captions = conditions.captions
        self.count = len(self.embeddings) - held_out

    def loss(self, draw: Draw) -> Tensor:
        """Return the error at random timesteps."""
        return self._loss(draw.integers(self.count), draw)

    def _loss(self, chosen: Tensor, draw: Draw) -> Tensor:
        t = draw.timesteps(len(self.alpha_bars))
        drop = draw.uniform() < self.lesson.caption_dropout
        return self._error(chosen, t, drop, draw).mean()

    def _error(self, chosen: Tensor, t: Tensor, drop: Tensor, draw: Draw) -> Tensor:
        x0 = (take(self.embeddings, chosen) - self.prior.clip_mean) / self.prior.clip_std
        noise = draw.normal(x0.shape[-1])
        alpha_bar = self.alpha_bars[t][:, None]
        x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
        text = self.captions.states(chosen, drop, trim=True)
        predicted = self.prior(x, t, text.embedding, text.hidden, text.mask)
        wanted = expected(self.schedule.prediction_type, x0, noise, alpha_bar)
        return F.mse_loss(predicted.float(), wanted, reduction="none").mean(dim=-1)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the held-out loss, and the held-out error at four noise levels (1.0 is knowing nothing)."""
        device = self.alpha_bars.device
        chosen = torch.arange(self.count, len(self.embeddings), device=device)[:512]
        keep = torch.zeros(len(chosen), dtype=torch.bool, device=device)
        figures = {"held_out": float(self._loss(chosen, Draw(0, len(chosen), device)))}
        for level in (990, 750, 500, 250):
            t = torch.full((len(chosen),), level, device=device)
            figures[f"mse_{level}"] = float(self._error(chosen, t, keep, Draw(level, len(chosen), device)).mean())
        return figures

    def samples(self) -> None:
        """There is nothing to see."""


@torch.no_grad()
def pass_through(prior: PriorTransformer, spread: Tensor) -> None:
    """Let a fresh prior predict a part of the noised embedding itself, if it is as wide as an embedding.

    All that is not noise is in there, and nothing leads around the network: a fresh prior has to learn to copy first.
    Here the noised embedding's position is a constant beside it, by which the first block finds it, and which keeps
    norms all but linear; the last token is given the embedding; and all else begins as a tenth of itself.

    `spread` [d] are the deviations of normalised embeddings: of a number that differs little, most is noise.
    """
    d, width = prior.config.embedding_dim, prior.config.width
    if width < d:
        return
    constant = torch.ones(width).index_fill(0, torch.randperm(width)[: width // 2], -1.0).to(prior.clip_mean)
    prior.positional_embedding[:, -2] = BESIDE * constant
    _identity(prior.proj_in, 1.0)
    for name, weight in prior.transformer_blocks.named_parameters():
        if name.endswith(("to_q.weight", "to_out.0.weight", "net.2.weight")):
            weight.mul_(FAINT)
    first = prior.transformer_blocks[0].get_submodule("attn1")
    assert isinstance(first, SelfAttention)  # for the type checker
    size = (d / width + BESIDE**2) ** 0.5
    _identity(first.to_v, size)
    first.to_v.bias.copy_(-BESIDE * constant)
    _identity(first.to_out.get_submodule("0"), 1.0)
    head = width // first.heads
    loud = (FOUND * head**0.5 * size / BESIDE) ** 0.5
    first.to_k.weight[::head] = loud * constant / width
    first.to_q.bias[::head] = loud
    _identity(prior.proj_to_clip_embeddings, (d / width) ** 0.5)
    share = PASSED * 2 * spread**2 / (spread**2 + 1)
    prior.proj_to_clip_embeddings.weight *= share[:, None]


def _identity(layer: nn.Module, gain: float) -> None:
    """Let a layer multiply what goes into it, as far as it is as wide."""
    assert isinstance(layer, nn.Linear)  # for the type checker
    nn.init.eye_(layer.weight).mul_(gain)
    nn.init.zeros_(layer.bias)


@torch.no_grad()
def normalise_by(prior: PriorTransformer, embeddings: Tensor, lesson: PriorLesson) -> None:
    """Set how a prior normalises embeddings by those of the data, [n d]."""
    if lesson.scale is None:
        prior.clip_mean.copy_(embeddings.mean(dim=0, keepdim=True))
        prior.clip_std.copy_(deviations(embeddings)[None])
    else:
        prior.clip_mean.zero_()
        prior.clip_std.fill_(float(embeddings.norm(dim=-1).mean()) / lesson.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorStage:
    """The prior from its config and its scheduler's."""

    name: ClassVar[str] = "prior"
    seed: ClassVar[int] = 2
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("clip",)
    prior: dict[str, Any]
    scheduler: dict[str, Any]
    lesson: PriorLesson

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The network and its scheduler."""
        return {"prior": self.prior, "prior_scheduler": self.scheduler}

    def fresh(self) -> PriorTransformer:
        """Return the network with fresh weights."""
        prior = PriorTransformer(PriorConfig.from_config(self.prior))
        nn.init.normal_(prior.positional_embedding, std=0.02)
        nn.init.normal_(prior.prd_embedding, std=0.02)
        return prior

    def networks(self, module: PriorTransformer) -> dict[str, nn.Module]:
        """Return the network."""
        return {"prior": module}

    def objective(self, module: PriorTransformer, material: Material) -> PriorObjective:
        """Return what the prior minimises."""
        schedule = trained_schedule(self.scheduler, "prior_scheduler")
        return PriorObjective(module, schedule, material.conditions(), material.dataset.held_out, self.lesson)

    def adapt(self, module: PriorTransformer, material: Material) -> None:
        """Normalise by the data where the embeddings are no longer those of the model that training started from."""
        if material.clip_trained:
            normalise_by(module, material.conditions().images, self.lesson)

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
