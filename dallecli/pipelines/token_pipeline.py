"""Models that write a picture as codes, and have an autoencoder that turns these into pixels: what they share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dallecli.diffusion.guidance import OFF
from dallecli.diffusion.noise import Noise
from dallecli.engine import Progress
from dallecli.errors import TaskNotSupported
from dallecli.pictures.picture import Picture
from dallecli.pictures.reading import read_picture
from dallecli.pipelines.chunks import chunks_of, one_of_each
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.token_sampling import Writer, unfinished, write_codes
from dallecli.pipelines.watch import LookingWatch
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.tasks.generate import Generating
from dallecli.tasks.stages import CODES, TokenSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the pictures that are painted at once are told."""

    prompts: Sequence[str]
    """One for each picture."""
    negative: str
    """What guidance leads away from; "" is no words at all."""
    guided: bool
    """Whether each picture has a second row of logits, without its prompt: see `Writer`."""


class TokenPipeline(Pipeline):
    """Words to codes, row by row from the upper left, and those to pixels.

    parts: the folder's. side: how many codes a picture has along each side. cell: how many pixels a code stands for
    along each side. writing, drawing: the networks that write codes, and that make pixels of them.
    """

    side: int
    cell: int
    writing: tuple[str, ...]
    drawing: str

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.folder)
        self.parts = parts

    @abstractmethod
    def writer(self, words: Words, dtype: torch.dtype, watch: LookingWatch) -> Writer:
        """What writes the codes of pictures of these words, computing in `dtype`."""

    @abstractmethod
    def pixels(self, codes: Tensor) -> list[Image.Image]:
        """The pictures of codes [b h w], of any height. Raises NonFinite."""

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Yield the pictures of a recipe as they are done, `batch` at a time."""
        known = self._known(recipe)
        for chunk in chunks_of(recipe, progress, batch):
            prompts = [recipe.prompt] * len(chunk.seeds)
            yield from chunk.pictures(self._paint(recipe, prompts, chunk.seeds, chunk.watch, known))

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> list[Picture]:
        """The one picture of each recipe, all painted at once."""
        chunk, prompts = one_of_each(recipes, progress), [recipe.prompt for recipe in recipes]
        return list(chunk.pictures(self._paint(recipes[0], prompts, chunk.seeds, chunk.watch)))

    def _known(self, recipe: Recipe) -> Tensor | None:
        """The upper rows of codes [1 k] of the picture that a recipe goes on from; None if there is none."""
        if not isinstance(recipe.settings, Generating) or recipe.settings.continued is None:
            return None
        if self.coder is None:
            raise TaskNotSupported(f"{recipe.model} has no codes of pictures")
        codes = self.coder.encode(read_picture(recipe.inputs[0]).image, Size.square(self.side * self.cell))
        return torch.from_numpy(codes[: recipe.settings.continued].astype(np.int64)).view(1, -1)

    @torch.inference_mode()
    def _paint(
        self,
        recipe: Recipe,
        prompts: Sequence[str],
        seeds: Sequence[int],
        watch: LookingWatch,
        known: Tensor | None = None,
    ) -> list[Image.Image]:
        """Pictures of these prompts and seeds, with the dials of a recipe. Codes that are `known` [1 k] are kept."""
        dials, settings = recipe.stages[CODES.name], recipe.settings
        if not isinstance(dials, TokenSettings) or not isinstance(settings, Generating):
            raise TypeError(f"{recipe.model} cannot {recipe.task}")
        if all(prompt == settings.negative for prompt in prompts):
            dials = replace(dials, guidance=OFF)  # it would lead nowhere
        words = Words(prompts=prompts, negative=settings.negative, guided=dials.guidance != OFF)
        noise = Noise(seeds)
        show = self._unfinished if self._stay else None
        kept = None if known is None else known.expand(len(seeds), -1)

        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            return write_codes(
                self.writer(words, dtype, watch), noise, dials, self.side**2, watch, known=kept, show=show
            )

        codes = self.parts.finite(CODES.name, noise, run)
        pictures = self.pixels(codes.view(-1, self.side, self.side))
        watch("pixels", 1, 1)
        return pictures

    @property
    def _stay(self) -> bool:
        """Whether unfinished pictures can be shown: only if no network has to leave the memory for it."""
        kept = self.parts.kept
        return kept is None or {*self.writing, self.drawing} <= set(kept)

    def _unfinished(self, codes: Tensor) -> list[Image.Image]:
        return unfinished(codes, self.side, self.cell, self.pixels)
