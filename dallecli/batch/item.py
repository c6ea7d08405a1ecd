"""A picture of a batch that is to be painted."""

from dataclasses import dataclass

from dallecli.batch.jobs import Job
from dallecli.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Picture `k` of a recipe: its key, its file relative to the folder, and where it was asked for."""

    key: str
    file: str
    recipe: Recipe
    k: int
    job: Job
