"""From words to image embeddings, by a diffusion prior (Ramesh et al. 2022, section 2.2), for every family with one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.nets.conditions import Place, row_at
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.pipelines.embedding import Embedding, cosine
from dallecli.pipelines.model import Watch
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import Diffusion, Nets, sample
from dallecli.pipelines.text import Words
from dallecli.tasks.stages import DiffusionSettings


def imagine(
    parts: Parts,
    words: Words,
    noise: Noise,
    settings: DiffusionSettings,
    candidates: int,
    watch: Watch,
    space: str,
    like: Embedding | None = None,
    *,
    also_negative: bool = False,
) -> tuple[Embedding, Tensor]:
    """Draw `candidates` image embeddings a picture; keep the one [b, d] that points most like its text.

    Also returned is that cosine [b]. The paper's rule is the dot product of unit vectors; CLIP's own differ in length.
    Where the picture is to be `like` another one [b, d], its cosine to that one counts as much as that to its text.
    With `also_negative` the prior makes an embedding of the negative prompt beside each, from noise of the same draws,
    and that of the kept one is in `away`, as in diffusers' KandinskyV22PriorPipeline.
    """
    rivals = noise.rivals(candidates)
    each = 2 if also_negative else 1
    read = words.with_negative() if also_negative else words
    rows = read.rows(each * len(rivals), settings.guidance)
    config = parts.config("prior", PriorConfig.from_config)

    def net(dtype: torch.dtype) -> PriorTransformer:
        return parts.net("prior", lambda json: PriorTransformer(PriorConfig.from_config(json)), dtype)

    def nets(dtype: torch.dtype, ts: Sequence[int]) -> Nets:
        prior = net(dtype)
        text = prior.read(read.embedding.to(dtype), read.hidden.to(dtype), read.mask)
        times = torch.tensor(ts, device=parts.device)

        def predict(x: Tensor, place: Place) -> Tensor:
            flat = x.to(dtype).reshape(-1, x.shape[-1])
            return prior.answer(flat, row_at(times, place), text, rows).view(x.shape)

        return predict, None

    diffusion = Diffusion(
        stage="prior",
        shape=(config.embedding_dim,) if each == 1 else (each, config.embedding_dim),
        schedule=parts.schedule("prior_scheduler"),
        guidance=settings.guidance,
        nets=nets,
    )
    standard = sample(parts, diffusion, settings, rivals, watch)
    # The prior works on embeddings of mean 0 and deviation 1.
    prior = net(parts.dtype)
    drawn = (standard * prior.clip_std + prior.clip_mean).view(len(rivals), each, -1)
    meant = words.embedding[1:].repeat_interleave(len(rivals) // (len(words.embedding) - 1), dim=0)
    own = Embedding(vector=drawn[:, 0], space=space)
    fit = cosine(own, Embedding(vector=meant, space=space)).view(len(noise), candidates)
    merit = fit
    if like is not None:
        others = Embedding(vector=like.vector.repeat_interleave(candidates, dim=0), space=like.space)
        merit = fit + cosine(own, others).view(len(noise), candidates)
    best = merit.argmax(dim=1)
    pictures = torch.arange(len(noise), device=drawn.device)
    kept = drawn.view(len(noise), candidates, each, -1)[pictures, best]
    away = kept[:, 1] if also_negative else None
    return Embedding(vector=kept[:, 0], space=space, away=away), fit[pictures, best]
