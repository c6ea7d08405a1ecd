"""The stage that trains the transformer of one stream: tell the next token of a caption or code of a picture.

Ramesh et al. 2021, section 2.2 and appendix B: both losses are cross-entropies, and that of the text has an eighth of
the weight, because the picture is what is wanted. Unlike there, the caption is dropped from some samples, so that
guidance works.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.dvae import CHANNELS, unsqueeze
from dallecli.nets.gpt import Gpt, GptConfig
from dallecli.training.batch import Draw, choose, take
from dallecli.training.dataset import Dataset, Examples
from dallecli.training.loop import TrainingRun
from dallecli.training.stages.dvae import DvaeParts, DvaeStage
from dallecli.training.stages.stage import Material

SHOWN: Final = 32
"""Held-out captions that a sheet shows painted."""
VALIDATED: Final = 512
"""Held-out samples that are measured."""
TOGETHER: Final = 64
"""Samples that are measured at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerLesson:
    """How the transformer is taught.

    caption_dropout: the share of samples that are trained with the empty caption. text_weight: the weight of the text's
    loss; the codes have the rest.
    """

    caption_dropout: float = 0.1
    text_weight: float = 1 / 8

    def __post_init__(self) -> None:
        for name in ("caption_dropout", "text_weight"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 up to 1")


class TransformerObjective:
    """The weighted cross-entropies of text tokens and codes, in nats."""

    name = "transformer"

    def __init__(
        self, gpt: Gpt, dvae: DvaeParts, examples: Examples, dataset: Dataset, lesson: TransformerLesson
    ) -> None:
        """Train on captions and what a trained autoencoder makes of their pictures, but for the held-out ones."""
        self.module = gpt
        self.gpt = gpt
        self.dvae = dvae
        self.examples = examples
        self.ids, self.empty = dataset.ids, dataset.empty
        self.lesson = lesson
        self.count = len(examples.pictures) - examples.held_out
        # Pictures are encoded when they are first drawn; an epoch later that costs nothing.
        self._codes = torch.full((len(examples.pictures), gpt.config.ctx_len_img), -1, dtype=torch.int32)

    def codes(self, rows: Tensor) -> Tensor:
        """Return the codes [b n] of the pictures in some rows [b]."""
        places = rows.cpu()
        unknown = torch.unique(places[self._codes[places, 0] < 0])
        for some in torch.split(unknown, TOGETHER) if len(unknown) else ():
            pictures = take(self.examples.pictures, some.to(rows.device))
            self._codes[some] = self.dvae.codes(pictures).flatten(1).int().cpu()
        return self._codes[places].long().to(rows.device)

    def loss(self, draw: Draw) -> Tensor:
        """Return the weighted cross-entropy of random samples."""
        rows = choose(self.count, draw, self.examples.emphasis)
        text, codes = self._nats(rows, draw.uniform() < self.lesson.caption_dropout)
        return self.lesson.text_weight * text.mean() + (1 - self.lesson.text_weight) * codes.mean()

    def _nats(self, rows: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
        """The cross-entropies of text tokens [b t-1] and codes [b n]."""
        text, codes = torch.where(drop[:, None], self.empty, self.ids[rows]), self.codes(rows)
        of_text, of_codes = self.gpt(text, codes)
        return (
            F.cross_entropy(of_text.transpose(1, 2).float(), text[:, 1:], reduction="none"),
            F.cross_entropy(of_codes.transpose(1, 2).float(), codes, reduction="none"),
        )

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the nats a code of held-out pictures with their captions and without, and the nats a text token."""
        last = min(VALIDATED, self.examples.held_out)
        rows = torch.arange(self.count, self.count + last, device=self.ids.device)
        keep = torch.zeros(TOGETHER, dtype=torch.bool, device=rows.device)
        told = [self._nats(part, keep[: len(part)]) for part in torch.split(rows, TOGETHER)]
        untold = [self._nats(part, ~keep[: len(part)])[1] for part in torch.split(rows, TOGETHER)]
        return {
            "held_out": float(torch.cat([codes for _, codes in told]).mean()),
            "untold": float(torch.cat(untold).mean()),
            "text": float(torch.cat([text for text, _ in told]).mean()),
        }

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Return pictures of the first held-out captions, each code drawn as likely as the network says."""
        text = self.ids[self.count :][:SHOWN]
        generator = torch.Generator(text.device).manual_seed(0)
        logits, cache = self.gpt.read(text)
        codes: list[Tensor] = []
        for place in range(self.gpt.config.ctx_len_img):
            codes.append(torch.multinomial(logits.float().softmax(dim=1), 1, generator=generator)[:, 0])
            if place + 1 < self.gpt.config.ctx_len_img:
                logits = self.gpt.write(codes[-1], place, cache)
        side = math.isqrt(self.gpt.config.ctx_len_img)
        stats = self.dvae.decoder(torch.stack(codes, dim=1).view(-1, side, side))
        return unsqueeze(stats[:, :CHANNELS].sigmoid()) * 2 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerStage:
    """The transformer from its config.

    size: the side in pixels of the pictures whose codes it writes. vocab_size: returns how many text tokens there are,
    where its config does not say it.
    """

    name: ClassVar[str] = "transformer"
    seed: ClassVar[int] = 23
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = (DvaeStage.name,)
    transformer: dict[str, Any]
    size: int
    lesson: TransformerLesson
    vocab_size: Callable[[], int] | None = None

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The network."""
        tokens = {} if self.vocab_size is None else {"vocab_size_txt": self.vocab_size()}
        return {"decoder": {**self.transformer, **tokens}}

    def fresh(self) -> Gpt:
        """Return the network with fresh weights, of deviation 0.02; what is added to the stream begins smaller."""
        gpt = Gpt(GptConfig.from_config(self.configs["decoder"]))
        for key, weight in gpt.named_parameters():
            if weight.ndim == 2:
                added = key.endswith(("attn.proj.weight", "mlp.2.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * gpt.config.n_layers) if added else 0.02)
            elif key.endswith("bias"):
                nn.init.zeros_(weight)
        return gpt

    def networks(self, module: Gpt) -> dict[str, nn.Module]:
        """Return the network."""
        return {"decoder": module}

    def objective(self, module: Gpt, material: Material) -> TransformerObjective:
        """Return what the transformer minimises."""
        dvae = material.trained(DvaeStage.name)
        assert isinstance(dvae, DvaeParts)  # for the type checker: that is what its stage makes
        examples = material.dataset.examples(self.name, self.size)
        return TransformerObjective(module, dvae, examples, material.dataset, self.lesson)

    def adapt(self, module: Gpt, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
