"""The scenes that the starter learns from: pools that are drawn once, and what the stages ask of them."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dallecli.tokens import ClipTokenizer
from dallecli.training.batch import Emphasis
from dallecli.training.dataset import Examples
from dallecli.training.preset import BasePreset
from dallecli.training.tokenizer import train_tokenizer
from dallecli.training.world.pool import Pool, open_pool, render_pool
from dallecli.training.world.scenes import HELD_OUT_SEEDS
from dallecli.training.world.world import Drawable, Grammar, World
from dallecli.training.world.worlds import find_world

HELD_OUT = 1000
"""Held-out scenes, for validation while training; evaluation draws its own, further on."""
HARD, HINTED = 0.5, 0.3
"""The shares of samples that are drawn from what is hardest for the decoder, and for the upsampler to 64 px."""
LARGE = 64
"""The side in pixels of the main pool's scenes; what paints larger pictures learns from a pool of its own."""


@dataclass(eq=False)
class WorldDataset:
    """Drawn scenes of a world with their captions, and the tokenizer of its words; made when first asked for.

    Args:
        preset: of which world, and how many scenes there are.
        folder: the starter's state folder, in which pools and tokenizer are kept.
        device: where the stages want their samples.
    """

    preset: BasePreset
    folder: Path
    device: torch.device

    @property
    def world(self) -> World:
        """The world of the preset."""
        return find_world(self.preset.world)

    def pool(self, name: str, count: int, seed: int, sizes: Sequence[int], grammar: Grammar[Drawable]) -> Pool:
        """Open a pool of scenes, drawing it first where it is not there whole."""
        path = self.folder / "pools" / name
        if not path.exists():
            # Of this process alone: others may train beside it and draw the same pool.
            partial = path.with_name(f"{name}.partial-{os.getpid()}")
            render_pool(self.world, partial, count, seed, sizes, grammar)
            try:
                partial.rename(path)
            except OSError:
                if not path.exists():
                    raise
                shutil.rmtree(partial)
        return open_pool(path)

    @property
    def train_pool(self) -> Pool:
        """The scenes that everything but the last upsampler learns from."""
        return self.pool("train", self.preset.pool, 0, (LARGE,), self.world.train)

    @property
    def held_out_pool(self) -> Pool:
        """Scenes of held-out seeds and held-out pairs."""
        count = min(HELD_OUT, self.preset.pool)
        return self.pool("held-out", count, HELD_OUT_SEEDS, (LARGE,), self.world.held_out)

    @property
    def large_pool(self) -> Pool:
        """The scenes that the last upsampler learns from."""
        return self.pool("large", self.preset.large_pool, 2**30, (256,), self.world.large)

    @property
    def held_out(self) -> int:
        """How many captions at the end are those of the held-out pool."""
        return len(self.held_out_pool.captions)

    @property
    def files(self) -> tuple[Path, ...]:
        """The captions of both pools."""
        assert self.train_pool.captions and self.held_out_pool.captions  # drawn, if they were not there
        return tuple(self.folder / "pools" / name / "captions.json" for name in ("train", "held-out"))

    @property
    def tokenizer_folder(self) -> Path:
        """The tokenizer's folder; trained when first asked for."""
        path = self.folder / "tokenizer"
        if not (path / "vocab.json").exists():
            train_tokenizer(self.world.words(), path, self.preset.context)
        return path

    @property
    def tokenizer(self) -> ClipTokenizer:
        """The tokenizer of the world's words."""
        return ClipTokenizer.open(self.tokenizer_folder)

    @property
    def ids(self) -> Tensor:
        """The token ids [n context] of the captions of both pools."""
        tokenizer = self.tokenizer
        captions = self.train_pool.captions + self.held_out_pool.captions
        known = {caption: tokenizer.encode(caption).ids for caption in dict.fromkeys(captions)}
        return torch.tensor([known[caption] for caption in captions], device=self.device)

    @property
    def empty(self) -> Tensor:
        """The token ids [context] of the empty caption."""
        return torch.tensor(self.tokenizer.encode("").ids, device=self.device)

    def pictures(self, pool: Pool, size: int) -> Tensor:
        """Return the pool's pictures as uint8 [n 3 size size], box-averaged from the smallest size that is there."""
        have = min(one for one in pool.pictures if one >= size)
        factor = have // size
        parts = []
        for start in range(0, len(pool.captions), 1024):
            part = torch.from_numpy(pool.pictures[have][start : start + 1024].copy()).permute(0, 3, 1, 2)
            if factor > 1:
                part = nn.functional.avg_pool2d(part.float(), factor).add_(0.5).byte()
            parts.append(part.contiguous())
        return torch.cat(parts).to(self.device)

    def clip_pictures(self, size: int) -> tuple[Tensor, ...]:
        """Return the pictures of the training pool and of the held-out pool."""
        return self.pictures(self.train_pool, size), self.pictures(self.held_out_pool, size)

    def examples(self, stage: str, size: int) -> Examples:
        """Return scenes at `size` px, some of them more often where the stage finds them hard."""
        if size > LARGE:
            held_out = self.preset.large_pool // 50 + 1
            return Examples(pictures=self.pictures(self.large_pool, size), held_out=held_out)
        return Examples(
            pictures=torch.cat(self.clip_pictures(size)),
            held_out=self.held_out,
            emphasis=self._emphasised(stage),
        )

    def _emphasised(self, stage: str) -> Emphasis | None:
        """What a stage finds hard; the transformer still has to learn the easy."""
        if stage == "transformer":
            return None
        return self._hard() if stage == "decoder" else self._hinted()

    def _hard(self) -> Emphasis:
        """The scenes that a decoder learns last: in a style, or of several things."""
        labels = self.train_pool.labels
        return self._emphasis((labels.style > 0) | (labels.objects.sum(axis=1) > 1), HARD)

    def _hinted(self) -> Emphasis | None:
        """Scenes in a style that 64 pixels show and 16 only hint at; None where the small picture shows all of them."""
        styles = [self.world.styles.index(name) for name in self.world.hinted]
        return self._emphasis(np.isin(self.train_pool.labels.style, styles), HINTED) if styles else None

    def _emphasis(self, chosen: NDArray[np.bool_], share: float) -> Emphasis:
        return Emphasis(rows=torch.from_numpy(chosen.nonzero()[0]).to(self.device), share=share)
