"""Image embeddings of words, for every unCLIP family: by a diffusion prior, another kind of prior, or none.

Ramesh et al. 2022: section 2.2 describes two kinds of prior, and section 5.1 what happens without one.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.nets.conditions import Place, row_at
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.pipelines.autoregressive_prior import CodePrior
from dallecli.pipelines.embedding import Embedding, cosine
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PriorSettings
from dallecli.pipelines.stage import Diffusion, Nets, Run, sample
from dallecli.pipelines.text import EncodedPrompts
from dallecli.pipelines.watch import Watch
from dallecli.tasks.stages import DiffusionSettings, TokenSettings
from dallecli.weights.shards import file_with


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """The priors of a model folder, which make embeddings in the space of its CLIP."""

    parts: Parts
    space: str

    def imagine(
        self, words: EncodedPrompts, noise: Noise, settings: PriorSettings, watch: Watch, *, also_negative: bool = False
    ) -> tuple[Embedding, Tensor]:
        """Draw several image embeddings a picture, and keep the one [b d] with the highest cosine to its text.

        That cosine [b] is returned as well. The paper compares dot products of unit vectors; CLIP's own vectors differ
        in length. If the picture is to be like another one, the cosine to that one counts as much as the cosine to the
        text. With `also_negative` the prior makes an embedding of the negative prompt beside each candidate, from the
        same draws, and that of the kept one is in `away`, as in diffusers' KandinskyV22PriorPipeline.
        """
        candidates, like = settings.candidates, settings.like
        rivals = noise.rivals(candidates)
        drawn = self._draw(words, rivals, settings, watch, also_negative=also_negative)
        own = Embedding(vector=drawn[:, 0], space=self.space)
        fit = _fit(own, Embedding(vector=words.embedding[1:], space=self.space), candidates)
        merit = fit if like is None else fit + _fit(own, like, candidates)
        best = merit.argmax(dim=1)
        pictures = torch.arange(len(noise), device=drawn.device)
        kept = drawn.view(len(noise), candidates, *drawn.shape[1:])[pictures, best]
        away = kept[:, 1] if also_negative else None
        return Embedding(vector=kept[:, 0], space=self.space, away=away), fit[pictures, best]

    def _draw(
        self, words: EncodedPrompts, noise: Noise, settings: PriorSettings, watch: Watch, *, also_negative: bool
    ) -> Tensor:
        match settings.dials:
            case DiffusionSettings() as dials:
                return DiffusionPrior(parts=self.parts).draw(words, noise, dials, watch, also_negative=also_negative)
            case TokenSettings() as dials:
                return CodePrior(parts=self.parts).draw(words, noise, dials, watch, also_negative=also_negative)
            case None:
                return self._text_embeddings(words, len(noise), also_negative=also_negative)

    def _text_embeddings(self, words: EncodedPrompts, count: int, *, also_negative: bool) -> Tensor:
        """The text embeddings themselves, [b 1 d] or [b 2 d], as long as image embeddings are, if a prior tells that.

        CLIP compares directions, and the lengths of what its two towers make differ; a decoder has seen one of them.
        """
        read = words.with_negative() if also_negative else words
        each = 2 if also_negative else 1
        vectors = read.embedding[read.rows(each * count, paired=False)]
        if "prior" in self.parts.folder.parts:
            vectors = F.normalize(vectors, dim=-1).mul(_length_of_images(self.parts).to(vectors))
        return vectors.view(count, each, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionPrior:
    """The diffusion prior of a model folder."""

    parts: Parts

    def draw(
        self, words: EncodedPrompts, noise: Noise, dials: DiffusionSettings, watch: Watch, *, also_negative: bool
    ) -> Tensor:
        """Embeddings [b 1 d], or [b 2 d], in which those of the negative prompt come second."""
        each = 2 if also_negative else 1
        read = words.with_negative() if also_negative else words
        config = self.parts.config("prior", PriorConfig.from_config)

        def nets(run: Run) -> Nets:
            dtype = run.dtype
            prior, rows = self._net(dtype), read.rows(each * len(noise), run.paired)
            text = prior.read(read.embedding.to(dtype), read.hidden.to(dtype), read.mask)
            times = torch.tensor(run.ts, device=self.parts.device)

            def predict(x: Tensor, place: Place) -> Tensor:
                flat = x.to(dtype).reshape(-1, x.shape[-1])
                return prior.answer(flat, row_at(times, place), text, rows[-len(flat) :]).view(x.shape)

            return predict, None

        diffusion = Diffusion(
            stage="prior",
            shape=(config.embedding_dim,) if each == 1 else (each, config.embedding_dim),
            schedule=self.parts.schedule("prior_scheduler"),
            nets=nets,
        )
        standard = sample(self.parts, diffusion, dials, noise, watch)
        # The prior works on embeddings of mean 0 and deviation 1.
        prior = self._net(self.parts.dtype)
        return (standard * prior.clip_std + prior.clip_mean).view(len(noise), each, -1)

    def _net(self, dtype: torch.dtype) -> PriorTransformer:
        return self.parts.net("prior", lambda json: PriorTransformer(PriorConfig.from_config(json)), dtype)


def _length_of_images(parts: Parts) -> Tensor:
    """How long image embeddings are, in the mean of squares: the diffusion prior knows it of its training data."""
    mean, std = (_tensor(parts.folder.weights_file("prior"), name).double() for name in ("clip_mean", "clip_std"))
    length: Tensor = (mean.square() + std.square()).sum().sqrt()
    return length


def _tensor(weights: Path, name: str) -> Tensor:
    with safe_open(file_with(weights, name), framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor


def _fit(drawn: Embedding, wanted: Embedding, candidates: int) -> Tensor:
    """The cosines [b candidates] of the drawn embeddings to those wanted for each picture, or to the one for all."""
    vector = wanted.vector.repeat_interleave(len(drawn.vector) // len(wanted.vector), dim=0)
    return cosine(drawn, Embedding(vector=vector, space=wanted.space)).view(-1, candidates)
