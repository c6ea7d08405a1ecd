"""An opened unCLIP model: the verbs, over the parts that a family supplies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Generic

from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.embedding_file import Embedded, read_embedding
from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pictures.reading import read_picture
from dallecli.pipelines.embedding import Embedding, cosine
from dallecli.pipelines.familiarity import strangeness
from dallecli.pipelines.pipeline import EmbedSettings, Pipeline
from dallecli.pipelines.settings import PaintSettings, PriorSettings, painting_dials
from dallecli.pipelines.sources import find_noise, look
from dallecli.pipelines.unclip_parts import Encoded, UnClipParts
from dallecli.pipelines.verbs import VERBS, generate_together
from dallecli.pipelines.watch import Watch, watch_pictures
from dallecli.recipe import Recipe
from dallecli.source import Source
from dallecli.tasks.embed import Embed
from dallecli.weights.folder import Folder


class UnClip(Pipeline, Generic[Encoded]):
    """A model that gets an image embedding, by its prior or from a picture, and paints it (Ramesh et al. 2022)."""

    def __init__(self, folder: Folder, parts: UnClipParts[Encoded]) -> None:
        super().__init__(folder)
        self.parts = parts
        self.clip = ClipOf(parts)

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Yield the pictures of a recipe as they are done, `batch` at a time."""
        return VERBS[recipe.task](self.parts, recipe, progress, batch)

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> list[Picture]:
        """The one picture of each recipe, all painted at once."""
        return generate_together(self.parts, recipes, progress)


class ClipOf(Generic[Encoded]):
    """What the CLIP of an unCLIP model does by itself."""

    def __init__(self, parts: UnClipParts[Encoded]) -> None:
        self.parts = parts

    def embed(self, request: Embed, settings: EmbedSettings, progress: Callable[[Progress], None]) -> list[Embedded]:
        """The embeddings of all sources of a request. Only inputs are inverted."""
        found = []
        for k, source in enumerate(request.sources):
            if source.kind == "embedding":
                found.append(read_embedding(source))
                continue
            watch = watch_pictures(progress, range(k, k + 1), len(request.sources))
            noise: dict[str, Tensor] = {}
            if source.kind == "text":
                embedding = self._of_words(source.name, request, settings, watch)
            else:
                embedding = look(self.parts.embedder, source)
                if request.invert and k < len(request.inputs):
                    noise = self._noise_of(source, embedding, settings, watch)
            found.append(
                Embedded(
                    vector=embedding.vector[0].float().cpu().numpy(),
                    kind="text" if source.kind == "text" and not request.imagine else "image",
                    space=embedding.space,
                    name=source.recorded().name,
                    model=settings.model,
                    noise={stage: x_T[0].float().cpu().numpy() for stage, x_T in noise.items()},
                )
            )
        return found

    def strangeness(self, pictures: Sequence[Source], size: int) -> list[float]:
        """How strange pictures are to the model, whose decoder paints `size` pixels: see `familiarity.strangeness`."""
        return strangeness(self.parts, [read_picture(source).image for source in pictures], size)

    def judge(self, pictures: Iterable[Picture], prompt: str) -> list[Picture]:
        """The pictures with the score "clip": the cosine of their embedding and the prompt's."""
        embedder = self.parts.embedder
        words = embedder.read([prompt])
        scored = []
        for picture in pictures:
            score = cosine(embedder.see([picture.image]), embedder.meaning(words)).item()
            scored.append(replace(picture, scores={**picture.scores, "clip": score}))
        return scored

    def _of_words(self, text: str, request: Embed, settings: EmbedSettings, watch: Watch) -> Embedding:
        embedder = self.parts.embedder
        words = embedder.read([text])
        if not request.imagine:
            return embedder.meaning(words)
        assert settings.prior is not None  # words are imagined by models with a prior only
        prior = PriorSettings.chosen(settings.prior, settings.stages, settings.prior_candidates)
        embedding, _ = embedder.imagine(words, Noise([settings.seed]), prior, watch)
        return embedding

    def _noise_of(
        self, source: Source, embedding: Embedding, settings: EmbedSettings, watch: Watch
    ) -> dict[str, Tensor]:
        painting = PaintSettings(dials=painting_dials(settings.stages), size=settings.size)
        nothing = self.parts.embedder.read([""])
        return find_noise(self.parts.painter, source, embedding, nothing, painting, watch)
