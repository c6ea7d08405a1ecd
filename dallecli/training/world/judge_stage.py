"""The stage that trains the judge on drawn scenes; no part of a model comes of it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from dallecli.training.loop import TrainingRun
from dallecli.training.stages.stage import Material
from dallecli.training.world.dataset import WorldDataset
from dallecli.training.world.judge import SIZE, Judge, JudgeData, JudgeObjective
from dallecli.training.world.pool import Pool


@dataclass(frozen=True, slots=True)
class JudgeStage:
    """The judge of a world, which learns from its labels."""

    dataset: WorldDataset
    name: ClassVar[str] = "judge"
    seed: ClassVar[int] = 6
    optional: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Nothing: the judge is not part of a model."""
        return {}

    def fresh(self) -> Judge:
        """Return the judge with fresh weights."""
        world = self.dataset.world
        return Judge(len(world.things), len(world.grounds), len(world.styles), len(world.looks))

    def networks(self, module: Judge) -> dict[str, nn.Module]:
        """Return nothing, likewise."""
        return {}

    def objective(self, module: Judge, material: Material) -> JudgeObjective:
        """Return what the judge minimises."""
        return JudgeObjective(module, self._data(self.dataset.train_pool), self._data(self.dataset.held_out_pool))

    def adapt(self, module: Judge, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""

    def _data(self, pool: Pool) -> JudgeData:
        labels, device = pool.labels, self.dataset.device
        return JudgeData(
            self.dataset.pictures(pool, SIZE),
            torch.from_numpy(labels.objects > 0).float().to(device),
            torch.from_numpy(labels.objects.sum(axis=1, dtype=np.int64)).to(device),
            torch.from_numpy(labels.background).to(device),
            torch.from_numpy(labels.style).to(device),
            torch.from_numpy(labels.look).to(device),
            torch.from_numpy(labels.mirrored).to(device),
        )
