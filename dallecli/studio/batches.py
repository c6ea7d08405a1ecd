"""Painting several pictures at a time, and half as many when memory runs out; the pictures stay the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dallecli.engine import Progress
from dallecli.errors import OutOfMemory
from dallecli.recipe import Recipe
from dallecli.studio.memory import memory_errors, release

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture

BATCH: Final[Mapping[str, int]] = {"cpu": 1, "mps": 1, "cuda": 8}
"""Pictures at a time by type of device. On a CPU several at a time would be faster with small models, but one at a time
makes a picture the same to the last bit, whatever it was painted with. On a GPU it may differ."""

MOST_TOGETHER: Final = 32
"""No more pictures at a time are painted on the word of a recipe, which may be a stranger's."""

Paint = Callable[[Recipe, Callable[[Progress], None], int], Iterator["Picture"]]
"""Paints a recipe, so many pictures at a time: `Pipeline.paint`."""

PaintTogether = Callable[[Sequence[Recipe], Callable[[Progress], None]], list["Picture"]]
"""Paints the one picture of each recipe at once: `Pipeline.paint_together`."""


def paint_in_batches(
    paint: Paint, recipe: Recipe, progress: Callable[[Progress], None], batches: dict[str, int], kind: str
) -> Iterator["Picture"]:
    """Paint a recipe, `batches[kind]` pictures at a time; when memory runs out, continue with half as many.

    Finished pictures are not painted again. The number that worked is kept in `batches`.

    Raises:
        OutOfMemory: there is not enough memory for one picture at a time.
    """
    done = 0
    while done < recipe.count:
        first = done
        rest = recipe.rest(first)

        def watch(step: Progress, first: int = first) -> None:
            progress(replace(step, picture=step.picture + first, pictures=recipe.count))

        failed = False
        try:
            with memory_errors(recipe.model):
                for picture in paint(rest, watch, batches[kind]):
                    done += 1
                    yield picture
        except OutOfMemory:
            if batches[kind] == 1:
                raise
            failed = True
        if failed:  # not in the except block, where the exception still holds on to the tensors of the attempt
            batches[kind] //= 2
            release(kind)


def paint_groups(
    paint: PaintTogether,
    recipes: Sequence[Recipe],
    progress: Callable[[Progress], None],
    batches: dict[str, int],
    kind: str,
) -> Iterator["Picture"]:
    """Paint the picture of each recipe, `batches[kind]` at once; when memory runs out, half as many.

    Raises:
        OutOfMemory: there is not enough memory for one picture at a time.
    """
    left = list(recipes)
    while left:
        size = batches[kind]
        some, pictures = left[:size], None
        # Filled up, and the copies thrown away: sums of another size may be rounded in another order.
        full = [*some, *[some[-1]] * (size - len(some))]

        def watch(step: Progress, count: int = len(some)) -> None:
            progress(replace(step, together=count, pictures=count))

        try:
            with memory_errors(some[0].model):
                pictures = paint(full, watch)
        except OutOfMemory:
            if size == 1:
                raise
        if pictures is None:  # not in the except block, where the exception still holds on to the tensors
            batches[kind] = size // 2
            release(kind)
        else:
            left = left[len(some) :]
            yield from pictures[: len(some)]
