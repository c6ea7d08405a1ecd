"""What a stage of a model's training is, and what it learns from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from dallecli.diffusion.schedule import Schedule
from dallecli.errors import BadFile
from dallecli.training.conditions import Conditions
from dallecli.training.dataset import Dataset
from dallecli.training.loop import Objective, TrainingRun
from dallecli.training.model_folder import check_half, read_network, write_config, write_network
from dallecli.training.team import Team
from dallecli.weights.folder import Folder

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a stage is given to learn from.

    conditions: returns what the trained CLIP says about the dataset; only the stages that need it ask. trained: returns
    the networks of another stage that was trained, frozen; a stage that asks has it among its `needs`.
    clip_trained: whether that CLIP was trained here, and is not the one of the model that training started from.
    before: returns the networks of a stage as the model that training started from has them, frozen; None without one.
    """

    dataset: Dataset
    conditions: Callable[[], Conditions]
    trained: Callable[[str], nn.Module]
    clip_trained: bool
    before: Callable[[str], nn.Module | None]
    team: Team


class TrainingStage(Protocol[M]):
    """A stage of a model's training: how its networks are built, what they minimise, and which parts they become."""

    @property
    def name(self) -> str:
        """Its name on the command line, and that of its run's folder."""

    @property
    def seed(self) -> int:
        """The seed of its fresh weights and of its run's draws."""

    @property
    def optional(self) -> bool:
        """Whether a model is whole without its parts."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages whose results it reads."""

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The config of each part of the model folder that it makes, in the order in which they are written."""

    def fresh(self) -> M:
        """Return the module that it trains, with weights drawn from torch's global generator.

        Raises:
            ValueError: its configs describe a network that cannot be.
        """

    def networks(self, module: M) -> dict[str, nn.Module]:
        """Return the networks in its module by the parts that hold their weights."""

    def objective(self, module: M, material: Material) -> Objective:
        """Return what it minimises; weights that depend on the data alone are set in `module`."""

    def adapt(self, module: M, material: Material) -> None:
        """Fit to the data what the weights of a model folder, just read into `module`, do not hold."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Do to the weights of a run what is left to do when its budget is spent."""


def read_stage(stage: TrainingStage[M], module: M, folder: Folder, device: torch.device) -> None:
    """Give a stage's module the weights of a model folder.

    Where Karlo's layout has a network of its own for an upsampler's last step, the one of the other steps is read.

    Raises:
        BadFolder, BadFile, LayoutMismatch: the parts are missing, damaged, or of other networks.
    """
    filled: list[nn.Module] = []
    for part, net in stage.networks(module).items():
        if not any(net is one for one in filled):
            net.load_state_dict(read_network(folder, part, device).state_dict())
            filled.append(net)


def write_stage(stage: TrainingStage[M], module: M, folder: Path) -> None:
    """Write a stage's parts into a model folder, weights in float16.

    Raises:
        NonFinite: float16 does not hold the weights. Nothing has been written then.
        BadOutput, DiskFull: a file cannot be written.
    """
    networks = stage.networks(module)
    for part, net in networks.items():
        check_half(part, net)
    for part, config in stage.configs.items():
        write_config(folder, part, config)
        if part in networks:
            write_network(folder, part, networks[part])


def trained_schedule(config: dict[str, Any], part: str) -> Schedule:
    """Return the schedule of a scheduler's config.

    Raises:
        BadFile: it is one that cannot be trained with.
    """
    try:
        return Schedule.from_config(config)
    except ValueError as problem:
        raise BadFile(f"this schedule can't be trained: {problem}", where=part) from problem
