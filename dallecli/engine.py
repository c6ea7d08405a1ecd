"""The seam between asking and painting: a request goes in, pictures come out as they are done.

Fronts (the command line, batches, Python, a server) use an `Engine` and know nothing behind it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from dallecli.errors import BadRecipe
from dallecli.recipe import Recipe
from dallecli.tasks.coding import Coding
from dallecli.tasks.embed import Embed
from dallecli.tasks.task import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.knowledge import Knowledge
    from dallecli.pictures.picture import Picture
    from dallecli.shortlist import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of one stage is done.

    `step` is from 1 to `steps`. `picture`, from 0, is the first of the `pictures` that the step worked on; an engine
    may paint one or several `together`. A picture that is painted in several `squares` was at number `square`, from 0.
    Where unfinished pictures can be looked at, `look` makes them, in a fraction of the time of a whole one; those of
    another machine may be finished meanwhile, and then there are none.
    """

    stage: str
    step: int
    steps: int
    picture: int
    pictures: int
    together: int = 1
    square: int = 0
    squares: int = 1
    look: Callable[[], "Sequence[Image]"] | None = field(default=None, compare=False, repr=False)


class Engine(Protocol):
    """Turns requests into pictures and embeddings."""

    def resolve(self, request: Request) -> Recipe:
        """Close what the request left open, and refuse what the model cannot do: quickly, before weights are read.

        The recipe's sources have the bytes of the request's.
        """
        ...

    def revive(self, recipe: Recipe, model: str | None = None) -> Recipe:
        """Check a recipe that was read from a file as `resolve` checks a request. Its sources must have their bytes.

        `model`, a name or a folder, is used instead of the recipe's own. Files come from strangers, so that a recipe
        itself cannot name a folder: only a model that is registered, was pulled, or was asked for before.

        Raises: BadRecipe for what no request can ask for, and what `resolve` raises.
        """
        ...

    def paint(
        self, recipe: Recipe, progress: Callable[[Progress], None], scores: "Scores | None" = None
    ) -> Iterator["Picture"]:
        """Yield the pictures of a recipe in order, each with `recipe.single(k)` completed by what was really used.

        For a best-of the kept pictures come when all are painted, the best first. Of its pictures those in `scores` are
        not painted again, unless they are kept; the others are added to them.
        """
        ...

    def group(self, recipe: Recipe) -> int:
        """How many pictures of such a recipe are painted at once."""
        ...

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        """Yield the one picture of each recipe, in order, as `paint` would; groups of them are painted at once.

        The recipes have the same `alike`. Groups are filled up to one size, so that a picture on a CPU is the same to
        the last bit, whatever it is painted with.
        """
        ...

    def reads_ahead(self, recipe: Recipe) -> bool:
        """Whether it saves work to hear of others like this one before it is painted: see `expect`."""
        ...

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Hear what will be painted next, in this order, so that what a network does for all of it is done at once.

        Nothing is computed yet, and no picture depends on it. What was expected before is forgotten.
        """
        ...

    def machine(self, recipe: Recipe) -> str:
        """What would paint a recipe, in words: the `machine` of the recipes of its pictures."""
        ...

    def digest(self, recipe: Recipe) -> str:
        """The sha256 of the weights that a recipe is painted with. The first time, all of them are read."""
        ...

    def judge_digest(self, recipe: Recipe) -> str | None:
        """The sha256 of what a best-of uses of its judge; None where there is none besides the model itself."""
        ...

    def memory(self, recipe: Recipe) -> str:
        """How much memory painting a recipe takes, in words."""
        ...

    def knowledge(self, model: str) -> "Knowledge":
        """What the makers of a model say that it knows. No weights are read. Raises as `resolve`."""
        ...

    def embed(self, request: Embed, progress: Callable[[Progress], None]) -> list["Embedded"]:
        """An embedding of every input, in order, after `arithmetic`.

        What cannot be embedded is refused before weights are read.
        """
        ...

    def encode(self, request: Coding, progress: Callable[[Progress], None]) -> list["Coded"]:
        """The codes of every picture, in order. What cannot be encoded is refused before weights are read."""
        ...

    def decode(self, request: Coding, progress: Callable[[Progress], None]) -> list["Image"]:
        """The picture of every file of codes, in order. Codes of another model are refused before weights are read."""
        ...


def unscored(recipe: Recipe) -> Recipe:
    """A recipe from a file as it is painted again: nobody scores a picture that was chosen before."""
    recipe = replace(recipe, scores={})
    return recipe if recipe.settings.best_of is not None else recipe.judged(None, None)


def arithmetic(request: Embed, found: "Sequence[Embedded]") -> "list[Embedded]":
    """From the embeddings of all sources of a request, those of its inputs with `minus` and `plus` applied.

    Raises: BadEmbedding if nothing is left of an input.
    """
    from dallecli.embedding_arithmetic import combine

    inputs, first_plus = len(request.inputs), len(request.inputs) + len(request.minus)
    minus, plus = found[inputs:first_plus], found[first_plus:]
    return [combine(embedded, minus, plus) if minus or plus else embedded for embedded in found[:inputs]]


def check_same_size(recipe: Recipe, fresh: Recipe) -> None:
    """Refuse a recipe from a file whose size is not what its model paints for that. Raises BadRecipe."""
    if recipe.size != fresh.size:
        raise BadRecipe(f"{fresh.model} does not paint {recipe.size} pixels here, but {fresh.size}")


def check_same_stages(recipe: Recipe, fresh: Recipe) -> None:
    """Refuse a recipe from a file whose stages are not those that its request runs. Raises BadRecipe."""
    if set(recipe.stages) != set(fresh.stages):
        stages = ", ".join(recipe.stages)
        raise BadRecipe(f"the recipe runs other stages than {recipe.model} does: {stages}")
    for name, stage in recipe.stages.items():
        if type(stage) is not type(fresh.stages[name]):
            raise BadRecipe(f"the {name} of {recipe.model} has other dials than the recipe: {', '.join(asdict(stage))}")
    if recipe.prior is not None and (recipe.prior_candidates is None) != (fresh.prior_candidates is None):
        has, wanted = recipe.prior_candidates, fresh.prior_candidates
        raise BadRecipe(f"the recipe has {has} prior candidates, and {fresh.model} {wanted}")
