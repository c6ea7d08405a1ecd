"""What engines of other machines wait for: pictures of recipes, embeddings, codes. Every step is told to them."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dallecli.codes_file import Coded
from dallecli.engine import Engine, Progress
from dallecli.recipe import Recipe
from dallecli.remote.protocol import recipe_said
from dallecli.server.ticket import Event, Scored, Ticket
from dallecli.shortlist import Scores
from dallecli.tasks.coding import Coding
from dallecli.tasks.embed import Embed

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture

Said = tuple[str, dict[str, Any], bytes]
"""A result as it is told: what it is, its facts, and its bytes."""


class EngineTicket(Ticket):
    """A question that takes weights. It waits as long as its client does."""

    watched = True

    def __init__(self, *, model: str, task: str, count: int, alike: Recipe | None = None) -> None:
        super().__init__(model=model, task=task, count=count, alike=alike, until=math.inf)

    @abstractmethod
    def said(self, result: Any) -> Said:
        """What came of it, one by one."""


class RecipesTicket(EngineTicket):
    """One recipe that is painted as `Engine.paint` does it; or several, `alike`, as `Engine.paint_together`.

    folder: their model, if it is one that only the owner of the server can name. expected: what is painted afterwards.
    scores: of a best-of, those that are known.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        folder: str | None,
        expected: Sequence[Recipe] = (),
        scores: Mapping[int, float] | None = None,
        *,
        alike: Recipe | None = None,
    ) -> None:
        first = recipes[0]
        count = first.count if alike is None else len(recipes)
        super().__init__(model=first.model, task=first.task, count=count, alike=alike)
        self.recipes = recipes
        self._folder = folder
        self._expected = expected
        self._scores = scores if scores is not None else {}
        self._told: Callable[[Scored], None] = self.tell

    def recipe_of(self, k: int) -> Recipe:
        return self.recipes[0 if self.whole else k]

    def begin(self, engine: Engine, *, known: bool) -> None:
        if not known:
            engine.revive(self.recipes[0], self._folder)
        if self._expected:
            engine.expect(self._expected)

    def work(
        self, engine: Engine, progress: Callable[[Progress], None], tell: Callable[[Event], None]
    ) -> "Iterable[Picture]":
        recipe = self.recipes[0]
        if recipe.settings.best_of is None:
            return engine.paint(recipe, progress)
        return engine.paint(recipe, progress, _Told(self._scores, tell))

    def said(self, result: "Picture") -> Said:
        _, facts, data = image_said(result.image.convert("RGB"))
        more = {"recipe": recipe_said(result.recipe), "seconds": result.seconds, "scores": dict(result.scores)}
        return "picture", {**more, **facts}, data


W = TypeVar("W", Embed, Coding)


class WorkTicket(EngineTicket, Generic[W]):
    """A request for something else than pictures of recipes. It names the model as the owner of the server does."""

    def __init__(self, request: W) -> None:
        task = request.task if isinstance(request, Coding) else "embed"
        super().__init__(model=request.model, task=task, count=len(request.inputs))
        self._request: W = request

    def recipe_of(self, k: int) -> Recipe:
        raise TypeError(f"{self.task} has no recipe")

    def begin(self, engine: Engine, *, known: bool) -> None:
        """Nothing has to be said first."""


class EmbeddingTicket(WorkTicket[Embed]):
    """A request for embeddings."""

    def work(
        self, engine: Engine, progress: Callable[[Progress], None], tell: Callable[[Event], None]
    ) -> "Iterable[Any]":
        return engine.embed(self._request, progress)

    def said(self, result: "Embedded") -> Said:
        unknown = {**result.unknown.to_dict(), "listed": result.unknown.listed}
        return "embedding", {"unknown": unknown}, result.encode()


class CodingTicket(WorkTicket[Coding]):
    """A request for codes of pictures, or for pictures of codes."""

    def work(
        self, engine: Engine, progress: Callable[[Progress], None], tell: Callable[[Event], None]
    ) -> "Iterable[Any]":
        return (engine.encode if self.task == "encode" else engine.decode)(self._request, progress)

    def said(self, result: "Coded | Image") -> Said:
        return ("codes", {}, result.encode()) if isinstance(result, Coded) else image_said(result.convert("RGB"))


class _Told(Scores):
    """Scores that are told to whoever keeps them."""

    def __init__(self, known: Mapping[int, float], tell: Callable[[Event], None]) -> None:
        super().__init__()
        self.known |= known
        self._tell = tell

    def note(self, seed: int, score: float) -> None:
        super().note(seed, score)
        self._tell(Scored(seed, score))


def image_said(image: "Image") -> Said:
    """An image as its sides and its pixels, in RGB."""
    return "image", {"width": image.width, "height": image.height}, image.tobytes()
