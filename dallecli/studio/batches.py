"""Painting several pictures at a time, and half as many when memory runs out; the pictures stay the same."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dallecli.devices import native_bf16
from dallecli.engine import Progress
from dallecli.errors import OutOfMemory
from dallecli.pipelines.description import Description
from dallecli.recipe import Recipe
from dallecli.studio.memory import memory_errors, release

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture
    from dallecli.placement import Placement

SMALL: Final = "small"
"""What is said instead of a type of device where a model is batch-invariant."""

BATCH: Final[Mapping[str, int]] = {"cpu": 1, "mps": 1, "cuda": 8, SMALL: 8}
"""Pictures at a time by type of device. On a CPU a large model keeps all cores busy with one picture, which is then the
same to the last bit, whatever it was painted with. A small one does neither: it is made batch-invariant instead. On a
GPU pictures may differ."""

MOST_NUMBERS: Final = 2**26
"""The most numbers that all networks of a small model have together. A larger one gains little by several pictures at a
time (`python benchmarks/levers.py`)."""

MOST_TOGETHER: Final = 32
"""No more pictures at a time are painted on the word of a recipe, which may be a stranger's."""

Paint = Callable[[Recipe, Callable[[Progress], None], int], Iterator["Picture"]]
"""Paints a recipe, so many pictures at a time: `Pipeline.paint`."""

PaintTogether = Callable[[Sequence[Recipe], Callable[[Progress], None]], list["Picture"]]
"""Paints the one picture of each recipe at once: `Pipeline.paint_together`."""


def is_batch_invariant(model: Description, placement: "Placement") -> bool:
    """Whether the pictures of a model are the same to the last bit, however many are painted at once.

    Only small models of some families are made so, where the processor allows it; in bfloat16 only where it has
    arithmetic for that, as they compute in float32 otherwise.
    """
    small = model.folder.family.batch_invariant and sum(model.parameters.values()) <= MOST_NUMBERS
    if placement.device.type != "cpu" or not small:
        return False
    if placement.kind == "bf16" and native_bf16() is None:
        return False
    from dallecli.nets.batch_invariant import WIDEST, can_be_batch_invariant

    return model.widest_sum <= WIDEST and can_be_batch_invariant(placement.dtype)


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
        full = some if kind == SMALL else [*some, *[some[-1]] * (size - len(some))]

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
