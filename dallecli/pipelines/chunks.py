"""Pictures in chunks, of one recipe or of several: those of a chunk are painted at once."""

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

    recipes: tuple[Recipe, ...]
    """One a picture."""
    numbers: range
    """Their numbers among all that are painted, from 0."""
    watch: LookingWatch
    began: float
    """When painting them began, by `time.perf_counter`."""

    @property
    def seeds(self) -> list[int]:
        """One a picture."""
        return [recipe.seed for recipe in self.recipes]

    def own(self, values: Sequence[T]) -> list[T]:
        """A value for each picture: its own, or the only one, which is for all pictures of the recipe."""
        return [values[k] if len(values) > 1 else values[0] for k in self.numbers]

    def pictures(
        self, images: Sequence[Image.Image], scores: Sequence[Mapping[str, float]] | None = None
    ) -> Iterator[Picture]:
        """The painted pictures, each with its own recipe, its share of the time, and its `scores`."""
        together = len(self.recipes)
        seconds = (time.perf_counter() - self.began) / together
        own = scores if scores is not None else [{}] * together
        for recipe, image, score in zip(self.recipes, images, own, strict=True):
            yield Picture(image=image, recipe=replace(recipe, together=together), seconds=seconds, scores=score)


def chunks_of(recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Chunk]:
    """The pictures of a recipe, `batch` at a time.

    The time of the first begins now, so it includes what is done once for all.
    """
    return _chunks(recipe, progress, batch, time.perf_counter())


def _chunks(recipe: Recipe, progress: Callable[[Progress], None], batch: int, began: float | None) -> Iterator[Chunk]:
    for first in range(0, recipe.count, batch):
        numbers = range(first, min(first + batch, recipe.count))
        singles = tuple(recipe.single(k) for k in numbers)
        began = began if began is not None else time.perf_counter()
        watch = watch_pictures(progress, numbers, recipe.count)
        yield Chunk(recipes=singles, numbers=numbers, watch=watch, began=began)
        began = None


def one_of_each(recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Chunk:
    """The one picture of each recipe, painted at once; its time begins now."""
    numbers = range(len(recipes))
    watch = watch_pictures(progress, numbers, len(recipes))
    return Chunk(recipes=tuple(recipes), numbers=numbers, watch=watch, began=time.perf_counter())
