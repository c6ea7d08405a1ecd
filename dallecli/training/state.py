"""The state of a training run in one file, replaced whole: weights, their average, the optimiser's moments, counters.

The tensors are `weight.NAME`, `average.NAME` and the moments: `exp_avg.NAME` and `exp_avg_sq.NAME` of AdamW, or
`momentum_buffer.NAME` of Muon, as a matrix [out in]. The counters are in the header.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dallecli.errors import BadFile
from dallecli.publish import publish
from dallecli.training.optimizer import ADAM_MOMENTS, MUON_MOMENTS, Optimizer

STATE = "state.safetensors"
"""The name of a run's state in its folder."""
MOMENTS: Final = (*sorted(ADAM_MOMENTS), *sorted(MUON_MOMENTS))


@dataclass(slots=True)
class Counters:
    """How far a run is: optimiser steps, samples seen, and seconds spent training.

    averaged: steps that the average counts as taken before the first one. It follows young weights fast, and would
    forget weights that training started from; the more it counts, the slower it starts.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    averaged: int = 0


def write_state(
    file: Path,
    names: Sequence[str],
    weights: Sequence[Tensor],
    average: Sequence[Tensor],
    optimizer: Optimizer,
    counters: Counters,
) -> None:
    """Write a state, whole or not at all. Raises DiskFull or BadOutput."""
    tensors: dict[str, Tensor] = {}
    for name, weight, averaged in zip(names, weights, average, strict=True):
        tensors[f"weight.{name}"] = weight.detach().cpu().contiguous()
        tensors[f"average.{name}"] = averaged.cpu().contiguous()
        for kind, moment in optimizer.moments(weight).items():
            tensors[f"{kind}.{name}"] = moment.cpu().contiguous()
    counted = {name: value for name, value in asdict(counters).items() if name != "averaged" or value}
    publish(file, save(tensors, {"counters": json.dumps(counted)}), force=True)


def restore(
    file: Path,
    names: Sequence[str],
    weights: Sequence[Tensor],
    average: Sequence[Tensor],
    optimizer: Optimizer,
) -> Counters:
    """Fill weights, their average and the optimiser from a state, and return its counters.

    Raises:
        BadFile: the state is another network's.
    """
    with safe_open(file, framework="pt") as opened:
        _fill("weight", names, weights, opened, file)
        _fill("average", names, average, opened, file)
        counters = Counters(**json.loads(opened.metadata()["counters"]))
        saved = set(opened.keys())
        for name, weight in zip(names, weights, strict=True):
            kinds = [kind for kind in MOMENTS if f"{kind}.{name}" in saved]
            moments = {kind: opened.get_tensor(f"{kind}.{name}").to(weight.device) for kind in kinds}
            optimizer.remember(weight, moments, counters.step)
    return counters


def load_average(module: nn.Module, state: Path) -> None:
    """Give a module the averaged weights of a run's state.

    Raises:
        BadFile: the state is another network's.
    """
    names, weights = zip(*module.named_parameters(), strict=True)
    with safe_open(state, framework="pt") as file:
        _fill("average", names, weights, file, state)


def _fill(kind: str, names: Sequence[str], targets: Sequence[Tensor], file: Any, state: Path) -> None:
    """Copy the tensors of one kind from an open state."""
    keys = set(file.keys())
    for name, target in zip(names, targets, strict=True):
        key = f"{kind}.{name}"
        if key not in keys or tuple(file.get_slice(key).get_shape()) != tuple(target.shape):
            raise BadFile(
                f"the training state does not fit the network: {key}",
                where=str(state),
                hint="train in another folder, or remove this one to start again",
            )
        target.data.copy_(file.get_tensor(key))


def saved_step(state: Path) -> int:
    """Return how many steps a state has behind it."""
    with safe_open(state, framework="pt") as file:
        step: int = json.loads(file.metadata()["counters"])["step"]
    return step
