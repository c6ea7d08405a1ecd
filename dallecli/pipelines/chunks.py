"""The pictures of a recipe, so many at a time as are painted at once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pipelines.watch import Watch, watch_pictures
from dallecli.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Pictures that are painted at once: their numbers in the recipe, and their seeds."""

    recipe: Recipe
    numbers: range
    seeds: tuple[int, ...]
    watch: Watch
    began: float

    def own(self, values: Sequence[T]) -> list[T]:
        """A value for each picture: its own of all in the recipe, or the one that is for all."""
        return [values[k] if len(values) > 1 else values[0] for k in self.numbers]

    def pictures(
        self, images: Sequence[Image.Image], scores: Sequence[Mapping[str, float]] | None = None
    ) -> Iterator[Picture]:
        """What was painted, with the recipe and the share of the time of each, and its `scores`."""
        seconds = (time.perf_counter() - self.began) / len(self.numbers)
        for row, (k, image) in enumerate(zip(self.numbers, images, strict=True)):
            own = scores[row] if scores is not None else {}
            yield Picture(image=image, recipe=self.recipe.single(k), seconds=seconds, scores=own)


def chunks_of(recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Chunk]:
    """The pictures of a recipe, `batch` at a time.

    The clock of the first runs from now on, so it pays for what is done once for all.
    """
    return _chunks(recipe, progress, batch, time.perf_counter())


def _chunks(recipe: Recipe, progress: Callable[[Progress], None], batch: int, began: float | None) -> Iterator[Chunk]:
    for first in range(0, recipe.count, batch):
        numbers = range(first, min(first + batch, recipe.count))
        seeds = tuple(recipe.single(k).seed for k in numbers)
        began = began if began is not None else time.perf_counter()
        watch = watch_pictures(progress, numbers, recipe.count)
        yield Chunk(recipe=recipe, numbers=numbers, seeds=seeds, watch=watch, began=began)
        began = None
