"""What is read out of measured seconds: medians, ratios and sums, for those who print them and for `report.py`.

The figures of a stage are those that `stages.py` writes: {"ours": {"first": […], "step": […], "memory": …}, …}.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

SIDES = ("ours", "diffusers")


def ratio(taken: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """How many times as long `slow` takes: the median over rounds."""
    return statistics.median(a / b for a, b in zip(taken[slow], taken[fast], strict=True))


def step_seconds(stage: Mapping[str, Any], side: str) -> float:
    """The median seconds of a step of a stage."""
    return float(statistics.median(stage[side]["step"]))


def step_ratio(stage: Mapping[str, Any]) -> float:
    """How many times as long a step takes diffusers."""
    return ratio({side: stage[side]["step"] for side in SIDES}, "diffusers", "ours")


def share_of_peak(stage: Mapping[str, Any], side: str) -> float:
    """What a stage reaches of the best that the machine did before and after it, in a product or a convolution."""
    return float(stage["tflop"] / step_seconds(stage, side) / max(stage["peaks"].values()))


def run_seconds(stage: Mapping[str, Any], side: str) -> float:
    """What a stage takes of a run with all its steps: the first one does what a run needs once."""
    return float(statistics.median(stage[side]["first"]) + (stage["calls"] - 1) * step_seconds(stage, side))


def times_as_fast(network: Mapping[str, Any], run: str) -> float:
    """How many times as fast as the model's own run one is that leaves out work: the median of each round's ratio.

    network: of the figures of `saving.py`, the seconds of each kind of step, and how many of them each run takes.
    """
    seconds, runs = network["seconds"], network["runs"]

    def taken(name: str) -> list[float]:
        rounds = zip(*(seconds[kind] for kind in runs[name]), strict=True)
        return [sum(a * b for a, b in zip(one, runs[name].values(), strict=True)) for one in rounds]

    return ratio({"own": taken("as it is"), "saving": taken(run)}, "own", "saving")


def kernel_seconds(table: Mapping[str, Any]) -> float:
    """What all kinds of kernels took together: of the figures of `kernels.py`, as are the next two."""
    return float(sum(row["seconds"] for row in table["kinds"].values()))


def floor_seconds(table: Mapping[str, Any]) -> float:
    """What the work of a run takes at the best that the machine did, in a product or a convolution."""
    return float(table["tflop"] / max(table["peaks"].values()))


def idle_share(table: Mapping[str, Any]) -> float:
    """The share of a run in which nothing ran on the device. The kernels are those of another run: it is never below 0.

    The profiler holds up the launching of kernels, so its own run would look idler than one without it.
    """
    return max(0.0, 1 - float(table["busy"] / table["seconds"]))
