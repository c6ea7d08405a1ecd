"""The pictures of a batch: which there are for a request, by what they are known, and where they go."""

from dataclasses import dataclass, replace
from typing import Final

from dallecli.batch.jobs import Job
from dallecli.batch.journal import item_key
from dallecli.engine import Engine
from dallecli.pictures.formats import FORMATS
from dallecli.pictures.names import slug
from dallecli.recipe import Recipe

_TITLE_BYTES: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Picture `k` of a recipe: its key, its file relative to the folder, and where it was asked for."""

    key: str
    file: str
    recipe: Recipe
    k: int
    job: Job


class Items:
    """Makes the items of requests, whose files have one format. `engine` knows the digests of the weights."""

    def __init__(self, engine: Engine, format: str) -> None:
        self._engine = engine
        self._format = format
        self._digests: dict[tuple[object, ...], tuple[str, str | None]] = {}

    def of(self, job: Job, recipe: Recipe) -> list[Item]:
        """All pictures of a request; their recipe has the digests. Raises what an engine's `digest` raises."""
        recipe = self._with_digests(recipe)
        items = []
        for k, name in enumerate(file_names(self._format, job, recipe)):
            key = item_key(recipe, k, self._form(job))
            file = name if job.name is not None else f"{name}-{key[:8]}{FORMATS[self._format]}"
            items.append(Item(key=key, file=file, recipe=recipe, k=k, job=job))
        return items

    def keys(self, job: Job, recipe: Recipe) -> list[str]:
        """The keys of the same. Raises as `of`."""
        recipe = self._with_digests(recipe)
        return [item_key(recipe, k, self._form(job)) for k in range(recipe.count)]

    def _form(self, job: Job) -> str:
        return self._format if job.name is None else f"{self._format} {job.name}"

    def _with_digests(self, recipe: Recipe) -> Recipe:
        digest, judge_digest = self._digest(recipe)
        return replace(recipe, digest=digest).judged(recipe.settings.judge, judge_digest)

    def _digest(self, recipe: Recipe) -> tuple[str, str | None]:
        """The engine's digests of the weights and the judge's, asked for once for all recipes that use the same."""
        judging = recipe.settings.best_of is None, recipe.settings.judge
        use = (recipe.model, recipe.task, *recipe.stages, recipe.prior, *judging)
        if use not in self._digests:
            judge_digest = self._engine.judge_digest(recipe) if recipe.settings.judge is not None else None
            self._digests[use] = self._engine.digest(recipe), judge_digest
        return self._digests[use]


def file_names(format: str, job: Job, recipe: Recipe) -> list[str]:
    """The files of a request's pictures, relative to the folder; of unnamed ones without the key at the end."""
    suffix = FORMATS[format]
    numbers = [f"-{k + 1}" if recipe.count > 1 else "" for k in range(recipe.count)]
    if job.name is not None:
        return [f"{job.name}{number}{suffix}" for number in numbers]
    part = f".{job.part + 1}" if job.part > 0 else ""
    title = slug(recipe.title).encode()[:_TITLE_BYTES].decode(errors="ignore").rstrip("-")
    return [f"{job.line:06}{part}{number}-{title}" for number in numbers]
