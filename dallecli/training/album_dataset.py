"""An album as the stages of a model learn from it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dallecli.tokens import ClipTokenizer
from dallecli.training.album import Album
from dallecli.training.dataset import Examples
from dallecli.training.machine import Machine


@dataclass(frozen=True, slots=True)
class AlbumDataset:
    """An album as the stages learn from it, near the device of a machine."""

    album: Album
    file: Path
    tokenizer: ClipTokenizer
    machine: Machine

    @property
    def held_out(self) -> int:
        """How many pictures at the end are held out."""
        return self.album.held_out

    @property
    def files(self) -> tuple[Path, ...]:
        """The album's index."""
        return (self.file,)

    @property
    def ids(self) -> Tensor:
        """The token ids [n context] of the captions."""
        known = {caption: self.tokenizer.encode(caption).ids for caption in dict.fromkeys(self.album.captions)}
        return torch.tensor([known[caption] for caption in self.album.captions], device=self.machine.device)

    @property
    def empty(self) -> Tensor:
        """The token ids [context] of the empty caption."""
        return torch.tensor(self.tokenizer.encode("").ids, device=self.machine.device)

    def clip_pictures(self, size: int) -> tuple[Tensor]:
        """Return all pictures."""
        return (self.machine.hold(self.album.pictures[size]),)

    def examples(self, stage: str, size: int) -> Examples:
        """Return all pictures, each shown as often as any other."""
        return Examples(pictures=self.machine.hold(self.album.pictures[size]), held_out=self.album.held_out)
