"""The networks of the stages, from the configs of a preset, with fresh weights."""

from typing import Any

from torch import nn

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
