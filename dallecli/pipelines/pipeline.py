"""`Pipeline`: an opened model, whatever its kind. No torch here.

Models that paint CLIP's embeddings are of the kind `UnClip`. Others may go from text straight to pixels, or through
tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from dallecli.engine import Progress
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.source import Source
from dallecli.tasks.embed import Embed
from dallecli.tasks.stages import Stage, StageSettings
from dallecli.weights.folder import Folder

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.codes_file import Codes
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedSettings:
    """What an `Embed` request leaves open, settled as in a recipe. `model` is the name that files state."""

    model: str
    size: Size
    stages: Mapping[str, StageSettings]
    prior: str | None
    prior_candidates: int | None
    seed: int


class Clip(Protocol):
    """What the CLIP of an opened model does by itself."""

    def embed(self, request: Embed, settings: EmbedSettings, progress: Callable[[Progress], None]) -> "list[Embedded]":
        """The embeddings of all sources of a request. Only inputs are inverted.

        All words that the prior imagines get the noise of the same seed.
        """
        ...

    def strangeness(self, pictures: "Sequence[Source]", size: int) -> list[float]:
        """How strange pictures are to the model, whose decoder paints `size` pixels: see `familiarity.strangeness`."""
        ...

    def score(self, image: "Image", sentence: str) -> float:
        """The cosine, from -1 to 1, of an RGB picture's embedding and a sentence's. Raises NonFinite."""
        ...


class Coder(Protocol):
    """What the discrete autoencoder of an opened model does by itself.

    vocabulary: how many codes there are. cell: how many pixels a code stands for along each side.
    """

    vocabulary: int
    cell: int

    def encode(self, image: "Image", size: Size) -> "Codes":
        """The codes [height/cell width/cell] of the middle of an RGB picture. Raises NonFinite."""
        ...

    def decode(self, codes: "Codes") -> "Image":
        """The RGB picture of codes [h w], each below the vocabulary. Raises NonFinite."""
        ...


class Pipeline(ABC):
    """An opened model. Its networks are in memory, or are read when they are needed.

    tasks: what it can be asked, by the names in `tasks.table.TASKS`. stages: its stages in the order in which they run,
    with the dials of each. clip: what its CLIP does by itself; None if it has none. coder: the same of its discrete
    autoencoder.
    """

    clip: Clip | None = None
    coder: Coder | None = None

    def __init__(self, folder: Folder) -> None:
        self.tasks: tuple[str, ...] = folder.tasks
        self.stages: tuple[Stage, ...] = folder.stages

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Hear which recipes of this model will be painted next: see `Engine.expect`. Most models don't mind."""
        return

    @abstractmethod
    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> "Iterator[Picture]":
        """Yield the pictures of a recipe as they are done, each with its own recipe; `batch` are painted at a time.

        Picture k does not depend on the others: its noise comes from its own seed.
        """

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> "list[Picture]":
        """The one picture of each recipe; they have the same `alike`, and can be painted at once."""
        pictures: list[Picture] = []
        for recipe in recipes:

            def watch(step: Progress, done: int = len(pictures)) -> None:
                progress(replace(step, picture=done, pictures=len(recipes)))

            pictures += self.paint(recipe, watch, 1)
        return pictures
