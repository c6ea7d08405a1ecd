"""How far a whole run is, and how long it takes yet: all its pictures, frames or squares, and the stages of each.

A run has parts, each of which one call of an engine paints. Nothing is drawn here, and no clock is read. One thread may
ask while another one tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dallecli.engine import Progress
    from dallecli.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one call of an engine paints: so many `pictures`, each by these stages in order, with the steps of each.

    Without stages nobody knows beforehand what is going to run.
    """

    pictures: int
    stages: Mapping[str, int] = field(default_factory=dict)
    noun: str = "picture"


def parts_of(recipe: "Recipe") -> list[Part]:
    """The parts in which a recipe is painted: one, but for a best-of that knows which pictures were kept."""
    # Stages that draw tokens have no steps that a recipe states; they are shown as they come.
    stages = {name: dials.count for name, dials in recipe.stages.items() if hasattr(dials, "count")}
    settings, noun = recipe.settings, "frame" if recipe.settings.has_frames else "picture"
    if settings.kept is not None:
        return [Part(pictures=1, stages=stages, noun=noun)] * recipe.count
    return [Part(pictures=settings.best_of or recipe.count, stages=stages, noun=noun)]


@dataclass(slots=True)
class StageState:
    """A stage of the pictures that are being painted. Times are seconds on the caller's clock."""

    steps: int
    step: int = 0
    seconds: float = 0.0
    """How long it took so far, with what was done between it and the stage before."""
    first: float = 0.0
    """When its first step was done."""
    last: float = 0.0
    """When its latest step was done."""
    untimed: int = 0
    """How many of its steps are not in `seconds`: 1 for the first step of a run, whose beginning nobody saw."""

    @property
    def rate(self) -> float | None:
        """Steps a second; None before the second step."""
        return (self.step - 1) / (self.last - self.first) if self.step > 1 and self.last > self.first else None

    @property
    def left(self) -> float | None:
        """How long its other steps take; None before that can be said."""
        if self.step >= self.steps:
            return 0.0
        return None if self.rate is None else (self.steps - self.step) / self.rate

    @property
    def whole(self) -> float:
        """How long it takes in all, as far as that can be said."""
        known = self.seconds + (self.left or 0.0)
        return known * self.steps / (self.steps - self.untimed) if self.steps > self.untimed else known

    def take(self, step: int, steps: int, now: float, since: float | None) -> None:
        """A step was done, `since` seconds after the latest one of any stage; None for the first of all."""
        if step == 1 or self.step == 0:
            self.first = now
        self.step, self.steps, self.last = step, steps, now
        if since is None:
            self.untimed = 1
        else:
            self.seconds += since


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a stage took for one picture (or one square of it), and with how many steps in the recipe."""

    seconds: float
    steps: int


class Run:
    """A run: `begin` each part, and `take` its progress. Without parts it is what the progress says it is."""

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self.stages: dict[str, StageState] = {}
        """The stages of the pictures that are being painted."""
        self.progress: Progress | None = None
        """The latest step; None at the beginning of a part."""
        self._parts = list(parts)
        self._number = 0
        self._began = False
        self._before = 0  # pictures of the parts before this one
        self._unit: tuple[int, int] | None = None  # the picture and the square of it that are being painted
        self._pace: dict[str, Pace] = {}
        self._first: float | None = None
        self._last = 0.0
        self._share = 0.0

    @property
    def part(self) -> Part:
        """The part that is being painted."""
        if self._number < len(self._parts):
            return self._parts[self._number]
        step = self.progress
        return Part(pictures=step.pictures if step is not None else 1)

    @property
    def total(self) -> int:
        """How many pictures all parts have together."""
        return sum(part.pictures for part in self._parts) if self._parts else self.part.pictures

    @property
    def position(self) -> str:
        """Which pictures, and which square of them, are being painted, in words."""
        noun, step = self.part.noun, self.progress
        picture, together = (step.picture, step.together) if step is not None else (0, 1)
        first, last = self._before + picture + 1, self._before + picture + together
        which = f"{noun} {first}" if first == last else f"{noun}s {first} to {last}"
        which = f"{which} of {self.total}" if self.total > 1 else ""
        return ", ".join(text for text in (which, self._square) if text) or noun

    @property
    def count(self) -> str:
        """The same where there is little room."""
        step = self.progress
        return f"{self._before + (step.picture if step is not None else 0) + 1}/{self.total}"

    @property
    def skipped(self) -> set[str]:
        """The stages that do not run for these pictures, as what is done only once for all pictures."""
        begun = [k for k, state in enumerate(list(self.stages.values())) if state.step > 0]
        return {name for name, state in list(self.stages.items())[: max(begun, default=0)] if state.step == 0}

    @property
    def _square(self) -> str:
        step = self.progress
        return "" if step is None or step.squares == 1 else f"square {step.square + 1} of {step.squares}"

    def begin(self) -> None:
        """The next part begins."""
        if self._began:
            self._before += self.part.pictures
            self._end_unit()
            self._number += 1
        self._began, self.progress, self._unit = True, None, None
        self.stages = self._planned()

    def take(self, progress: "Progress", now: float) -> None:
        """A step was done."""
        unit = progress.picture, progress.square
        # In a run without parts, the first stage begins again with the next pictures.
        again = not self._parts and progress.step == 1 and progress.stage == next(iter(self.stages), None)
        if unit != self._unit or again:
            self._end_unit()
            self._unit, self.stages = unit, self._planned()
        since = None if self._first is None else now - self._last
        self._first, self._last = now if self._first is None else self._first, now
        self.progress = progress
        state = self.stages.setdefault(progress.stage, StageState(steps=progress.steps))
        state.take(progress.step, progress.steps, now, since)

    def left(self, now: float) -> float | None:
        """How many seconds the whole run takes yet; None before that can be said.

        It can when every stage that is still to come has been seen: at the latest with the second picture, and of a
        single one when its last stage runs.
        """
        step = self.progress
        here = None if step is None else self._left_here(step)
        if step is None or here is None:
            return None
        skipped = self.skipped
        known = self._pace if self._pace else self._paces()
        pace = {name: one for name, one in known.items() if name not in skipped}
        squares = step.together * (step.squares - step.square - 1)
        pictures = max(0, self.part.pictures - step.picture - step.together)
        left = here + (squares + pictures * step.squares) * _cost(pace, self.part)
        later = self._parts[self._number + 1 :]
        left += sum(part.pictures * step.squares * _cost(pace, part) for part in later)
        return max(0.0, left - (now - self._last))

    def share(self, now: float) -> float:
        """How much of the run is done, from 0 to 1; it never falls."""
        left, step = self.left(now), self.progress
        if left is not None and self._first is not None:
            share = (now - self._first) / max(1e-9, now - self._first + left)
        else:
            states = list(self.stages.values())
            done, of = (sum(getattr(state, name) for state in states) for name in ("step", "steps"))
            together, squares, square = (step.together, step.squares, step.square) if step is not None else (0, 1, 0)
            # Where nobody knows what is still to come, a stage that is done says nothing of the picture.
            known = not self._parts or bool(self.part.stages)
            here = together * (square + (done / max(1, of) if known else 0)) / squares
            share = (self._before + (step.picture if step is not None else 0) + here) / max(1, self.total)
        self._share = max(self._share, min(1.0, share))
        return self._share

    def _planned(self) -> dict[str, StageState]:
        return {name: StageState(steps=steps) for name, steps in self.part.stages.items()}

    def _end_unit(self) -> None:
        """The pictures of this unit are done: the next ones will take as long."""
        if self._unit is not None:
            self._pace = self._paces()

    def _paces(self) -> dict[str, Pace]:
        step = self.progress
        together = step.together if step is not None else 1
        return {
            name: Pace(state.whole / together, self.part.stages.get(name, state.steps))
            for name, state in list(self.stages.items())
            if state.step > 0
        }

    def _left_here(self, step: "Progress") -> float | None:
        """How long the pictures that are being painted take yet."""
        left, skipped = 0.0, self.skipped
        for name, state in list(self.stages.items()):
            if name in skipped:
                continue
            known = self._pace.get(name)
            own = state.left if state.step > 0 else None
            if own is not None:
                left += own
            elif known is not None:
                left += (1 - state.step / state.steps) * step.together * _cost({name: known}, self.part)
            elif state.step > 0 or not self._pace:
                return None
        return left


def _cost(pace: Mapping[str, Pace], part: Part) -> float:
    """How many seconds one picture of a part takes at such a pace."""
    return sum(known.seconds * part.stages.get(name, known.steps) / known.steps for name, known in pace.items())
