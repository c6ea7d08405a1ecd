"""What the stages of a model learn from: captioned pictures, in an order that stays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from dallecli.training.batch import Emphasis


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """The pictures that one stage learns from.

    pictures: uint8 [n 3 s s]; the last `held_out` validate. emphasis: which are shown more often than the rest, if any.
    """

    pictures: Tensor
    held_out: int
    emphasis: Emphasis | None = None


class Dataset(Protocol):
    """n captioned pictures: those that are trained on and, behind them, those that are held out for validation."""

    @property
    def held_out(self) -> int:
        """How many captions at the end are held out."""

    @property
    def ids(self) -> Tensor:
        """The token ids [n context] of the captions."""

    @property
    def empty(self) -> Tensor:
        """The token ids [context] of the empty caption."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that change whenever the pictures or captions do."""

    def clip_pictures(self, size: int) -> tuple[Tensor, ...]:
        """Return the captions' pictures as CLIP sees them, uint8 [m 3 size size], in one or more parts."""

    def examples(self, stage: str, size: int) -> Examples:
        """Return what a stage learns from that paints pictures of `size` px."""
