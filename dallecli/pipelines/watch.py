"""How the steps of a stage are reported: from a step's number to a `Progress` that says which pictures it is for."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from dallecli.engine import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

Look = Callable[[], "Sequence[Image]"]
"""Makes the unfinished pictures."""


class Watch(Protocol):
    """Called after each step with the stage, the steps done and the steps in all; and how to look at what is there."""

    def __call__(self, stage: str, step: int, steps: int, /, look: Look | None = None) -> None: ...


LookingWatch = Watch
"""The same, where there is always something to look at."""


def watch_pictures(
    progress: Callable[[Progress], None], numbers: range, pictures: int, square: int = 0, squares: int = 1
) -> Watch:
    """A watch over steps that work on the pictures of these numbers, of so many `pictures` in all."""

    def watch(stage: str, step: int, steps: int, /, look: Look | None = None) -> None:
        progress(
            Progress(
                stage=stage,
                step=step,
                steps=steps,
                picture=numbers[0],
                pictures=pictures,
                together=len(numbers),
                square=square,
                squares=squares,
                look=look,
            )
        )

    return watch
