"""How the steps of a stage are reported: from a step's number to a `Progress` that says which pictures it is for."""

from collections.abc import Callable

from dallecli.engine import Progress

Watch = Callable[[str, int, int], None]
"""Called after each step with the stage, the steps done and the steps in all."""


def watch_pictures(
    progress: Callable[[Progress], None], numbers: range, pictures: int, square: int = 0, squares: int = 1
) -> Watch:
    """A watch over steps that work on the pictures of these numbers, of so many `pictures` in all."""

    def watch(stage: str, step: int, steps: int) -> None:
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
            )
        )

    return watch
