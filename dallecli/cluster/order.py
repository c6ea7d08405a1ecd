"""What the driver and the workers of a cluster say to each other."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image

from dallecli.errors import DalleError
from dallecli.pictures.picture import Picture
from dallecli.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a worker is asked to paint: several recipes that are alike, or one. `known` are scores of a best-of."""

    recipes: tuple[Recipe, ...]
    together: bool
    format: str
    metadata: bool
    known: Mapping[int, float] = field(default_factory=dict)

    @property
    def pictures(self) -> int:
        """How many pictures come back."""
        return len(self.recipes) if self.together else self.recipes[0].count

    @property
    def weight(self) -> int:
        """How many bytes it and its pictures take on the way, at most."""
        given = sum(len(source.data or b"") for recipe in self.recipes for source in recipe.sources)
        return given + 3 * self.pictures * self.recipes[0].size.pixels

    @property
    def kind(self) -> tuple[object, ...]:
        """What decides how long it takes, as far as that can be told."""
        recipe = self.recipes[0]
        work = [recipe.model, recipe.task, recipe.size, recipe.settings.best_of, len(recipe.inputs)]
        return (*work, *((name, str(stage)) for name, stage in recipe.stages.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A picture on its way back: the bytes of its file, and what else there is to know."""

    data: bytes
    recipe: Recipe
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of an order: its pictures in order, and what went wrong after them."""

    pictures: tuple[Sent, ...]
    error: DalleError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A recipe that shall be painted, by which a worker is checked. `model` is a folder that its name stands for."""

    recipe: Recipe
    model: str | None
    digest: str
    judge_digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Able:
    """What a worker says of a recipe that it can paint. `machines` are, in words, what paints one, two … at a time."""

    machines: tuple[str, ...]
    group: int
    memory: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a worker says of all that it is needed for: in the same order, up to what it cannot do."""

    able: tuple[Able, ...]
    error: DalleError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPicture(Picture):
    """A picture whose file was made elsewhere; its pixels are read only if somebody looks at them."""

    data: bytes
    format: str
    metadata: bool

    def encode(self, format: str, *, metadata: bool = True) -> bytes:
        if (format, metadata) == (self.format, self.metadata):
            return self.data
        return Picture.encode(self, format, metadata=metadata)


def received(sent: Sent, asked: Recipe, order: Order) -> EncodedPicture:
    """A picture that came back, with the bytes of the sources that it was asked with."""
    bytes_of = {source.sha256: source.data for source in asked.sources}
    recipe = sent.recipe.with_sources(lambda source: replace(source, data=bytes_of.get(source.sha256)))
    return EncodedPicture(
        image=Image.open(io.BytesIO(sent.data)),
        recipe=recipe,
        seconds=sent.seconds,
        scores=sent.scores,
        data=sent.data,
        format=order.format,
        metadata=order.metadata,
    )


def lighter(recipe: Recipe) -> Recipe:
    """A recipe without the bytes of its sources, as it is sent back."""
    return recipe.with_sources(lambda source: replace(source, data=None)) if recipe.sources else recipe


def sent(pictures: Sequence[Picture], order: Order) -> tuple[Sent, ...]:
    """Pictures as they are sent back."""
    return tuple(
        Sent(
            data=picture.encode(order.format, metadata=order.metadata),
            recipe=lighter(picture.recipe),
            seconds=picture.seconds,
            scores=picture.scores,
        )
        for picture in pictures
    )
