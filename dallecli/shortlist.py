"""The best of many pictures: which are still to be painted, and which of those that are scored stay in memory."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count as counting
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Final

from dallecli.recipe import Recipe

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture

OWN: Final = "clip"
"""The name of the score that a model's own CLIP gives. One of another model has its name: what two CLIPs say of a
picture cannot be compared."""


class Scores:
    """The scores of the pictures of a best-of by their seeds. These are forgotten; those of a `ScoreFile` are not."""

    lasts: ClassVar[bool] = False
    """Whether they are there for a later run."""

    def __init__(self) -> None:
        self.known: dict[int, float] = {}

    def note(self, seed: int, score: float) -> None:
        """A picture is scored."""
        self.known[seed] = score

    def remove(self) -> None:
        """Forget them: what was kept is where it should be."""
        self.known.clear()


class Shortlist:
    """The best pictures of a best-of among those that are scored so far. Only these are in memory.

    recipe: the best-of. scores: those that are known already.
    """

    def __init__(self, recipe: Recipe, scores: Scores | None = None) -> None:
        best_of = recipe.settings.best_of
        assert best_of is not None  # or there would be nothing to choose
        self._seeds = range(recipe.seed, recipe.seed + best_of)
        self._count = recipe.count
        self._settings = recipe.settings
        self._scores = scores if scores is not None else Scores()
        self._pictures: dict[int, Picture] = {}

    @property
    def best(self) -> list[int]:
        """The seeds of the best, the best first; of equal ones the earlier first."""
        known = self._scores.known
        return sorted((seed for seed in self._seeds if seed in known), key=lambda seed: (-known[seed], seed))[
            : self._count
        ]

    def missing(self, most: int | None = None) -> Iterator[tuple[int, int]]:
        """What is not scored yet, as first seeds and how many follow each other, at most `most`."""
        seeds = [seed for seed in self._seeds if seed not in self._scores.known]
        most = most if most is not None else len(self._seeds)
        steps = counting()
        for _, run in groupby(seeds, key=lambda seed: seed - next(steps)):
            several = list(run)
            for k in range(0, len(several), most):
                yield several[k], len(several[k : k + most])

    def take(self, picture: "Picture", score: float) -> None:
        """A picture is scored: it stays if it is among the best."""
        seed = picture.recipe.seed
        self._scores.note(seed, score)
        self._pictures[seed] = picture
        best = set(self.best)
        self._pictures = {seed: picture for seed, picture in self._pictures.items() if seed in best}

    def absent(self) -> list[int]:
        """The seeds of the best that were scored by an earlier run, and are no longer here."""
        return [seed for seed in self.best if seed not in self._pictures]

    def put(self, picture: "Picture") -> None:
        """One of the best is here again."""
        self._pictures[picture.recipe.seed] = picture

    def pictures(self) -> Iterator["Picture"]:
        """The best pictures, the best first, with their scores and who gave them."""
        settings = self._settings
        name = settings.judge if settings.judge is not None else OWN
        for seed in self.best:
            picture = self._pictures[seed]
            scores = {**picture.scores, name: self._scores.known[seed]}
            recipe = picture.recipe.judged(settings.judge, settings.judge_digest)
            yield replace(picture, scores=scores, recipe=recipe)
