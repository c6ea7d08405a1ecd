"""The pictures of a recipe in chunks: those of a chunk are painted at once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from PIL import Image

from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pipelines.watch import LookingWatch, watch_pictures
from dallecli.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Pictures that are painted at once."""

    recipe: Recipe
    numbers: range
    """Their numbers in the recipe, from 0."""
    seeds: tuple[int, ...]
    watch: LookingWatch
    began: float
    """When painting them began, by `time.perf_counter`."""

    def own(self, values: Sequence[T]) -> list[T]:
        """A value for each picture: its own, or the only one, which is for all pictures of the recipe."""
        return [values[k] if len(values) > 1 else values[0] for k in self.numbers]

    def pictures(
        self, images: Sequence[Image.Image], scores: Sequence[Mapping[str, float]] | None = None
    ) -> Iterator[Picture]:
        """The painted pictures, each with its own recipe, its share of the time, and its `scores`."""
        seconds = (time.perf_counter() - self.began) / len(self.numbers)
        for row, (k, image) in enumerate(zip(self.numbers, images, strict=True)):
            own = scores[row] if scores is not None else {}
            recipe = replace(self.recipe.single(k), together=len(self.numbers))
            yield Picture(image=image, recipe=recipe, seconds=seconds, scores=own)


def chunks_of(recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Chunk]:
    """The pictures of a recipe, `batch` at a time.

    The time of the first begins now, so it includes what is done once for all.
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
