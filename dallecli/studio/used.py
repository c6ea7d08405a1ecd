"""The digest of what a recipe uses of a model: a folder that gains a part still has the weights of older recipes."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from dallecli.recipe import Recipe
from dallecli.weights.digest import combined_digest
from dallecli.weights.folder import PREPROCESSING, Folder
from dallecli.weights.layouts import LAYOUTS


@dataclass(frozen=True, slots=True)
class Digests:
    """The sha256 of every file of a model, as they were when this was made."""

    folder: Folder
    files: tuple[tuple[str, str, str], ...]
    """Of each its part, its name in the folder and its sha256."""

    @classmethod
    def read(cls, folder: Folder) -> "Digests":
        """Those of a folder; large files are remembered from one process to the next. Raises BadFolder, BadFile."""
        return cls(folder, tuple(folder.file_digests()))

    def of(self, recipe: Recipe) -> str:
        """The sha256 of what a recipe uses: of the smallest model that could paint it, taken from this one."""
        return next(self._all(recipe))

    def judging(self) -> str:
        """The sha256 of what is used of a model that only judges: its CLIP, and how pictures are prepared for it."""
        facts = self.folder.family.clip
        assert facts is not None  # or it would not have become a judge
        tokenizer = facts.meaning.replace("text_encoder", "tokenizer")
        parts = (facts.meaning, tokenizer, "image_encoder", PREPROCESSING)
        return self._digest(frozenset(parts))

    def accept(self, recipe: Recipe, digest: str) -> bool:
        """Whether a digest is that of any model that is in this one, and could paint the recipe."""
        return any(digest == found for found in self._all(recipe))

    def _all(self, recipe: Recipe) -> Iterator[str]:
        """The digests of the models in this one that could paint a recipe, the smallest first."""
        needed = _needed(self.folder, recipe)
        for parts in sorted(_models(self.folder), key=len):
            if needed <= parts:
                yield self._digest(parts if "image_encoder" in parts else parts - {PREPROCESSING})
        for parts in _models(self.folder):
            if needed <= parts:  # older recipes counted how pictures are prepared, whether that was used or not
                yield self._digest(parts)

    def _digest(self, parts: frozenset[str]) -> str:
        return combined_digest((name, sha256) for part, name, sha256 in self.files if part in parts)


def _models(folder: Folder) -> Iterator[frozenset[str]]:
    """The parts of every model that is in this one: of its own layout and of those that are opened alike."""
    family, there = folder.family, frozenset(folder.parts)
    for layout in LAYOUTS.values():
        always = frozenset((*layout.networks, *layout.schedules, *layout.others, PREPROCESSING))
        if (layout.opener, layout.folders) != (family.opener, family.folders) or not always <= there | {PREPROCESSING}:
            continue
        groups = [frozenset(group) for group in layout.optional if there.issuperset(group)]
        for count in range(len(groups) + 1):
            yield from (always.union(*some) for some in combinations(groups, count))


def _needed(folder: Folder, recipe: Recipe) -> frozenset[str]:
    """The parts that not every model has, and that a recipe needs: all that runs is in a model that has these."""
    family = folder.family
    asked = family.tasks[recipe.task]
    # A task that has the stand-ins of other parts for itself uses them where the other parts are, too.
    own = family.fallbacks if asked in family.fallbacks.values() else {}
    needed = frozenset({asked})
    for runs in family.stages:
        if runs.stage.name in recipe.stages:
            parts = [part for part in (runs.network, runs.schedule) if part is not None]
            needed |= {own[part] if part in own else folder.instead(part) for part in parts}
            needed |= {family.beside[part] for part in parts if part in family.beside}
    if recipe.settings.best_of is not None and recipe.settings.judge is None:
        needed |= {"image_encoder"}
    if recipe.prior is not None and family.clip is not None:
        needed |= {family.clip.meaning}
    return needed & frozenset(folder.parts)
