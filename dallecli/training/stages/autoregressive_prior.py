"""The stage that trains the autoregressive prior: tell the codes of a picture's embedding from its caption.

Ramesh et al. 2022, section 2.2: embeddings become codes by principal components and buckets, the network is told how
well picture and caption fit, and the caption is dropped from one sample in ten so that guidance works.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig
from dallecli.training.batch import Draw, take
from dallecli.training.conditions import Conditions
from dallecli.training.loop import TrainingRun
from dallecli.training.stages.stage import Material
from dallecli.training.states import BatchStates

TAILS: Final = 0.0005
"""The share of the data below the lowest bucket of a component, and above the highest one."""
MEASURED: Final = 100_000
"""The most samples from which components and buckets are found: numbers of that precision need no more."""
GROUPS: Final = {"first_8": slice(0, 8), "to_32": slice(8, 32), "rest": slice(32, None)}
"""Groups of codes whose figures are reported: the first ones carry most of an embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoregressivePriorLesson:
    """How the autoregressive prior is taught.

    caption_dropout: the share of samples that are trained with the empty caption, for guidance (the paper's).
    """

    caption_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}, expected a share from 0 to 1")


class AutoregressivePriorObjective:
    """The mean cross-entropy of the codes, in nats a code."""

    name = "autoregressive_prior"

    def __init__(
        self, prior: AutoregressivePrior, conditions: Conditions, held_out: int, lesson: AutoregressivePriorLesson
    ) -> None:
        """Train on what CLIP says about pictures and captions, but for the last `held_out`, which validate.

        What the codes mean is decided here, by the data.
        """
        self.lesson = lesson
        self.module = prior
        self.prior = prior
        self.embeddings = conditions.images
        self.captions = conditions.captions
        self.count = len(self.embeddings) - held_out
        quantise_by(prior, conditions, self.count)

    def loss(self, draw: Draw) -> Tensor:
        """Return the cross-entropy of random samples."""
        chosen = draw.integers(self.count)
        return self._nats(chosen, draw.uniform() < self.lesson.caption_dropout).mean()

    def _nats(self, chosen: Tensor, drop: Tensor) -> Tensor:
        """The cross-entropy [b k] of every code."""
        embeddings = take(self.embeddings, chosen)
        text = self.captions.states(chosen, drop, trim=True)
        fits = self.prior.fits(F.cosine_similarity(embeddings, text.embedding))
        fits = torch.where(drop, self.prior.config.num_fits, fits)
        codes = self.prior.codebook.encode(embeddings)
        logits = self.prior(codes, fits, text.embedding, text.hidden, text.mask)
        return F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the nats a code on held-out samples: of all, of groups, and of a prior that knows no captions."""
        chosen = torch.arange(self.count, len(self.embeddings), device=self.prior.fit_edges.device)[:512]
        keep = torch.zeros(len(chosen), dtype=torch.bool, device=chosen.device)
        nats = torch.cat(
            [self._nats(*part) for part in zip(torch.split(chosen, 64), torch.split(keep, 64), strict=True)]
        )
        figures = {"held_out": float(nats.mean())}
        figures |= {name: float(nats[:, where].mean()) for name, where in GROUPS.items() if nats[:, where].numel()}
        return figures

    def samples(self) -> None:
        """There is nothing to see."""


@torch.no_grad()
def quantise_by(prior: AutoregressivePrior, conditions: Conditions, count: int) -> None:
    """Set what a prior's codes mean, and its buckets of fits, by the first `count` samples of the data."""
    device = prior.fit_edges.device
    chosen = torch.arange(0, count, max(1, math.ceil(count / MEASURED)), device=device)
    embeddings = take(conditions.images, chosen).double()
    book = prior.codebook
    mean = embeddings.mean(dim=0, keepdim=True)
    variances, directions = torch.linalg.eigh((embeddings - mean).T @ (embeddings - mean) / len(embeddings))
    book.mean.copy_(mean)
    book.basis.copy_(directions.flip(1)[:, : len(book.basis)].T)
    book.std.copy_(variances.flip(0)[: len(book.std)].clamp(min=1e-12).sqrt())
    components = ((embeddings - mean) @ book.basis.double().T).sort(dim=0).values
    tail = min(int(TAILS * len(components)), (len(components) - 1) // 2)
    book.low.copy_(components[tail])
    # Never a bucket without width, whatever the data.
    book.high.copy_(torch.maximum(components[-1 - tail], components[tail] + 1e-3 * book.std))
    fits = torch.cat([_cosines(conditions, part) for part in torch.split(chosen[: 16 * 1024], 1024)])
    shares = torch.arange(1, prior.config.num_fits, device=device) / prior.config.num_fits
    prior.fit_edges.copy_(torch.quantile(fits, shares))


def _cosines(conditions: Conditions, chosen: Tensor) -> Tensor:
    text: BatchStates = conditions.captions.states(chosen, torch.zeros_like(chosen, dtype=torch.bool), trim=True)
    return F.cosine_similarity(take(conditions.images, chosen), text.embedding)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoregressivePriorStage:
    """The autoregressive prior from its config."""

    name: ClassVar[str] = "autoregressive_prior"
    seed: ClassVar[int] = 12
    optional: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("clip",)
    prior: dict[str, Any]
    lesson: AutoregressivePriorLesson

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The network."""
        return {"autoregressive_prior": self.prior}

    def fresh(self) -> AutoregressivePrior:
        """Return the network with fresh weights."""
        prior = AutoregressivePrior(AutoregressivePriorConfig.from_config(self.prior))
        nn.init.normal_(prior.positional_embedding, std=0.02)
        for layer in (prior.code_embedding, prior.fit_embedding):
            nn.init.normal_(layer.weight, std=0.02)
        # At first every code is as the data are: of mean 0 and deviation 1.
        for last in (prior.to_normal, prior.to_means, prior.to_corrections):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        return prior

    def networks(self, module: AutoregressivePrior) -> dict[str, nn.Module]:
        """Return the network."""
        return {"autoregressive_prior": module}

    def objective(self, module: AutoregressivePrior, material: Material) -> AutoregressivePriorObjective:
        """Return what the prior minimises."""
        return AutoregressivePriorObjective(module, material.conditions(), material.dataset.held_out, self.lesson)

    def adapt(self, module: AutoregressivePrior, material: Material) -> None:
        """Quantise by the data where the embeddings are no longer those of the model that training started from."""
        if material.clip_trained:
            conditions = material.conditions()
            quantise_by(module, conditions, len(conditions.images) - material.dataset.held_out)

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
