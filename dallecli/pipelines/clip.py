"""CLIP alone, opened: it embeds pictures and sentences, and says how well they fit. It paints nothing."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic

from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.embedding_file import Embedded, read_embedding
from dallecli.engine import Progress
from dallecli.errors import TaskNotSupported
from dallecli.pictures.picture import Picture
from dallecli.pipelines.clip_embedder import ClipEmbedder
from dallecli.pipelines.embedding import Embedding, cosine
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import EmbedSettings, Pipeline
from dallecli.pipelines.settings import PriorSettings
from dallecli.pipelines.sources import look
from dallecli.pipelines.unclip_parts import Embedder, Encoded
from dallecli.pipelines.watch import Watch, watch_pictures
from dallecli.recipe import Recipe
from dallecli.source import Source
from dallecli.tasks.embed import Embed


class ClipOf(Generic[Encoded]):
    """What a CLIP does by itself. Of a model that paints nothing, it inverts nothing either."""

    def __init__(self, embedder: Embedder[Encoded]) -> None:
        self.embedder = embedder
        self._meant: tuple[str, Embedding] | None = None

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
                embedding = look(self.embedder, source)
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
        """Nothing is strange to a model that says of no picture that it knows it."""
        return [0.0] * len(pictures)

    def score(self, image: Image.Image, sentence: str) -> float:
        """The cosine of an RGB picture's embedding and a sentence's, which is read once for many pictures."""
        if self._meant is None or self._meant[0] != sentence:
            self._meant = sentence, self.embedder.meaning(self.embedder.read([sentence]))
        return cosine(self.embedder.see([image]), self._meant[1]).item()

    def _of_words(self, text: str, request: Embed, settings: EmbedSettings, watch: Watch) -> Embedding:
        words = self.embedder.read([text])
        if not request.imagine:
            return self.embedder.meaning(words)
        assert settings.prior is not None  # words are imagined by models with a prior only
        prior = PriorSettings.chosen(settings.prior, settings.stages, settings.prior_candidates)
        embedding, _ = self.embedder.imagine(words, Noise([settings.seed]), prior, watch)
        return embedding

    def _noise_of(
        self, source: Source, embedding: Embedding, settings: EmbedSettings, watch: Watch
    ) -> dict[str, Tensor]:
        """Raises TaskNotSupported: what asks for this was refused before."""
        raise TaskNotSupported(f"{settings.model} paints nothing, so no noise paints a picture again")


def open_clip(parts: Parts, space: str) -> "ClipAlone":
    """The model in a folder, opened. Towers are loaded when they are first needed.

    `space` names it. Raises BadFolder or BadFile if its towers contradict each other.
    """
    embedder = ClipEmbedder(parts, space)
    embedder.check_towers()
    return ClipAlone(parts, embedder)


class ClipAlone(Pipeline):
    """An opened CLIP that belongs to no model. It paints nothing."""

    def __init__(self, parts: Parts, embedder: ClipEmbedder) -> None:
        super().__init__(parts.folder)
        self.clip = ClipOf(embedder)

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Raises TaskNotSupported: what asks for this was refused before."""
        raise TaskNotSupported(f"{recipe.model} cannot {recipe.task}")
