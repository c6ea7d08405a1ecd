"""The preset of a DALL·E 1: the sizes of its autoencoder and transformer, how they are taught and how long."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from dallecli.errors import BadSetting
from dallecli.nets.config import read_config
from dallecli.nets.dvae import CHANNELS, DvaeConfig
from dallecli.nets.gpt import GptConfig
from dallecli.training.preset import BasePreset
from dallecli.training.preset_file import known, section, starter_table, teaching, whole
from dallecli.training.stages.dvae import DvaeLesson, DvaeStage
from dallecli.training.stages.stage import TrainingStage
from dallecli.training.stages.transformer import TransformerLesson, TransformerStage
from dallecli.weights.folder import Folder

NETWORKS: Final = ("context", "vocabulary", "size", "dvae", "transformer")
"""What such a preset says about the networks; the rest is about their training, and may change on the way."""

LAYOUT: Final = "dalle-1"
"""The layout of the folders that come out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeShape:
    """The sizes of an autoencoder whose codes are those of patches.

    patch_size: the side of a patch in pixels. codes: how many there are. components: principal components by which
    patches are told apart. width, blocks: of the decoder.
    """

    patch_size: int
    codes: int
    components: int
    width: int
    blocks: int

    def __post_init__(self) -> None:
        for name in ("patch_size", "codes", "components", "width", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.components > CHANNELS * self.patch_size**2:
            most = CHANNELS * self.patch_size**2
            raise ValueError(f"components is {self.components}, and a patch has {most} numbers")
        if self.width < 2 * self.components:
            raise ValueError(
                f"width is {self.width}, expected at least two for each of the {self.components} components"
            )

    @property
    def encoder(self) -> dict[str, Any]:
        """The config of the encoder, which is linear but for the ReLU before its last layer."""
        return {**self._both, "block_out_channels": [2 * self.components], "layers_per_block": 0}

    @property
    def decoder(self) -> dict[str, Any]:
        """The config of the decoder."""
        own = {"block_out_channels": [self.width], "layers_per_block": self.blocks, "init_channels": self.components}
        return {**self._both, **own}

    @property
    def _both(self) -> dict[str, Any]:
        return {"vocab_size": self.codes, "patch_size": self.patch_size, "residual_gain": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLessons:
    """How the stages are taught, `[recipes]` in TOML."""

    dvae: DvaeLesson = field(default_factory=DvaeLesson)
    transformer: TransformerLesson = field(default_factory=TransformerLesson)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPreset(BasePreset):
    """What is trained. The configs are those of the folder that comes out, one a part, complete but for the tokens."""

    dvae_encoder: dict[str, Any]
    dvae: dict[str, Any]
    transformer: dict[str, Any]
    lessons: TokenLessons = field(default_factory=TokenLessons)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side in pixels of what is painted."""
        return (int(self.dvae["sample_size"]),)


def load_token_preset(name: str) -> TokenPreset:
    """Read a preset of the starter of this kind. Raises BadSetting if there is none of that name."""
    return read_token_preset(starter_table("token_presets.toml", name), name)


def read_token_preset(raw: Mapping[str, Any], name: str) -> TokenPreset:
    """Read a preset's table.

    Raises:
        BadSetting: a setting is missing, unknown, or of the wrong kind.
    """
    needed = [key for key in NETWORKS if key not in ("vocabulary", *raw)]
    if needed:
        raise BadSetting(f"the preset has no {', no '.join(needed)}", where=name)
    size, context = whole(raw, "size", name), whole(raw, "context", name)
    shape = _shape(section(raw, "dvae", name), name)
    if size % shape.patch_size:
        what = f"size is {size}, which is no multiple of dvae.patch_size, {shape.patch_size}"
        raise BadSetting(what, where=name)
    side = size // shape.patch_size
    transformer = {
        "_class_name": "Gpt",
        "sample_size": side,
        "vocab_size_img": shape.codes,
        "ctx_len_txt": context,
        "ctx_len_img": side**2,
        **known(GptConfig, section(raw, "transformer", name), "transformer", name),
    }
    return TokenPreset(
        name=name,
        world=raw.get("world", "first"),
        context=context,
        pool=raw.get("pool", 0),
        dvae_encoder={"_class_name": "DvaeEncoder", "sample_size": size, **shape.encoder},
        dvae={"_class_name": "DvaeDecoder", "sample_size": size, **shape.decoder},
        transformer=transformer,
        **teaching(raw, name, NETWORKS, TokenLessons),
    )


def _shape(table: Mapping[str, Any], name: str) -> DvaeShape:
    try:
        return read_config(DvaeShape, known(DvaeShape, dict(table), "dvae", name))
    except ValueError as problem:
        raise BadSetting(f"dvae: {problem}", where=name) from problem


def token_preset_of(folder: Folder, raw: Mapping[str, Any], name: str) -> TokenPreset:
    """Return a preset with the networks of a model folder, and the training of a preset's table.

    Raises:
        BadFolder, BadFile: as `Folder.config`.
        BadSetting: as `read_token_preset`, and if the folder is another kind of model.
    """
    if folder.layout != LAYOUT:
        hint = "start from starter-1, or from what dalle train tokens made"
        raise BadSetting("this model writes no codes that can be trained", str(folder.path), hint)
    transformer = folder.config("decoder")
    return TokenPreset(
        name=name,
        context=int(transformer.get("ctx_len_txt", 0)),
        dvae_encoder=folder.config("dvae_encoder"),
        dvae={"sample_size": folder.sizes()[-1], **folder.config("dvae")},
        transformer=transformer,
        **teaching(raw, name, NETWORKS, TokenLessons),
    )


def token_stages(
    preset: TokenPreset, vocab_size: Callable[[], int] | None = None, own_space: bool = True
) -> dict[str, TrainingStage[Any]]:
    """Return the stages of a preset by name.

    vocab_size: returns how many text tokens there are, where the transformer's config does not say it. own_space:
    whether its codes are its own, and not those of the model that training starts from.
    """
    size, lessons = preset.sizes[-1], preset.lessons
    dvae = DvaeStage(
        encoder=preset.dvae_encoder, decoder=preset.dvae, size=size, lesson=lessons.dvae, own_codes=own_space
    )
    transformer = TransformerStage(
        transformer=preset.transformer, size=size, lesson=lessons.transformer, vocab_size=vocab_size
    )
    return {dvae.name: dvae, transformer.name: transformer}


def check_tokens(preset: TokenPreset) -> None:
    """Build every network without memory, and see whether one's output fits the next one's input.

    Raises:
        BadSetting: a network cannot be, or two don't fit each other.
    """
    for name, stage in token_stages(preset, lambda: preset.transformer.get("vocab_size_txt", 1)).items():
        try:
            with torch.device("meta"):
                stage.fresh()
        # what a constructor may answer to numbers that make no network
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
            raise BadSetting(f"the network of {name} cannot be built: {problem}", where=preset.name) from problem
    decoder, side = DvaeConfig.from_config(preset.dvae), math.isqrt(int(preset.transformer["ctx_len_img"]))
    wanted = {
        "transformer.vocab_size_img": (preset.transformer["vocab_size_img"], decoder.vocab_size),
        "transformer.ctx_len_img": (preset.transformer["ctx_len_img"], side**2),
        "size": (preset.sizes[-1], side * decoder.cell),
    }
    for name, (is_, should) in wanted.items():
        if is_ != should:
            raise BadSetting(f"{name} is {is_}, but the other networks need {should}", where=preset.name)
