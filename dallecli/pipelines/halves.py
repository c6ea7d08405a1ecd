"""Discrete autoencoders of two networks, an encoder and a decoder: what they share, opened alone or in other models."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dallecli.engine import Progress
from dallecli.errors import TaskNotSupported
from dallecli.limits import SIDE_LIMIT
from dallecli.pictures.picture import Picture
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.pixels import from_levels, to_levels
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

if TYPE_CHECKING:
    from dallecli.codes_file import Codes

Half = Callable[[dict[str, Any]], nn.Module]
"""Builds a network from the JSON of its config."""

ALONE: Final[Mapping[str, str]] = {"encoder": "encoder", "decoder": "decoder"}
"""The parts that the halves are in, of a model that is an autoencoder and nothing else."""


class HalvesCoder(ABC):
    """The `Coder` of a model whose discrete autoencoder is two networks, of which the encoder may be missing.

    encoder, decoder: the parts that they are in. vocabulary, cell: as in `Coder`.
    """

    vocabulary: int
    cell: int

    def __init__(self, parts: Parts, encoder: str = "encoder", decoder: str = "decoder") -> None:
        self.parts = parts
        self.names = {"encoder": encoder, "decoder": decoder}

    @property
    @abstractmethod
    def halves(self) -> Mapping[str, Half]:
        """How the encoder and the decoder are built."""

    @abstractmethod
    def codes(self, levels: Tensor) -> Tensor:
        """The codes [b h w] of levels [b 3 cell*h cell*w] in [0, 1]. Raises NonFinite."""

    @abstractmethod
    def levels(self, codes: Tensor) -> Tensor:
        """Levels [b 3 cell*h cell*w] in [0, 1], float32, of codes [b h w] below the vocabulary. Raises NonFinite."""

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder."""
        return self.names["encoder"] in self.parts.folder.networks

    def encode(self, image: Image.Image, size: Size) -> "Codes":
        """The codes [height/cell width/cell] of the middle of an RGB picture. Raises NonFinite."""
        if not self.encodes:
            raise TaskNotSupported(f"{self.parts.folder.path.name} has no encoder")
        codes = self.codes(to_levels([middle(image, size)]))[0]
        return cast("Codes", codes.int().cpu().numpy())

    def decode(self, codes: "Codes") -> Image.Image:
        """The RGB picture of codes [h w], each below the vocabulary. Raises NonFinite."""
        return from_levels(self.levels(torch.from_numpy(codes.astype(np.int64))[None]))[0]

    def net(self, half: str, dtype: torch.dtype) -> nn.Module:
        """The network of a half: see `Parts.net`."""
        return self.parts.net(self.names[half], self.halves[half], dtype)

    def run(self, half: str, given: Tensor) -> Tensor:
        """What a half makes of pixels or codes [b ...]: done again in a wider type where it overflows."""

        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            typed = given.to(self.parts.device, dtype if given.is_floating_point() else None)
            made: Tensor = self.net(half, dtype)(typed)
            return made, made.isfinite().flatten(1).all(dim=1)

        part = self.names[half]
        return self.parts.finite(part, None, run, self.parts.dtype_of(part))


def check_nets(folder: Folder, halves: Mapping[str, Half], names: Mapping[str, str]) -> None:
    """Compare the tensors of the halves that a folder has with their networks; `names` are the parts they are in.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    for half, part in names.items():
        if part in folder.networks:
            check_net(partial(halves[half], folder.config(part)), folder.weights_file(part))


class Autoencoder(Pipeline):
    """An opened autoencoder. It paints nothing; its coder is all there is."""

    def __init__(self, coder: HalvesCoder) -> None:
        super().__init__(coder.parts.folder)
        self.parts = coder.parts
        self.coder = coder

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Raises TaskNotSupported: what asks for this was refused before."""
        raise TaskNotSupported(f"{recipe.model} cannot {recipe.task}")


def middle(image: Image.Image, size: Size) -> Image.Image:
    """A picture that is scaled until it just covers a size, and what is then its middle, rounded as published.

    Of a strip whose longer side would then be above `SIDE_LIMIT`, the ends are cut off before.
    """
    across = size.width * image.height >= size.height * image.width
    own, wanted = (image.width, size.width) if across else (image.height, size.height)
    image = _cut(image, min(image.width, own * SIDE_LIMIT // wanted), min(image.height, own * SIDE_LIMIT // wanted))
    scale = wanted / own
    width, height = (round(scale * side) for side in image.size)
    return _cut(image.resize((width, height), Image.Resampling.LANCZOS), size.width, size.height)


def _cut(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture; half a pixel is rounded to the even one."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
