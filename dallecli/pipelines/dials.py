"""The dials of a recipe, for models that have diffusion stages only."""

from collections.abc import Mapping

from dallecli.recipe import Recipe
from dallecli.tasks.stages import DiffusionSettings, StageSettings


def diffusion_dials(stages: Mapping[str, StageSettings]) -> dict[str, DiffusionSettings]:
    """The dials by the names of the stages. Raises TypeError for a stage that is not diffusion."""
    found = {}
    for name, settings in stages.items():
        if not isinstance(settings, DiffusionSettings):
            raise TypeError(f"the {name} is no diffusion stage")
        found[name] = settings
    return found


def candidates(recipe: Recipe) -> int:
    """How many embeddings the prior draws for a picture. Raises TypeError for a recipe of a model without a prior."""
    if recipe.prior_candidates is None:
        raise TypeError(f"{recipe.model} has no prior")
    return recipe.prior_candidates
