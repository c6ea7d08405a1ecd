"""Which machines painted the pictures of a batch: another one rounds in another way, so nobody mixes them unawares."""

from collections.abc import Callable

from dallecli.engine import Engine
from dallecli.recipe import Recipe


class Machines:
    """Compares what painted the pictures that are there with what will paint the missing ones.

    `mixed` hears of every difference once: before and now, in the words of `Recipe.machine`. Requests that ask for a
    device or a number type are compared with their like only.
    """

    def __init__(self, mixed: Callable[[str, str], None]) -> None:
        self._mixed = mixed
        self._before: dict[tuple[str | None, str | None], set[str]] = {}
        self._now: dict[tuple[str | None, str | None], str] = {}
        self._told: set[tuple[str, str]] = set()

    def painted(self, recipe: Recipe, machine: str) -> None:
        """A picture of this request is there. Journals up to 0.1.0 do not say what painted it: ""."""
        kind = recipe.device, recipe.dtype
        if machine and machine not in self._before.setdefault(kind, set()):
            self._before[kind].add(machine)
            self._compare(kind)

    def paint(self, recipe: Recipe, engine: Engine) -> None:
        """A picture of this request is missing."""
        kind = recipe.device, recipe.dtype
        if kind not in self._now:
            self._now[kind] = engine.machine(recipe)
            self._compare(kind)

    def _compare(self, kind: tuple[str | None, str | None]) -> None:
        now = self._now.get(kind)
        for before in sorted(self._before.get(kind, ())):
            if now is not None and before != now and (before, now) not in self._told:
                self._told.add((before, now))
                self._mixed(before, now)
