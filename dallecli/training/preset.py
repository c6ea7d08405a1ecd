"""A preset: the sizes of the networks, how they are taught and how long."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dallecli.nets.clip import ClipVisionConfig
from dallecli.training.loop import Optimisation
from dallecli.training.stages.autoregressive_prior import AutoregressivePriorLesson
from dallecli.training.stages.decoder import DecoderLesson
from dallecli.training.stages.prior import PriorLesson
from dallecli.training.stages.upsampler import UpsamplerLesson

PREDICTS_PICTURE = {"_class_name": "UnCLIPScheduler", "num_train_timesteps": 1000, "prediction_type": "sample",
                    "clip_sample": True}  # fmt: skip
SCHEDULERS: dict[str, dict[str, Any]] = {
    "prior": {**PREDICTS_PICTURE, "variance_type": "fixed_small_log", "clip_sample_range": 5.0},
    "decoder": {**PREDICTS_PICTURE, "variance_type": "learned_range", "clip_sample_range": 1.0},
    "super_res": {**PREDICTS_PICTURE, "variance_type": "fixed_small_log", "clip_sample_range": 1.0},
}
"""The `scheduler_config.json` of each stage; all predict the clean sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """A stage's budget, in seconds of training or in steps, whichever is spent first, and its optimiser's settings."""

    seconds: float = math.inf
    steps: int | None = None
    how: Optimisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """How the stages are taught, `[recipes]` in TOML; the defaults are the paper's."""

    prior: PriorLesson = field(default_factory=PriorLesson)
    autoregressive_prior: AutoregressivePriorLesson = field(default_factory=AutoregressivePriorLesson)
    decoder: DecoderLesson = field(default_factory=DecoderLesson)
    upsampler: UpsamplerLesson = field(default_factory=UpsamplerLesson)
    upsampler_2: UpsamplerLesson = field(default_factory=lambda: UpsamplerLesson(corruption="bsr"))


@dataclass(frozen=True, slots=True, kw_only=True)
class BasePreset:
    """What a preset says of any kind of model (kinds.py).

    context: tokens of a prompt. vocabulary: the most tokens of a tokenizer that is trained for it; None: no limit.
    dials: the `dalle.json` of the folder, if any.
    """

    name: str
    world: str = "first"
    """The world that a starter is drawn from, by its name in ``world/worlds.py``."""
    context: int
    vocabulary: int | None = None
    pool: int = 0
    """Scenes of the starter's main pool; `large_pool` is that of the last upsampler, whose pictures are sixteen times
    larger."""
    large_pool: int = 0
    runs: dict[str, RunSettings]
    dials: dict[str, Any] | None = None

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """The sides in pixels of what is painted, ascending."""

    @property
    def seen(self) -> tuple[int, ...]:
        """The sides in pixels of the pictures that its networks learn from."""
        return self.sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset(BasePreset):
    """What is trained of an unCLIP model. The configs are those of the folder that comes out, one a part, complete.

    schedulers: the schedule of each stage, keyed as `SCHEDULERS`.
    """

    text_encoder: dict[str, Any]
    image_encoder: dict[str, Any]
    prior: dict[str, Any]
    autoregressive_prior: dict[str, Any] | None = None
    """None where no such prior is trained."""
    text_proj: dict[str, Any]
    decoder: dict[str, Any]
    upsamplers: tuple[dict[str, Any], ...]
    schedulers: Mapping[str, dict[str, Any]] = field(default_factory=lambda: SCHEDULERS)
    lessons: Lessons = field(default_factory=Lessons)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sides in pixels of what the decoder and each upsampler after it paint."""
        painters = (self.decoder, *self.upsamplers)
        return tuple(int(config["sample_size"]) for config in painters)

    @property
    def seen(self) -> tuple[int, ...]:
        """The sides in pixels of the pictures that its networks learn from, those that CLIP sees among them."""
        return tuple({*self.sizes, self.image_size}) if self.image_encoder else self.sizes

    @property
    def image_size(self) -> int:
        """The side in pixels of what CLIP's image tower sees."""
        return ClipVisionConfig.from_config(self.image_encoder).image_size
