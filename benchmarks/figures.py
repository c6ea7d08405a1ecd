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
