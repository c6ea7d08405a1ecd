"""What can be asked of an unCLIP model, written once for every family.

Each verb is a way to get an image embedding, and then the same decoding of it (Ramesh et al. 2022, figure 2 and
section 3). A family supplies the parts through `Model` and knows nothing of verbs; callers know `VERBS` and nothing of
families.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.embedding_file import Embedded, read_embedding
from dallecli.engine import Progress
from dallecli.pictures.canvas import lay_out
from dallecli.pictures.picture import Picture
from dallecli.pictures.reading import read_picture
from dallecli.pipelines.embedding import Embedding, blend, cosine, slerp, slerp_rows, turned
from dallecli.pipelines.model import Beginning, Hole, Model, Watch, Words
from dallecli.recipe import Recipe
from dallecli.source import Source
from dallecli.tasks.edit import Editing
from dallecli.tasks.embed import Embed
from dallecli.tasks.generate import Generating
from dallecli.tasks.inpaint import Inpainting
from dallecli.tasks.interpolate import Interpolating
from dallecli.tasks.stages import INVERSION, DiffusionSettings, StageSettings
from dallecli.tasks.vary import Varying

Verb = Callable[[Model[Any], Recipe, Callable[[Progress], None], int], Iterator[Picture]]

INVERSION_SEED: Final = 2**63 - 1
"""Of the little noise that inversion adds. The noise of a picture is the picture's own, whatever seed is asked for,
and nobody else's draws are the same."""


def generate(
    model: Model[Words], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint the sentence of a recipe, `batch` pictures at a time; with a strength, over a picture."""
    settings = _settings(recipe, Generating)
    chunks = _chunks(recipe, progress, batch)
    words = model.read([recipe.prompt], settings.negative)
    beginning = None
    if settings.strength is not None:
        pixels = to_pixels([_square(recipe.inputs[0], recipe.size)])
        beginning = Beginning(pixels=pixels, strength=settings.strength)
    for chunk in chunks:
        noise = Noise(chunk.seeds)
        embedding, fit = model.imagine(
            words, noise, diffusion(recipe.stages)["prior"], _candidates(recipe), chunk.watch
        )
        pixels = model.decode(
            embedding, words, noise, diffusion(recipe.stages), chunk.watch, size=recipe.size, beginning=beginning
        )
        yield from chunk.pictures(to_images(pixels), [{"prior": score} for score in fit.tolist()])


def generate_together(
    model: Model[Words], recipes: Sequence[Recipe], progress: Callable[[Progress], None]
) -> list[Picture]:
    """Paint the one picture of each recipe, all at once; they have the same `alike`."""
    first, began = recipes[0], time.perf_counter()
    watch = _watch(progress, range(len(recipes)), len(recipes))
    words = model.read([recipe.prompt for recipe in recipes], _settings(first, Generating).negative)
    noise = Noise([recipe.seed for recipe in recipes])
    embedding, fit = model.imagine(words, noise, diffusion(first.stages)["prior"], _candidates(first), watch)
    images = to_images(model.decode(embedding, words, noise, diffusion(first.stages), watch, size=first.size))
    seconds = (time.perf_counter() - began) / len(recipes)
    return [
        Picture(image=image, recipe=recipe, seconds=seconds, scores={"prior": score})
        for recipe, image, score in zip(recipes, images, fit.tolist(), strict=True)
    ]


def vary(model: Model[Words], recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
    """Paint what CLIP saw in a picture; with a fidelity, from the picture's own noise and with eta = 1 - fidelity."""
    fidelity = _settings(recipe, Varying).fidelity
    chunks = _chunks(recipe, progress, batch)
    words = model.read([recipe.prompt])
    seen = look(model, recipe.inputs[0])
    start = eta = None
    if fidelity is not None:
        start, eta = _noise_of(model, recipe, recipe.inputs[0], seen, words, progress), 1 - fidelity
    for chunk in chunks:
        count, noise = len(chunk.seeds), Noise(chunk.seeds)
        embedding = _repeated(seen, count)
        spread = _spread(start, count)
        pixels = model.decode(
            embedding, words, noise, diffusion(recipe.stages), chunk.watch, size=recipe.size, start=spread, eta=eta
        )
        yield from chunk.pictures(to_images(pixels))


def interpolate(
    model: Model[Words], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint what lies between embeddings: frames of one seed, or one place with several seeds.

    As in `generate`, the prior draws its noise first, the same for every end of words, and the decoder goes on from
    there.
    """
    settings = _settings(recipe, Interpolating)
    chunks = _chunks(recipe, progress, batch)
    nothing = model.read([""])
    ends = [model.read([end.name]) if end.kind == "text" else look(model, end) for end in recipe.inputs]
    starts = []
    if settings.noise == "inverted":
        seen = [end for end in ends if isinstance(end, Embedding)]
        starts = [
            _noise_of(model, recipe, source, embedding, nothing, progress)
            for source, embedding in zip(recipe.inputs, seen, strict=True)
        ]
    one_seed = settings.positions is not None and len(settings.positions) > 1
    imagined: tuple[list[Embedding], list[Tensor]] | None = None
    for chunk in chunks:
        if imagined is None or not one_seed:
            imagined = _imagine_ends(model, ends, recipe, chunk.seeds[:1] if one_seed else chunk.seeds, chunk.watch)
        embeddings, state = imagined
        noise = Noise(chunk.seeds)
        noise.rewind(state * len(chunk.seeds) if one_seed else state)
        start = None
        if settings.weights is not None:
            between = blend(embeddings, settings.weights)
        else:
            assert settings.positions is not None  # it is either weights or positions
            places = [_place(position, len(ends)) for position in _own(settings.positions, chunk.numbers)]
            if one_seed:
                embeddings = [_repeated(embedding, len(places)) for embedding in embeddings]
            between = _stacked(
                [slerp(_row(embeddings[i], row), _row(embeddings[i + 1], row), t) for row, (i, t) in enumerate(places)]
            )
            if starts:
                start = {
                    stage: torch.cat([slerp_rows(starts[i][stage], starts[i + 1][stage], t) for i, t in places])
                    for stage in starts[0]
                }
        pixels = model.decode(
            between, nothing, noise, diffusion(recipe.stages), chunk.watch, size=recipe.size, start=start
        )
        yield from chunk.pictures(to_images(pixels))


def inpaint(model: Model[Words], recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
    """Paint the hole in a picture, square by square, and keep every pixel around it."""
    settings = _settings(recipe, Inpainting)
    chunks = _chunks(recipe, progress, batch)
    words = model.read([recipe.prompt], settings.negative)
    layout = lay_out(recipe.inputs[0], settings.mask, settings.expand, recipe.size)
    for chunk in chunks:
        noise = Noise(chunk.seeds)
        canvases = [layout.canvas] * len(chunk.seeds)
        for square, patch in enumerate(layout.patches):
            watch = _watch(progress, chunk.numbers, recipe.count, square, len(layout.patches))
            known, holes = zip(*(canvas.cut(patch, recipe.size) for canvas in canvases), strict=True)
            embedding = model.see(known)
            if recipe.prompt:
                prior, candidates = diffusion(recipe.stages)["prior"], _candidates(recipe)
                embedding, _ = model.imagine(words, noise, prior, candidates, watch, like=embedding)
            hole = Hole(pixels=to_pixels(known), unknown=to_pixels(holes) > 0, resample=settings.resample)
            pixels = model.decode(embedding, words, noise, diffusion(recipe.stages), watch, size=recipe.size, hole=hole)
            painted = to_images(pixels)
            canvases = [canvas.paste(patch, image) for canvas, image in zip(canvases, painted, strict=True)]
        yield from chunk.pictures([canvas.image for canvas in canvases])


def edit(model: Model[Words], recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
    """Turn a picture's embedding towards the difference of two sentences, and paint it from the picture's own noise."""
    settings = _settings(recipe, Editing)
    chunks = _chunks(recipe, progress, batch)
    nothing = model.read([""])
    before, after = (on_cpu(model.meaning(model.read([text]))) for text in (settings.before, settings.after))
    seen = look(model, recipe.inputs[0])
    start = _noise_of(model, recipe, recipe.inputs[0], seen, nothing, progress)
    for chunk in chunks:
        strengths = _own(settings.strengths, chunk.numbers)
        embedding = _stacked([turned(seen, before, after, strength) for strength in strengths])
        spread = _spread(start, len(strengths))
        noise = Noise(chunk.seeds)
        pixels = model.decode(
            embedding, nothing, noise, diffusion(recipe.stages), chunk.watch, size=recipe.size, start=spread
        )
        yield from chunk.pictures(to_images(pixels))


VERBS: Final[Mapping[str, Verb]] = {
    "generate": generate,
    "vary": vary,
    "interpolate": interpolate,
    "inpaint": inpaint,
    "edit": edit,
}
"""What paints a recipe, by its task."""


def embed(
    model: Model[Words],
    request: Embed,
    *,
    name: str,
    size: int,
    stages: Mapping[str, DiffusionSettings],
    candidates: int,
    seed: int,
    progress: Callable[[Progress], None],
) -> list[Embedded]:
    """The embeddings of all sources of a request, as the model `name` has them; every dial is set.

    Words that the prior imagines all get the noise of `seed`. Only inputs are inverted.
    """
    found = []
    for k, source in enumerate(request.sources):
        if source.kind == "embedding":
            found.append(read_embedding(source))
            continue
        watch = _watch(progress, range(k, k + 1), len(request.sources))
        noise: dict[str, Tensor] = {}
        if source.kind == "picture":
            embedding = look(model, source)
            if request.invert and k < len(request.inputs):
                noise = find_noise(model, source, embedding, model.read([""]), stages, size, watch)
        elif request.imagine:
            embedding, _ = model.imagine(model.read([source.name]), Noise([seed]), stages["prior"], candidates, watch)
        else:
            embedding = model.meaning(model.read([source.name]))
        found.append(
            Embedded(
                vector=embedding.vector[0].float().cpu().numpy(),
                kind="text" if source.kind == "text" and not request.imagine else "image",
                space=embedding.space,
                name=source.recorded().name,
                model=name,
                noise={stage: x_T[0].float().cpu().numpy() for stage, x_T in noise.items()},
            )
        )
    return found


def judge(model: Model[Words], picture: Picture, words: Words) -> Picture:
    """The picture with a score of how well CLIP thinks that it fits words: the cosine of their embeddings."""
    score = cosine(model.see([picture.image]), model.meaning(words)).item()
    return replace(picture, scores={**picture.scores, "clip": score})


# What a verb starts from


def look(model: Model[Any], source: Source) -> Embedding:
    """The embedding [1, d] of a picture, or the one in a file."""
    if source.kind == "picture":
        return on_cpu(model.see([read_picture(source).image]))
    embedded = read_embedding(source)
    return Embedding(vector=torch.from_numpy(embedded.vector)[None], space=embedded.space)


def find_noise(
    model: Model[Words],
    source: Source,
    embedding: Embedding,
    words: Words,
    stages: Mapping[str, DiffusionSettings],
    size: int,
    watch: Watch,
) -> dict[str, Tensor]:
    """The x_T [1, c, h, w] of every stage from which a picture is painted again at `size`, or those in a file.

    Of a picture that is no square it is the middle, as with CLIP's image tower.
    """
    if source.kind == "embedding":
        return {stage: torch.from_numpy(x_T)[None] for stage, x_T in read_embedding(source).noise.items()}
    image = _square(source, size)
    painters = [stage for stage in stages if stage not in ("prior", INVERSION)]
    noise = Noise([INVERSION_SEED])
    found = model.invert(embedding, words, to_pixels([image]), noise, stages[INVERSION], painters, watch)
    return {stage: x_T.cpu() for stage, x_T in found.items()}


def _square(source: Source, size: int) -> Image.Image:
    return ImageOps.fit(read_picture(source).image, (size, size), Image.Resampling.LANCZOS)


def to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """Turn RGB or grey images of one size into pixels [b, 3 or 1, h, w] in [-1, 1], float32."""
    levels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float()
    if levels.ndim == 3:
        levels = levels[..., None]
    return levels.permute(0, 3, 1, 2) / 127.5 - 1


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Turn pixels [b, 3, h, w] in [-1, 1] into RGB images; what lies outside is clipped."""
    levels = ((pixels.float() * 0.5 + 0.5).clamp(0, 1) * 255).round().byte()
    return [Image.fromarray(array) for array in levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()]


def on_cpu(embedding: Embedding) -> Embedding:
    """The same embedding where those from files are."""
    return Embedding(vector=embedding.vector.cpu(), space=embedding.space)


def _noise_of(
    model: Model[Words],
    recipe: Recipe,
    source: Source,
    embedding: Embedding,
    words: Words,
    progress: Callable[[Progress], None],
) -> dict[str, Tensor]:
    watch = _watch(progress, range(1), recipe.count)
    return find_noise(model, source, embedding, words, diffusion(recipe.stages), recipe.size, watch)


def _imagine_ends(
    model: Model[Words], ends: Sequence[Words | Embedding], recipe: Recipe, seeds: Sequence[int], watch: Watch
) -> tuple[list[Embedding], list[Tensor]]:
    """The embeddings [seeds, d] of all ends, and the state in which that leaves the noise."""
    noise = Noise(seeds)
    beginning = noise.state()
    found = []
    for end in ends:
        if isinstance(end, Embedding):
            found.append(_repeated(end, len(seeds)))
        else:
            noise.rewind(beginning)
            embedding, _ = model.imagine(end, noise, diffusion(recipe.stages)["prior"], _candidates(recipe), watch)
            found.append(on_cpu(embedding))
    return found, noise.state()


def _place(position: float, ends: int) -> tuple[int, float]:
    """The end behind a position from 0 to 1 on the way through all of them, and how far on it is towards the next."""
    place = position * (ends - 1)
    last = min(int(place), ends - 2)
    return last, place - last


def diffusion(stages: Mapping[str, StageSettings]) -> dict[str, DiffusionSettings]:
    """The dials of stages that all take noise away. Raises TypeError for others."""
    found = {}
    for name, settings in stages.items():
        if not isinstance(settings, DiffusionSettings):
            raise TypeError(f"the {name} is no diffusion stage")
        found[name] = settings
    return found


def _candidates(recipe: Recipe) -> int:
    return recipe.prior_candidates if recipe.prior_candidates is not None else 1


S = TypeVar("S", Generating, Varying, Interpolating, Inpainting, Editing)


def _settings(recipe: Recipe, kind: type[S]) -> S:
    if not isinstance(recipe.settings, kind):
        raise TypeError(f"a recipe for {recipe.task} has the settings of another task")
    return recipe.settings


# Batches


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Pictures that are painted at once: their numbers in the recipe, and their seeds."""

    recipe: Recipe
    numbers: range
    seeds: tuple[int, ...]
    watch: Watch
    began: float

    def pictures(
        self, images: Sequence[Image.Image], scores: Sequence[Mapping[str, float]] | None = None
    ) -> Iterator[Picture]:
        seconds = (time.perf_counter() - self.began) / len(self.numbers)
        for row, (k, image) in enumerate(zip(self.numbers, images, strict=True)):
            own = scores[row] if scores is not None else {}
            yield Picture(image=image, recipe=self.recipe.single(k), seconds=seconds, scores=own)


def _chunks(recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[_Chunk]:
    """The pictures of a recipe, `batch` at a time. The clock of the first runs from now on, so it pays for what is done
    once for all."""
    began: float | None = time.perf_counter()

    def chunks(began: float | None) -> Iterator[_Chunk]:
        for first in range(0, recipe.count, batch):
            numbers = range(first, min(first + batch, recipe.count))
            seeds = tuple(recipe.single(k).seed for k in numbers)
            began = began if began is not None else time.perf_counter()
            watch = _watch(progress, numbers, recipe.count)
            yield _Chunk(recipe=recipe, numbers=numbers, seeds=seeds, watch=watch, began=began)
            began = None

    return chunks(began)


def _watch(
    progress: Callable[[Progress], None], numbers: range, pictures: int, square: int = 0, squares: int = 1
) -> Watch:
    """Reports the steps that work on the pictures of these numbers."""

    def watch(stage: str, step: int, steps: int) -> None:
        done = Progress(stage=stage, step=step, steps=steps, picture=numbers[0], pictures=pictures)
        progress(replace(done, together=len(numbers), square=square, squares=squares))

    return watch


T = TypeVar("T")


def _own(values: Sequence[T], numbers: range) -> list[T]:
    """A value for each picture: its own, or the one that is for all."""
    return [values[k] if len(values) > 1 else values[0] for k in numbers]


def _repeated(embedding: Embedding, count: int) -> Embedding:
    return Embedding(vector=embedding.vector.expand(count, -1), space=embedding.space)


def _spread(start: Mapping[str, Tensor] | None, count: int) -> dict[str, Tensor] | None:
    return None if start is None else {stage: x_T.expand(count, -1, -1, -1) for stage, x_T in start.items()}


def _row(embedding: Embedding, row: int) -> Embedding:
    return Embedding(vector=embedding.vector[row : row + 1], space=embedding.space)


def _stacked(rows: Sequence[Embedding]) -> Embedding:
    return Embedding(vector=torch.cat([row.vector for row in rows]), space=rows[0].space)
