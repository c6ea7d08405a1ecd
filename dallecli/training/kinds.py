"""The kinds of models that can be trained: how the preset of each is read, and which stages come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dallecli.training.model_folder import INDEX, TOKEN_INDEX
from dallecli.training.preset import BasePreset
from dallecli.training.preset_file import NETWORKS, OWN, load_preset, preset_of, read_preset
from dallecli.training.stages.stage import TrainingStage
from dallecli.training.stages.unclip import check, stages_of
from dallecli.training.token_preset import NETWORKS as TOKEN_NETWORKS
from dallecli.training.token_preset import (
    check_tokens,
    load_token_preset,
    read_token_preset,
    token_preset_of,
    token_stages,
)
from dallecli.weights.folder import Folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """A kind of model. `load`, `read` and `of` return presets of one class, which the others take.

    command: what trains all of it. train: what trains one {stage}. starter: the registered model of this kind that
    ships with dalle. starter_command: what trains it. presets: those for pictures of one's own. default: the one that
    is taken if none is named. networks: what a preset says about networks. index: `model_index.json`. words: the stages
    that know tokens by their numbers.
    """

    command: str
    train: str
    starter: str
    starter_command: str
    presets: tuple[str, ...]
    default: str
    networks: tuple[str, ...]
    index: Mapping[str, Any]
    words: tuple[str, ...]
    load: Callable[[str], BasePreset]
    read: Callable[[Mapping[str, Any], str], BasePreset]
    of: Callable[[Folder, Mapping[str, Any], str], BasePreset]
    check: Callable[[Any], None]
    stages: Callable[[Any, Callable[[], int] | None, bool], dict[str, TrainingStage[Any]]]


UNCLIP: Final = ModelKind(
    command="all",
    train="dalle train {stage}",
    starter="starter",
    starter_command="dalle train starter",
    presets=OWN,
    default="small",
    networks=NETWORKS,
    index=INDEX,
    words=("clip",),
    load=load_preset,
    read=read_preset,
    of=preset_of,
    check=check,
    stages=stages_of,
)
"""DALL·E 2's: CLIP, a prior, a decoder and upsamplers."""

TOKENS: Final = ModelKind(
    command="tokens",
    train="dalle train tokens",
    starter="starter-1",
    starter_command="dalle train starter-tokens",
    presets=("tokens-tiny", "tokens"),
    default="tokens",
    networks=TOKEN_NETWORKS,
    index=TOKEN_INDEX,
    words=("transformer",),
    load=load_token_preset,
    read=read_token_preset,
    of=token_preset_of,
    check=check_tokens,
    stages=token_stages,
)
"""DALL·E 1's: a discrete autoencoder and a transformer of one stream."""


def kind_of(table: Mapping[str, Any]) -> ModelKind:
    """The kind of model that the table of a preset describes."""
    return TOKENS if "transformer" in table else UNCLIP
