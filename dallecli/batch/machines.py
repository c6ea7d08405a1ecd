"""Which machines painted the pictures of a batch: another one rounds in another way, so nobody mixes them unawares."""

from collections.abc import Callable
from dataclasses import replace

from dallecli.engine import Engine
from dallecli.recipe import Recipe

Kind = tuple[str | None, str | None, int | None]
"""The device and the number type that are asked for, and of pictures that have no other company how many they are."""


def together(recipe: Recipe, engine: Engine) -> int:
    """How many pictures an engine paints at a time, at most, where one of this recipe is among them."""
    company = _company(recipe)
    return engine.group(recipe) if company is None else min(engine.group(recipe), company)


def _company(recipe: Recipe) -> int | None:
    """How many pictures are painted with each other alone; None for those of any recipes that are alike."""
    whole = recipe.candidates()
    alone = recipe.settings.best_of is not None or not whole.single(0).has_company
    return whole.count if alone else None


def kind_of_machine(recipe: Recipe) -> Kind:
    """What of a recipe decides which machine's pictures it is compared with."""
    return recipe.device, recipe.dtype, _company(recipe)


def kind_of(recipe: Recipe) -> tuple[object, ...]:
    """What decides whether a machine can paint it: one that can paint one such recipe can paint all of them."""
    return recipe.model, recipe.task, recipe.settings.judge, recipe.device, recipe.dtype


class Machines:
    """Compares what painted the pictures that are there with what will paint the missing ones.

    `mixed` hears of every difference once: before and now, in the words of `Recipe.machine`. Requests that ask for a
    device or a number type are compared with their like only, and so are those that are not painted with others.
    """

    def __init__(self, mixed: Callable[[str, str], None]) -> None:
        self._mixed = mixed
        self._before: dict[Kind, set[str]] = {}
        self._now: dict[Kind, str] = {}
        self._told: set[tuple[str, str]] = set()

    def painted(self, recipe: Recipe, machine: str) -> None:
        """A picture of this request is there. Journals up to 0.1.0 do not say what painted it: ""."""
        kind = kind_of_machine(recipe)
        if machine and machine not in self._before.setdefault(kind, set()):
            self._before[kind].add(machine)
            self._compare(kind)

    def paint(self, recipe: Recipe, engine: Engine) -> None:
        """A picture of this request is missing."""
        kind = kind_of_machine(recipe)
        if kind not in self._now:
            self._now[kind] = engine.machine(replace(recipe, together=together(recipe, engine)))
            self._compare(kind)

    def _compare(self, kind: Kind) -> None:
        now = self._now.get(kind)
        for before in sorted(self._before.get(kind, ())):
            if now is not None and before != now and (before, now) not in self._told:
                self._told.add((before, now))
                self._mixed(before, now)
