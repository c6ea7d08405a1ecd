"""An opened unCLIP model: the verbs, over the parts that a family supplies."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic

from torch import Tensor

from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pictures.reading import read_picture
from dallecli.pipelines.clip import ClipOf
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.familiarity import strangeness
from dallecli.pipelines.pipeline import EmbedSettings, Pipeline
from dallecli.pipelines.settings import PaintSettings, painting_dials
from dallecli.pipelines.sources import find_noise
from dallecli.pipelines.unclip_parts import Encoded, UnClipParts
from dallecli.pipelines.verbs import VERBS, generate_together
from dallecli.pipelines.watch import Watch
from dallecli.recipe import Recipe
from dallecli.source import Source
from dallecli.weights.folder import Folder


class UnClip(Pipeline, Generic[Encoded]):
    """A model that gets an image embedding, by its prior or from a picture, and paints it (Ramesh et al. 2022)."""

    def __init__(self, folder: Folder, parts: UnClipParts[Encoded]) -> None:
        super().__init__(folder)
        self.parts = parts
        self.clip = PaintingClip(parts)

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Yield the pictures of a recipe as they are done, `batch` at a time."""
        return VERBS[recipe.task](self.parts, recipe, progress, batch)

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> list[Picture]:
        """The one picture of each recipe, all painted at once."""
        return generate_together(self.parts, recipes, progress)


class PaintingClip(ClipOf[Encoded]):
    """The CLIP of a model that also paints what it embeds."""

    def __init__(self, parts: UnClipParts[Encoded]) -> None:
        super().__init__(parts.embedder)
        self.parts = parts

    def strangeness(self, pictures: Sequence[Source], size: int) -> list[float]:
        """How strange pictures are to the model, whose decoder paints `size` pixels: see `familiarity.strangeness`."""
        return strangeness(self.parts, [read_picture(source).image for source in pictures], size)

    def _noise_of(
        self, source: Source, embedding: Embedding, settings: EmbedSettings, watch: Watch
    ) -> dict[str, Tensor]:
        painting = PaintSettings(dials=painting_dials(settings.stages), size=settings.size)
        nothing = self.parts.embedder.read([""])
        return find_noise(self.parts.painter, source, embedding, nothing, painting, watch)
