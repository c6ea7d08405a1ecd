"""The stages of an unCLIP model in the order in which they are trained, as a preset describes them."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import torch

from dallecli.errors import BadSetting
from dallecli.nets.autoregressive_prior import AutoregressivePriorConfig
from dallecli.nets.clip import ClipTextConfig, ClipVisionConfig
from dallecli.nets.prior import PriorConfig
from dallecli.nets.text_proj import TextProjConfig
from dallecli.training.preset import Preset
from dallecli.training.stages.autoregressive_prior import AutoregressivePriorStage
from dallecli.training.stages.clip import ClipStage
from dallecli.training.stages.decoder import DecoderStage
from dallecli.training.stages.prior import PriorStage
from dallecli.training.stages.stage import TrainingStage
from dallecli.training.stages.upsampler import UpsamplerStage

TOKENS: Final = 512
"""The size of a vocabulary that is not known yet, for a look at the networks."""


def stages_of(
    preset: Preset, vocab_size: Callable[[], int] | None = None, own_space: bool = True
) -> dict[str, TrainingStage[Any]]:
    """Return the stages of a preset by name; for `vocab_size` and `own_space` see `ClipStage`."""
    schedulers, lessons = preset.schedulers, preset.lessons
    stages: list[TrainingStage[Any]] = [
        ClipStage(
            text_encoder=preset.text_encoder,
            image_encoder=preset.image_encoder,
            vocab_size=vocab_size,
            own_space=own_space,
        ),
        PriorStage(prior=preset.prior, scheduler=schedulers["prior"], lesson=lessons.prior),
    ]
    if preset.autoregressive_prior is not None:
        stages.append(AutoregressivePriorStage(prior=preset.autoregressive_prior, lesson=lessons.autoregressive_prior))
    stages.append(
        DecoderStage(
            text_proj=preset.text_proj,
            decoder=preset.decoder,
            scheduler=schedulers["decoder"],
            lesson=lessons.decoder,
        )
    )
    for number, unet in enumerate(preset.upsamplers[:2], start=1):
        part = "super_res" if number == 1 else "super_res_2"
        stages.append(
            UpsamplerStage(
                number=number,
                low=preset.sizes[number - 1],
                unet=unet,
                scheduler=schedulers[part] if part in schedulers else schedulers["super_res"],
                decoder_scheduler=schedulers["decoder"],
                lesson=lessons.upsampler if number == 1 else lessons.upsampler_2,
            )
        )
    return {stage.name: stage for stage in stages}


def check(preset: Preset) -> None:
    """Build every network without memory, and see whether one's output fits the next one's input.

    Raises:
        BadSetting: a network cannot be, or two don't fit each other.
    """
    if len(preset.upsamplers) not in (1, 2):
        raise BadSetting(f"there are {len(preset.upsamplers)} upsamplers, expected one or two", where=preset.name)
    for name, stage in stages_of(preset, lambda: preset.text_encoder.get("vocab_size", TOKENS)).items():
        try:
            with torch.device("meta"):
                stage.fresh()
        # what a constructor may answer to numbers that make no network
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
            raise BadSetting(f"the network of {name} cannot be built: {problem}", where=preset.name) from problem
    text, prior = ClipTextConfig.from_config(preset.text_encoder), PriorConfig.from_config(preset.prior)
    width = prior.embedding_dim
    wanted = {
        "text_encoder.hidden_size": (text.hidden_size, width),
        "text_encoder.projection_dim": (text.projection_dim, width),
        "text_proj.clip_embeddings_dim": (TextProjConfig.from_config(preset.text_proj).clip_embeddings_dim, width),
        "prior.num_embeddings": (prior.num_embeddings, preset.context),
    }
    if preset.autoregressive_prior is not None:
        rival = AutoregressivePriorConfig.from_config(preset.autoregressive_prior)
        wanted["autoregressive_prior.embedding_dim"] = (rival.embedding_dim, width)
        wanted["autoregressive_prior.num_embeddings"] = (rival.num_embeddings, preset.context)
    if preset.image_encoder:
        vision = ClipVisionConfig.from_config(preset.image_encoder)
        wanted["image_encoder.projection_dim"] = (vision.projection_dim, width)
    for name, (is_, should) in wanted.items():
        if is_ != should:
            raise BadSetting(f"{name} is {is_}, but the other networks need {should}", where=preset.name)
    for small, large in pairwise(preset.sizes):
        if large % small or large == small:
            raise BadSetting(f"an upsampler from {small} to {large} px is not a whole multiple", where=preset.name)
