"""How a prior imagines and a decoder paints: the dials of a recipe, for models whose stages all take noise away."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dallecli.pipelines.given import NOTHING, Given
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.tasks.stages import PRIORS, DiffusionSettings, StageSettings

if TYPE_CHECKING:
    from dallecli.pipelines.embedding import Embedding

StageDials = Mapping[str, DiffusionSettings]
"""The dials of stages, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSettings:
    """How a prior imagines embeddings.

    dials: of its stage, None without a prior. candidates: so many are drawn for each picture, and the best is kept: the
    one that fits the words and, where there is one, the picture [b d] that it is to be `like`, both alike.
    """

    dials: StageSettings | None
    candidates: int
    like: "Embedding | None" = None

    @classmethod
    def of(cls, recipe: Recipe, like: "Embedding | None" = None) -> "PriorSettings":
        """As a recipe says. Raises TypeError for one in which no words are imagined."""
        if recipe.prior is None:
            raise TypeError(f"nothing is imagined with {recipe.model} here")
        return replace(cls.chosen(recipe.prior, recipe.stages, recipe.prior_candidates), like=like)

    @classmethod
    def chosen(cls, kind: str, stages: Mapping[str, StageSettings], candidates: int | None) -> "PriorSettings":
        """Those of one of `PRIOR_KINDS`, from the dials of all stages."""
        dials = stages[PRIORS[kind].name] if kind in PRIORS else None
        return cls(dials=dials, candidates=candidates if candidates is not None else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintSettings:
    """How embeddings are painted.

    dials: of the painting stages that run, by name; those of other stages may be among them. size: of the pictures.
    given: what there is of them before.
    """

    dials: StageDials
    size: Size
    given: Given = NOTHING

    @classmethod
    def of(cls, recipe: Recipe, given: Given = NOTHING) -> "PaintSettings":
        """As a recipe says."""
        return cls(dials=painting_dials(recipe.stages), size=recipe.size, given=given)


def painting_dials(stages: Mapping[str, StageSettings]) -> dict[str, DiffusionSettings]:
    """The dials of all stages but priors, by name. Raises as `diffusion_dials`."""
    priors = [stage.name for stage in PRIORS.values()]
    return diffusion_dials({name: dials for name, dials in stages.items() if name not in priors})


def diffusion_dials(stages: Mapping[str, StageSettings]) -> dict[str, DiffusionSettings]:
    """The dials by the names of the stages. Raises TypeError for those of a stage of tokens."""
    found = {}
    for name, dials in stages.items():
        if not isinstance(dials, DiffusionSettings):
            raise TypeError(f"the {name} is no diffusion stage")
        found[name] = dials
    return found
