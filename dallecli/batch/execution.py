"""Who paints the pictures of a batch: an `Executor` takes units of work, and says what became of them.

The engine of this machine paints a unit at once. Workers elsewhere take several, and answer in any order.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dallecli.batch.item import Item
from dallecli.engine import Engine, Progress
from dallecli.errors import DalleError, NonFinite, OutOfMemory, RequestError
from dallecli.recipe import Recipe

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture
    from dallecli.shortlist import Scores

OF_PICTURES = (RequestError, NonFinite, OutOfMemory)
"""The errors that a picture is to blame for; with any other, going on makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What is painted at a time: the one picture of each of several recipes that are alike, or one recipe.

    `items` are for the pictures in their order; None for one that nobody waits for. `scores` are those of a best-of.
    """

    recipes: tuple[Recipe, ...]
    items: tuple[Item | None, ...]
    together: bool
    """Whether the recipes are alike and painted together; else there is one, of any number of pictures."""
    scores: "Scores | None" = None

    @property
    def wanted(self) -> list[Item]:
        """The pictures that somebody waits for."""
        return [item for item in self.items if item is not None]

    def alone(self, place: int) -> "Unit":
        """The unit of one of the recipes that would be painted together."""
        return Unit(recipes=(self.recipes[place],), items=(self.items[place],), together=True)


@dataclass(frozen=True, slots=True)
class Painted:
    """A picture is there."""

    item: Item
    picture: "Picture"


@dataclass(frozen=True, slots=True)
class Failed:
    """The pictures of a unit that are not there, and why. Of several, one may be to blame."""

    unit: Unit
    places: tuple[int, ...]
    error: DalleError

    @property
    def items(self) -> list[Item]:
        """Those that somebody waits for."""
        return [item for item in (self.unit.items[place] for place in self.places) if item is not None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing more has come yet. So many `busy` of all `workers` paint."""

    busy: int
    workers: int


Outcome = Painted | Failed | Waiting


class Executor(Protocol):
    """Paints units."""

    def paint(self, unit: Unit) -> Iterator[Outcome]:
        """Take a unit, if need be when there is room for it; yield what became of it, or of earlier ones.

        Raises: what is no picture's fault, as DiskFull and WeightsError.
        """
        ...

    def finish(self) -> Iterator[Outcome]:
        """Yield what becomes of all units that were taken. Raises as `paint`."""
        ...

    def drain(self) -> Iterator[Outcome]:
        """Somebody wants the process to end: yield what can still be had of what is being painted, and take no more."""
        ...


class LocalExecutor:
    """The engine of this process: a unit is painted when it is taken."""

    def __init__(self, engine: Engine, progress: Callable[[Progress], None]) -> None:
        self._engine = engine
        self._progress = progress

    def paint(self, unit: Unit) -> Iterator[Outcome]:
        left = dict(enumerate(unit.items))
        try:
            for place, picture in enumerate(self._pictures(unit)):
                item = left.pop(place)
                if item is not None:
                    yield Painted(item, picture)
        except OF_PICTURES as error:
            yield Failed(unit, tuple(left), error)

    def finish(self) -> Iterator[Outcome]:
        return iter(())

    def drain(self) -> Iterator[Outcome]:
        return iter(())

    def _pictures(self, unit: Unit) -> Iterator["Picture"]:
        if unit.together:
            return self._engine.paint_together(unit.recipes, self._progress)
        if unit.scores is not None:
            return self._engine.paint(unit.recipes[0], self._progress, unit.scores)
        return self._engine.paint(unit.recipes[0], self._progress)


def together_unit(items: Sequence[Item]) -> Unit:
    """The unit of pictures that are alike."""
    return Unit(recipes=tuple(item.recipe.single(item.k) for item in items), items=tuple(items), together=True)
