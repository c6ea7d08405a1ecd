"""How an unCLIP model paints each task, written once for every family.

Each verb is a way to get an image embedding, followed by the same decoding of it (Ramesh et al. 2022, figure 2 and
section 3). A family supplies the parts (`unclip_parts.py`) and knows nothing of verbs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import torch
from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pipelines.chunks import Chunk, chunks_of, one_of_each
from dallecli.pipelines.embedding import Embedding, blend, slerp, slerp_rows, stacked, turned
from dallecli.pipelines.given import NOTHING, Beginning, Given, Hole
from dallecli.pipelines.pixels import to_images, to_pixels
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.sources import find_noise, look, middle_of
from dallecli.pipelines.squares import repaint
from dallecli.pipelines.unclip_parts import Encoded, UnClipParts
from dallecli.pipelines.watch import Watch, watch_pictures
from dallecli.recipe import Recipe
from dallecli.source import Source
from dallecli.tasks.edit import Editing
from dallecli.tasks.generate import Generating
from dallecli.tasks.inpaint import Inpainting
from dallecli.tasks.interpolate import Interpolating
from dallecli.tasks.stages import NO_PRIOR
from dallecli.tasks.task import Settings
from dallecli.tasks.vary import Varying

Verb = Callable[[UnClipParts[Any], Recipe, Callable[[Progress], None], int], Iterator[Picture]]


def generate(
    model: UnClipParts[Encoded], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint the prompt of a recipe, `batch` pictures at a time; with a strength, over a picture."""
    settings = _settings(recipe, Generating)
    chunks = chunks_of(recipe, progress, batch)
    words = model.embedder.read([recipe.prompt], settings.negative)
    given = NOTHING
    if settings.strength is not None:
        pixels = to_pixels([middle_of(recipe.inputs[0], recipe.size)])
        given = Given(beginning=Beginning(pixels=pixels, strength=settings.strength))
    for chunk in chunks:
        noise = Noise(chunk.seeds)
        embedding, fit = _imagine(model, recipe, words, noise, chunk.watch)
        pixels = _decode(model, recipe, embedding, words, noise, chunk.watch, given)
        yield from chunk.pictures(to_images(pixels), _scores(recipe, fit))


def generate_together(
    model: UnClipParts[Encoded], recipes: Sequence[Recipe], progress: Callable[[Progress], None]
) -> list[Picture]:
    """Paint the one picture of each recipe, all at once; they have the same `alike`."""
    first, chunk = recipes[0], one_of_each(recipes, progress)
    words = model.embedder.read([recipe.prompt for recipe in recipes], _settings(first, Generating).negative)
    noise = Noise(chunk.seeds)
    embedding, fit = _imagine(model, first, words, noise, chunk.watch)
    pixels = _decode(model, first, embedding, words, noise, chunk.watch)
    return list(chunk.pictures(to_images(pixels), _scores(first, fit)))


def vary(
    model: UnClipParts[Encoded], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint what CLIP saw in a picture; with a fidelity, from the picture's own noise and with eta = 1 - fidelity."""
    fidelity = _settings(recipe, Varying).fidelity
    chunks = chunks_of(recipe, progress, batch)
    words = model.embedder.read([recipe.prompt])
    seen = look(model.embedder, recipe.inputs[0])
    start = eta = None
    if fidelity is not None:
        start, eta = _noise_of(model, recipe, recipe.inputs[0], seen, words, progress), 1 - fidelity
    for chunk in chunks:
        count = len(chunk.seeds)
        given = NOTHING if start is None else Given(start=_spread(start, count), eta=eta)
        pixels = _decode(model, recipe, seen.repeated(count), words, Noise(chunk.seeds), chunk.watch, given)
        yield from chunk.pictures(to_images(pixels))


def interpolate(
    model: UnClipParts[Encoded], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint points between embeddings: frames of one seed, or one position with several seeds.

    As in `generate`, the prior draws its noise first, the same for every end that is words, and the decoder continues
    with the same generators.
    """
    settings = _settings(recipe, Interpolating)
    chunks = chunks_of(recipe, progress, batch)
    nothing = model.embedder.read([""])
    ends = [
        model.embedder.read([end.name]) if end.kind == "text" else look(model.embedder, end) for end in recipe.inputs
    ]
    starts = _noises_between(model, recipe, ends, nothing, progress) if settings.noise == "inverted" else []
    imagined: tuple[list[Embedding], list[Tensor]] | None = None
    for chunk in chunks:
        if imagined is None or not settings.has_frames:
            seeds = chunk.seeds[:1] if settings.has_frames else chunk.seeds
            imagined = _imagine_ends(model, ends, recipe, seeds, chunk.watch)
        embeddings, state = imagined
        noise = Noise(chunk.seeds)
        noise.rewind(state * len(chunk.seeds) if settings.has_frames else state)
        between, given = _between(settings, embeddings, starts, chunk)
        pixels = _decode(model, recipe, between, nothing, noise, chunk.watch, given)
        yield from chunk.pictures(to_images(pixels))


def inpaint(
    model: UnClipParts[Encoded], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Paint the hole in a picture, square by square, and keep every pixel around it."""
    settings = _settings(recipe, Inpainting)
    chunks = chunks_of(recipe, progress, batch)
    words = model.embedder.read([recipe.prompt], settings.negative)

    def paint(known: Sequence[Image.Image], hole: Hole, noise: Noise, watch: Watch) -> Tensor:
        embedding = model.embedder.see(known)
        if recipe.prompt:
            embedding, _ = _imagine(model, recipe, words, noise, watch, like=embedding)
        return _decode(model, recipe, embedding, words, noise, watch, Given(hole=hole))

    yield from repaint(recipe, settings, chunks, progress, paint)


def edit(
    model: UnClipParts[Encoded], recipe: Recipe, progress: Callable[[Progress], None], batch: int
) -> Iterator[Picture]:
    """Rotate a picture's embedding towards the difference of two sentences; paint it from the picture's own noise."""
    settings = _settings(recipe, Editing)
    chunks = chunks_of(recipe, progress, batch)
    nothing = model.embedder.read([""])
    before, after = (
        model.embedder.meaning(model.embedder.read([text])).on_cpu() for text in (settings.before, settings.after)
    )
    seen = look(model.embedder, recipe.inputs[0])
    start = _noise_of(model, recipe, recipe.inputs[0], seen, nothing, progress)
    for chunk in chunks:
        embedding = stacked([turned(seen, before, after, strength) for strength in chunk.own(settings.strengths)])
        given = Given(start=_spread(start, len(chunk.seeds)))
        pixels = _decode(model, recipe, embedding, nothing, Noise(chunk.seeds), chunk.watch, given)
        yield from chunk.pictures(to_images(pixels))


VERBS: Final[Mapping[str, Verb]] = {
    "generate": generate,
    "vary": vary,
    "interpolate": interpolate,
    "inpaint": inpaint,
    "edit": edit,
}
"""The verb of each task."""


def _imagine(
    model: UnClipParts[Encoded],
    recipe: Recipe,
    words: Encoded,
    noise: Noise,
    watch: Watch,
    like: Embedding | None = None,
) -> tuple[Embedding, Tensor]:
    """The embeddings of words [b d] as the recipe's dials make them, and how well they fit: see `Embedder.imagine`."""
    return model.embedder.imagine(words, noise, PriorSettings.of(recipe, like), watch)


def _scores(recipe: Recipe, fit: Tensor) -> list[dict[str, float]]:
    """The scores of pictures whose embeddings fit their words so well; without a prior they are the words' own."""
    return [{} if recipe.prior == NO_PRIOR else {"prior": score} for score in fit.tolist()]


def _decode(
    model: UnClipParts[Encoded],
    recipe: Recipe,
    embedding: Embedding,
    words: Encoded,
    noise: Noise,
    watch: Watch,
    given: Given = NOTHING,
) -> Tensor:
    """The pixels [b 3 h w] of embeddings as the recipe's dials paint them: see `Painter.decode`."""
    return model.painter.decode(embedding, words, noise, PaintSettings.of(recipe, given), watch)


def _noise_of(
    model: UnClipParts[Encoded],
    recipe: Recipe,
    source: Source,
    embedding: Embedding,
    words: Encoded,
    progress: Callable[[Progress], None],
) -> dict[str, Tensor]:
    watch = watch_pictures(progress, range(1), recipe.count)
    return find_noise(model.painter, source, embedding, words, PaintSettings.of(recipe), watch)


def _noises_between(
    model: UnClipParts[Encoded],
    recipe: Recipe,
    ends: Sequence[Encoded | Embedding],
    nothing: Encoded,
    progress: Callable[[Progress], None],
) -> list[dict[str, Tensor]]:
    """The noise of all ends, which are all pictures or their embeddings."""
    seen = [end for end in ends if isinstance(end, Embedding)]
    return [
        _noise_of(model, recipe, source, embedding, nothing, progress)
        for source, embedding in zip(recipe.inputs, seen, strict=True)
    ]


def _imagine_ends(
    model: UnClipParts[Encoded],
    ends: Sequence[Encoded | Embedding],
    recipe: Recipe,
    seeds: Sequence[int],
    watch: Watch,
) -> tuple[list[Embedding], list[Tensor]]:
    """The embeddings [seeds d] of all ends, and the state of the noise afterwards."""
    noise = Noise(seeds)
    beginning = noise.state()
    found = []
    for end in ends:
        if isinstance(end, Embedding):
            found.append(end.repeated(len(seeds)))
        else:
            noise.rewind(beginning)
            embedding, _ = _imagine(model, recipe, end, noise, watch)
            found.append(embedding.on_cpu())
    return found, noise.state()


def _between(
    settings: Interpolating, ends: list[Embedding], starts: Sequence[Mapping[str, Tensor]], chunk: Chunk
) -> tuple[Embedding, Given]:
    """The embeddings between the ends for the pictures of a chunk, and the noise between theirs, if that is known."""
    if settings.weights is not None:
        return blend(ends, settings.weights), NOTHING
    assert settings.positions is not None  # it is either weights or positions
    steps = [_step_at(position, len(ends)) for position in chunk.own(settings.positions)]
    if settings.has_frames:
        ends = [embedding.repeated(len(steps)) for embedding in ends]
    between = stacked([slerp(ends[i].row(row), ends[i + 1].row(row), t) for row, (i, t) in enumerate(steps)])
    if not starts:
        return between, NOTHING
    start = {
        stage: torch.cat([slerp_rows(starts[i][stage], starts[i + 1][stage], t) for i, t in steps])
        for stage in starts[0]
    }
    return between, Given(start=start)


def _step_at(position: float, ends: int) -> tuple[int, float]:
    """The end before a position, from 0 to 1 between first and last, and the share of the arc to the next end."""
    along = position * (ends - 1)
    last = min(int(along), ends - 2)
    return last, along - last


def _spread(start: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    return {stage: x_T.expand(count, -1, -1, -1) for stage, x_T in start.items()}


S = TypeVar("S", bound=Settings)


def _settings(recipe: Recipe, kind: type[S]) -> S:
    if not isinstance(recipe.settings, kind):
        raise TypeError(f"a recipe for {recipe.task} has the settings of another task")
    return recipe.settings
