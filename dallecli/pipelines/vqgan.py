"""A VQGAN, opened by itself, and as the part of a model that paints with its codes."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dallecli.engine import Progress
from dallecli.errors import TaskNotSupported
from dallecli.nets.vqgan import VqganConfig, VqganDecoder, VqganEncoder
from dallecli.pictures.picture import Picture
from dallecli.pipelines.dvae import middle
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.pixels import from_levels, to_levels
from dallecli.recipe import Recipe
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

if TYPE_CHECKING:
    from dallecli.codes_file import Codes

NETS: Final[Mapping[str, type[VqganEncoder | VqganDecoder]]] = {"encoder": VqganEncoder, "decoder": VqganDecoder}

_ALIKE: Final = (
    ("number of codes", "num_vq_embeddings"),
    ("width of the codebook", "vq_embed_dim"),
    ("pixels of a code", "cell"),
    ("range of pixels", "pixel_range"),
)
"""What an encoder and a decoder must agree on, and the fields that state it."""


def open_vqgan(parts: Parts) -> "Vqgan":
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    return Vqgan(parts)


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_vqgan(Parts(folder, torch.device("cpu"), torch.float32))
    check_halves(folder, {part: part for part in NETS})


def check_halves(folder: Folder, names: Mapping[str, str]) -> None:
    """Compare the tensors of the halves of a VQGAN with their networks; `names` are those of the parts they are in.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    for half, part in names.items():
        if part in folder.networks:
            check_net(partial(_net, half, folder.config(part)), folder.weights_file(part))


def _net(half: str, json: dict[str, Any]) -> VqganEncoder | VqganDecoder:
    return NETS[half](VqganConfig.from_config(json))


class VqganCoder:
    """The `Coder` of a model that has a VQGAN: its decoder, and its encoder if that is there.

    encoder, decoder: the names of the parts that they are in.

    Raises BadFolder or BadFile if the two contradict each other.
    """

    def __init__(self, parts: Parts, encoder: str = "encoder", decoder: str = "decoder") -> None:
        self.parts = parts
        self.names = {"encoder": encoder, "decoder": decoder}
        self.config = parts.config(decoder, VqganConfig.from_config)
        self.vocabulary = self.config.num_vq_embeddings
        self.cell = self.config.cell
        if encoder in parts.folder.networks:
            other = parts.config(encoder, VqganConfig.from_config)
            for what, field in _ALIKE:
                parts.check_same(what, encoder, getattr(other, field), decoder, getattr(self.config, field))

    @torch.inference_mode()
    def encode(self, image: Image.Image, size: int) -> "Codes":
        """The codes [size/cell size/cell] of the middle of an RGB picture. Raises NonFinite.

        Raises TaskNotSupported if there is no encoder.
        """
        if self.names["encoder"] not in self.parts.folder.networks:
            raise TaskNotSupported(f"there is only the decoder of a VQGAN in {self.parts.folder.path.name}")
        pixels = self.config.from_levels(to_levels([middle(image, size)])).to(self.parts.device)
        vectors = self._run("encoder", pixels)
        # No other net is between: the codebook is the decoder's, which may have had to come in the encoder's place.
        codes = self._loaded("decoder", self.parts.dtype_of(self.names["decoder"])).quantize.nearest(vectors)[0]
        return cast("Codes", codes.int().cpu().numpy())

    def decode(self, codes: "Codes") -> Image.Image:
        """The RGB picture of codes [h w], each below the vocabulary. Raises NonFinite."""
        return from_levels(self.levels(torch.from_numpy(codes.astype(np.int64))[None]))[0]

    @torch.inference_mode()
    def levels(self, codes: Tensor) -> Tensor:
        """Levels [b 3 cell*h cell*w] in [0, 1], in float32, of codes [b h w] below the vocabulary. Raises NonFinite."""
        return self.config.to_levels(self._run("decoder", codes.to(self.parts.device)).float())

    def _run(self, half: str, given: Tensor) -> Tensor:
        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            made: Tensor = self._loaded(half, dtype)(given.to(dtype) if given.is_floating_point() else given)
            return made, made.isfinite().flatten(1).all(dim=1)

        part = self.names[half]
        return self.parts.finite(part, None, run, self.parts.dtype_of(part))

    def _loaded(self, half: str, dtype: torch.dtype) -> Any:
        return self.parts.net(self.names[half], partial(_net, half), dtype)


class Vqgan(Pipeline):
    """An opened VQGAN. It paints nothing; its `coder` is all there is."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.folder)
        self.parts = parts
        self.coder = VqganCoder(parts)

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Raises TaskNotSupported: what asks for this was refused before."""
        raise TaskNotSupported(f"{recipe.model} cannot {recipe.task}")
