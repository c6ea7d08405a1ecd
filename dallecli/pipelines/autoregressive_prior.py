"""Image embeddings of words, written code by code by an autoregressive prior (Ramesh et al. 2022, section 2.2)."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.nets.autoregressive_prior import AutoregressivePrior, AutoregressivePriorConfig, Writing
from dallecli.pipelines.drawing import allowed, drawn, mixed
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.text import EncodedPrompts
from dallecli.pipelines.watch import Watch
from dallecli.tasks.stages import AUTOREGRESSIVE_PRIOR, TokenSettings

PART: Final = AUTOREGRESSIVE_PRIOR.name


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePrior:
    """The autoregressive prior of a model folder."""

    parts: Parts

    @torch.inference_mode()
    def draw(
        self, words: EncodedPrompts, noise: Noise, dials: TokenSettings, watch: Watch, *, also_negative: bool
    ) -> Tensor:
        """Embeddings [b 1 d] of the prompts, or [b 2 d], in which those of the negative prompt come second.

        Each picture draws three things: how well it is to fit, from the better half of what the training data had, as
        in the paper; then its codes; then the place within each bucket, so that no number lies on a grid. Both
        embeddings of a picture are made from the same draws.
        """
        each = 2 if also_negative else 1
        read = words.with_negative() if also_negative else words
        rows = read.rows(each * len(noise), dials.guidance != OFF)
        config = self.parts.config(PART, AutoregressivePriorConfig.from_config)
        fits, codes, inside = (
            noise.uniform((count,), self.parts.device).repeat_interleave(each, dim=0)
            for count in (1, config.num_codes, config.num_codes)
        )

        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            prior = self._net(dtype)
            captions = prior.read(read.embedding.to(dtype), read.hidden.to(dtype), read.mask)
            better = config.num_fits // 2 + (fits[:, 0] * (config.num_fits - config.num_fits // 2)).long()
            writing = _Guided(prior, prior.begin(captions, rows), dials)
            written = writing.all(better, codes, watch)
            embeddings = prior.codebook.decode(written, inside).view(len(noise), each, -1)
            return embeddings, (writing.healthy & embeddings.isfinite().flatten(0, 1).all(dim=1)).view(-1, each).all(1)

        return self.parts.finite(AUTOREGRESSIVE_PRIOR.spoken, None, run)

    def _net(self, dtype: torch.dtype) -> AutoregressivePrior:
        return self.parts.net(
            PART, lambda json: AutoregressivePrior(AutoregressivePriorConfig.from_config(json)), dtype
        )


class _Guided:
    """Writes codes with guidance: without it, every sample is written once, and else once more without its words."""

    def __init__(self, prior: AutoregressivePrior, writing: Writing, dials: TokenSettings) -> None:
        self._prior = prior
        self._writing = writing
        self._dials = dials
        self.healthy = torch.ones((), dtype=torch.bool)
        """[b], whether all logits of a sample were finite."""

    def all(self, fits: Tensor, chances: Tensor, watch: Watch) -> Tensor:
        """The codes [b k] of samples with these fits [b], drawn with these chances [b k]."""
        guided = self._dials.guidance != OFF
        # What is not told the caption must not be told how well the picture fits it.
        last = torch.cat([torch.full_like(fits, self._prior.config.num_fits), fits]) if guided else fits
        codes: list[Tensor] = []
        for place in range(chances.shape[1]):
            logits, self._writing = self._prior.write(self._writing, last)
            if guided:
                without, within = logits.chunk(2)
                logits = mixed(without, within, self._dials.guidance)
            self.healthy = self.healthy.to(logits.device) & logits.isfinite().all(dim=1)
            codes.append(drawn(allowed(logits.nan_to_num(), self._dials), chances[:, place]))
            last = codes[-1].repeat(2) if guided else codes[-1]
            watch(PART, place + 1, chances.shape[1])
        return torch.stack(codes, dim=1)
