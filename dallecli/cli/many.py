"""One bad input of many does not stop the others: it is named on standard error, and the exit code is 1 at the end."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from dallecli.cli.display import Display, to_stderr
from dallecli.errors import (
    BadCodes,
    BadEmbedding,
    BadInput,
    BadMask,
    BadPicture,
    BadRecipe,
    DalleError,
    NonFinite,
    PromptError,
    PromptTooLong,
    SomeFailed,
)
from dallecli.safe import safe

OF_INPUTS: Final = (
    *(BadInput, BadPicture, BadEmbedding, BadCodes, BadMask, BadRecipe),
    *(PromptError, PromptTooLong, NonFinite),
)
"""The errors that one input is to blame for; any other would meet all of them."""

T = TypeVar("T")
R = TypeVar("R")


class Many:
    """Inputs that are worked on one by one. Of a single input an error is raised as ever."""

    def __init__(
        self, total: int, display: Display, *, as_json: bool, errors: tuple[type[DalleError], ...] = OF_INPUTS
    ) -> None:
        """`errors` are those that one input is to blame for."""
        self.total = total
        self.bad = 0
        self._display = display
        self._as_json = as_json
        self._errors = errors

    @contextmanager
    def passing_over(self, name: str, count: int = 1) -> Iterator[None]:
        """Inside, what is wrong with an input of this name is said, and the next one may follow.

        `count` is how many inputs are worked on; an error of several is raised, as nobody knows which one it is about.
        """
        try:
            yield
        except self._errors as error:
            if self.total == 1 or count > 1:
                raise
            self.bad += 1
            self._display.clear()
            if self._as_json:
                to_stderr(json.dumps({**error.facts(), "where": error.where if error.where is not None else name}))
            else:
                hint = f" ({safe(error.hint)})" if error.hint is not None else ""
                to_stderr(f"{safe(name, 200)}: {safe(error.what)}{hint}")

    def each(self, work: Callable[[T], R], inputs: Sequence[T], name: Callable[[T], str] = str) -> list[R]:
        """What the work gives for every input that is good."""
        found = []
        for one in inputs:
            with self.passing_over(name(one)):
                found.append(work(one))
        return found

    def together(
        self, work: Callable[[Sequence[T]], Sequence[R]], inputs: Sequence[T], name: Callable[[T], str] = str
    ) -> list[tuple[T, R]]:
        """What the work gives for the good ones of these inputs: all at once, or one by one if one of them is bad."""
        try:
            return list(zip(inputs, work(inputs), strict=True))
        except self._errors:
            if self.total == 1:
                raise
        found: list[tuple[T, R]] = []
        for one in inputs:
            with self.passing_over(name(one)):
                found += zip([one], work([one]), strict=True)
        return found

    def finish(self) -> None:
        """Raises SomeFailed if an input was bad."""
        if self.bad > 0:
            raise SomeFailed(f"{self.bad} of {self.total} could not be used; each is named above")
