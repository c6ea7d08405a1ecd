"""The networks of the stages, from the configs of a preset, with fresh weights."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from dallecli.errors import BadSetting
from dallecli.nets.clip import ClipTextConfig, ClipVisionConfig
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import TextProjConfig
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.training.clip import ClipTowers
from dallecli.training.decoder import DecoderParts
from dallecli.training.preset import Preset

UPSAMPLERS = ("upsampler", "upsampler_2")
"""The stages after the decoder, in the order of `Preset.upsamplers`."""


def fresh(stage: str, preset: Preset, vocab_size: int) -> nn.Module:
    """Return the module that a stage trains, drawn from torch's global generator.

    Raises:
        ValueError: the preset describes a network that cannot be.
    """
    if stage == "clip":
        text = ClipTextConfig.from_config(text_config(preset, vocab_size))
        return ClipTowers(text, ClipVisionConfig.from_config(preset.image_encoder))
    if stage == "prior":
        prior = PriorTransformer(PriorConfig.from_config(preset.prior))
        nn.init.normal_(prior.positional_embedding, std=0.02)
        nn.init.normal_(prior.prd_embedding, std=0.02)
        return prior
    if stage == "decoder":
        return DecoderParts(TextProjConfig.from_config(preset.text_proj), UNetConfig.from_config(preset.decoder))
    return UNet(UNetConfig.from_config(preset.upsamplers[UPSAMPLERS.index(stage)]))


def text_config(preset: Preset, vocab_size: int) -> dict[str, Any]:
    """Return the text tower's config for a vocabulary, of which start and end are the last two tokens."""
    end = vocab_size - 1
    ends = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    return {**preset.text_encoder, "vocab_size": vocab_size, **ends}


def check(preset: Preset) -> None:
    """Build every network without memory, and see whether one's output fits the next one's input.

    Raises:
        BadSetting: a network cannot be, or two don't fit each other.
    """
    stages = ("clip", "prior", "decoder", *UPSAMPLERS[: len(preset.upsamplers)])
    if len(preset.upsamplers) not in (1, 2):
        raise BadSetting(f"there are {len(preset.upsamplers)} upsamplers, expected one or two", where=preset.name)
    for stage in stages:
        try:
            with torch.device("meta"):
                fresh(stage, preset, preset.text_encoder.get("vocab_size", 512))
        # what a constructor may answer to numbers that make no network
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
            raise BadSetting(f"the network of {stage} cannot be built: {problem}", where=preset.name) from problem
    text, prior = ClipTextConfig.from_config(preset.text_encoder), PriorConfig.from_config(preset.prior)
    width = prior.embedding_dim
    wanted = {
        "text_encoder.hidden_size": (text.hidden_size, width),
        "text_encoder.projection_dim": (text.projection_dim, width),
        "text_proj.clip_embeddings_dim": (TextProjConfig.from_config(preset.text_proj).clip_embeddings_dim, width),
        "prior.num_embeddings": (prior.num_embeddings, preset.context),
    }
    if preset.image_encoder:
        vision = ClipVisionConfig.from_config(preset.image_encoder)
        wanted["image_encoder.projection_dim"] = (vision.projection_dim, width)
    for name, (is_, should) in wanted.items():
        if is_ != should:
            raise BadSetting(f"{name} is {is_}, but the other networks need {should}", where=preset.name)
    for small, large in pairwise(preset.sizes):
        if large % small or large == small:
            raise BadSetting(f"an upsampler from {small} to {large} px is not a whole multiple", where=preset.name)
