"""The stages of one model in training: each has a run in a folder of its own, and some read what others learned."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from dallecli.errors import NotDownloaded
from dallecli.nets.clip import CLIPTextModel, CLIPVisionModel
from dallecli.training.conditions import Conditions, FrozenClip, conditions_of
from dallecli.training.dataset import Dataset
from dallecli.training.loop import Report, TrainingRun
from dallecli.training.machine import Machine
from dallecli.training.model_folder import read_network
from dallecli.training.preset import RunSettings
from dallecli.training.stages.stage import Material, TrainingStage, read_stage
from dallecli.training.state import STATE, load_average
from dallecli.weights.folder import Folder

LANGUAGES: Final = ("clip", "dvae")
"""The stages in whose embeddings or codes others are written: trained anew, they mean something else by the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The model that training starts from, where a stage has no state of its own.

    averaged: how many steps the average of its weights counts as taken (see `Counters`); 0 lets it forget them fast.
    """

    folder: Folder
    averaged: int = 0


class Commands(NamedTuple):
    """What people who train a chain may type: to `train` the stage {stage} first; the options for `more` training."""

    train: str
    more: str


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """The stages of one model and their runs.

    Args:
        stages: by name, in the order in which they are trained.
        runs: how long each is trained, and how it is optimised.
        folder: where the runs live, a folder a stage.
        dataset: what they learn from.
        machine: what trains.
        commands: what errors suggest.
        origin: the model that training starts from, or None.
        events: a folder for TensorBoard's logs, or None.
        languages: the stages after whose training those of the origin that read them mean nothing.
    """

    stages: Mapping[str, TrainingStage[Any]]
    runs: Mapping[str, RunSettings]
    folder: Path
    dataset: Dataset
    machine: Machine
    commands: Commands
    origin: Origin | None = None
    events: Path | None = None
    languages: tuple[str, ...] = LANGUAGES

    def state_file(self, name: str) -> Path:
        """Where a stage's run keeps its state."""
        return self.folder / name / STATE

    def has_state(self, name: str) -> bool:
        """Whether a stage has been trained in this folder."""
        return self.state_file(name).exists()

    def has_source(self, name: str) -> bool:
        """Whether there are weights of a stage: trained in this folder, or those of the origin."""
        return self._source(name) is not None

    def readers(self, name: str) -> list[str]:
        """Return the stages that were trained here and read what a stage has learned."""
        return [other.name for other in self.stages.values() if name in other.needs and self.has_state(other.name)]

    def train(
        self,
        name: str,
        *,
        seconds: float,
        steps: int | None = None,
        watch: Callable[[Report], None] | None = None,
        warn: Callable[[str], None] | None = None,
        finished: bool = True,
    ) -> str | None:
        """Train a stage until `seconds` of training or `steps` steps are spent in all; if it is not trained, say why.

        A stage that another one was already trained on is left as it is: the other would misread what it has learned
        since. Where the budget is spent already, what comes after training is done again unless it is `finished`.

        Raises:
            NotDownloaded: a stage that it reads has not been trained.
            NonFinite, DiskFull: as `TrainingRun.train`.
        """
        readers = self.readers(name)
        if readers:
            folders = _listed([str(self.folder / reader) for reader in readers])
            return f"{_listed(readers)} depend on it; remove {folders} to train it again"
        run = self.open(name)
        spent = run.counters.seconds >= seconds or (steps is not None and run.counters.step >= steps)
        if not spent:
            run.train(seconds, watch, steps=steps, warn=warn)
        if not (spent and finished):
            self.stages[name].finish(run, self._material)
        budget = f"{seconds:.0f} seconds" if steps is None else f"{steps} steps"
        return f"its {budget} are spent; give more {self.commands.more} to continue" if spent else None

    def open(self, name: str) -> TrainingRun:
        """Open a stage's run where it stands: at its state, at the weights of the origin, or at fresh ones.

        Raises:
            NotDownloaded: a stage that it reads has not been trained.
        """
        self.check_needs(name)
        stage = self.stages[name]
        torch.manual_seed(stage.seed)
        module = stage.fresh().to(self.machine.device)
        objective = stage.objective(module, self._material)
        origin = None if self.has_state(name) else self._origin_of(stage)
        # Behind the objective, which may have set weights by what it saw in the data.
        if origin is not None:
            read_stage(stage, module, origin.folder, self.machine.device)
            stage.adapt(module, self._material)
        events = None if self.events is None else self.events / name
        run = TrainingRun(objective, self.runs[name].how, self.folder / name, self.machine, stage.seed, events)
        if origin is not None:
            run.counters.averaged = origin.averaged
        return run

    def check_needs(self, name: str) -> None:
        """Find out whether all that a stage reads is there. Raises NotDownloaded."""
        for other in self.stages[name].needs:
            if self._source(other) is None:
                raise self._untrained(other)

    def trained(self, name: str) -> nn.Module:
        """Return a stage's module with its averaged weights, or those of the origin, frozen.

        Raises:
            NotDownloaded: neither is there, or the stage was made for another CLIP than the one that was trained here.
        """
        stage, source = self.stages[name], self._source(name)
        moved = source is self.origin and any(self.has_state(other) for other in stage.needs if other in self.languages)
        if source is None or moved:
            raise self._untrained(name)
        return self._frozen(stage, source)

    def _frozen(self, stage: TrainingStage[Any], source: Path | Origin) -> nn.Module:
        """A stage's module with the averaged weights of a state, or those of the origin."""
        module: nn.Module = stage.fresh().to(self.machine.device)
        if isinstance(source, Path):
            load_average(module, source)
        else:
            read_stage(stage, module, source.folder, self.machine.device)
        return module.eval().requires_grad_(False)

    def _before(self, name: str) -> nn.Module | None:
        """A stage's module with the weights of the origin, frozen; None without an origin."""
        origin = self._origin_of(self.stages[name])
        return None if origin is None else self._frozen(self.stages[name], origin)

    def _source(self, name: str) -> Path | Origin | None:
        """Where the weights of a trained stage come from: its state, or else the origin."""
        if self.has_state(name):
            return self.state_file(name)
        return self._origin_of(self.stages[name])

    def _origin_of(self, stage: TrainingStage[Any]) -> Origin | None:
        """The model that training starts from, unless a stage's parts are not among its."""
        # Asked in this order: a stage's configs may need a tokenizer, which is trained for them.
        if self.origin is None or not stage.configs:
            return None
        has_it = not stage.optional or set(stage.configs) <= set(self.origin.folder.parts)
        return self.origin if has_it else None

    def _untrained(self, name: str) -> NotDownloaded:
        return NotDownloaded(
            f"the {name} has not been trained yet",
            where=str(self.folder / name),
            hint=f"train it first: {self.commands.train.format(stage=name)}",
        )

    @property
    def _material(self) -> Material:
        return Material(
            dataset=self.dataset,
            conditions=self.conditions,
            trained=self.trained,
            clip_trained=self.has_state("clip"),
            before=self._before,
            team=self.machine.team,
        )

    def conditions(self) -> Conditions:
        """Return what the trained CLIP says about the dataset; the file beside the runs is made once for each CLIP.

        Raises:
            NotDownloaded: CLIP has not been trained.
        """
        return conditions_of(self._frozen_clip(), self.dataset, self.folder / "conditions.safetensors", self.machine)

    def _frozen_clip(self) -> FrozenClip:
        source = self._source("clip")
        if isinstance(source, Origin):
            device, file = self.machine.device, source.folder.weights_file("text_encoder")
            text, image = (read_network(source.folder, part, device) for part in ("text_encoder", "image_encoder"))
        else:
            networks, file = self.stages["clip"].networks(self.trained("clip")), self.state_file("clip")
            text, image = networks["text_encoder"], networks["image_encoder"]
        assert isinstance(text, CLIPTextModel) and isinstance(image, CLIPVisionModel)  # for the type checker
        return FrozenClip(text, image, file)


def _listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
