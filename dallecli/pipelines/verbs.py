"""What can be asked of an unCLIP model, written once for every family.

Each verb is a way to get an image embedding, and then the same decoding of it (Ramesh et al. 2022, figure 2). A family
supplies the parts through `Model` and knows nothing of verbs; callers know `VERBS` and nothing of families.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.engine import Progress
from dallecli.picture import Picture
from dallecli.pipelines.embedding import Embedding
from dallecli.recipe import Recipe
from dallecli.request import StageSettings

Words = TypeVar("Words")
Watch = Callable[[str, int, int], None]
"""Called after each step with the stage, the steps done and the steps in all."""


class Model(Protocol[Words]):
    """The parts of an unCLIP model. `Words` is whatever the family keeps of a prompt it has read.

    The batch is as long as `noise`, and all pictures in it are of the same words.
    """

    def read(self, prompt: str) -> Words:
        """Encode a prompt."""
        ...

    def imagine(
        self, words: Words, noise: Noise, settings: StageSettings, candidates: int, watch: Watch
    ) -> tuple[Embedding, Tensor]:
        """Let the prior make an image embedding [b, d] of each picture: the best of `candidates`.

        Also returned is how well each fits the words, as the cosine [b] of the angle between both.
        """
        ...

    def decode(
        self, embedding: Embedding, words: Words, noise: Noise, stages: Mapping[str, StageSettings], watch: Watch
    ) -> Tensor:
        """Paint embeddings to pixels [b, 3, h, w] in [-1, 1], running the painting stages that `stages` names."""
        ...


def generate(
    model: Model[Words], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint the sentence of a recipe, `batch` pictures at a time."""
    words = model.read(recipe.prompt)
    for first in range(0, recipe.count, batch):
        start = time.perf_counter()
        count = min(batch, recipe.count - first)
        watch = _watch(progress, first, recipe.count)
        noise = Noise(range(recipe.seed + first, recipe.seed + first + count))
        embedding, fit = model.imagine(words, noise, recipe.stages["prior"], recipe.prior_candidates, watch)
        images = to_images(model.decode(embedding, words, noise, recipe.stages, watch))
        seconds = (time.perf_counter() - start) / count
        for k, (image, score) in enumerate(zip(images, fit.tolist(), strict=True), first):
            yield Picture(image=image, recipe=recipe.single(k), seconds=seconds, scores={"prior": score})


VERBS = {"generate": generate}
"""What paints a recipe, by its task."""


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn pixels [b, 3, h, w] in [-1, 1] into RGB images; what lies outside is clipped."""
    levels = ((pixels.float() * 0.5 + 0.5).clamp(0, 1) * 255).round().byte()
    return [Image.fromarray(array) for array in levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def _watch(progress: Callable[[Progress], None], picture: int, pictures: int) -> Watch:
    def watch(stage: str, step: int, steps: int) -> None:
        progress(Progress(stage=stage, step=step, steps=steps, picture=picture, pictures=pictures))

    return watch
