"""DALL·E 1's discrete autoencoder, opened: the round trip of the published notebook."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dallecli.engine import Progress
from dallecli.errors import BadFolder, TaskNotSupported
from dallecli.limits import SIDE_LIMIT
from dallecli.nets.dvae import CHANNELS, DvaeConfig, DvaeDecoder, DvaeEncoder, squeeze, unsqueeze
from dallecli.pictures.picture import Picture
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pipeline import Pipeline
from dallecli.pipelines.pixels import from_levels, to_levels
from dallecli.recipe import Recipe
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

if TYPE_CHECKING:
    from dallecli.codes_file import Codes

NETS: Final[Mapping[str, type[DvaeEncoder | DvaeDecoder]]] = {"encoder": DvaeEncoder, "decoder": DvaeDecoder}


def open_dvae(parts: Parts) -> "Dvae":
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    encoder, decoder = (parts.config(part, DvaeConfig.from_config) for part in NETS)
    parts.check_same("number of codes", "encoder", encoder.vocab_size, "decoder", decoder.vocab_size)
    parts.check_same("pixels of a code", "encoder", encoder.cell, "decoder", decoder.cell)
    if decoder.init_channels is None:
        raise BadFolder("the decoder has no codebook: init_channels is missing", str(parts.folder.path))
    return Dvae(parts, encoder)


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_dvae(Parts(folder, torch.device("cpu"), torch.float32))
    for part in NETS:
        check_net(partial(_net, part, folder.config(part)), folder.weights_file(part))


def _net(part: str, json: dict[str, Any]) -> DvaeEncoder | DvaeDecoder:
    return NETS[part](DvaeConfig.from_config(json))


class Dvae(Pipeline):
    """An opened autoencoder. It paints nothing; it is its own `coder`."""

    def __init__(self, parts: Parts, config: DvaeConfig) -> None:
        super().__init__(parts.folder)
        self.parts = parts
        self.vocabulary = config.vocab_size
        self.cell = config.cell
        self.coder = self

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        """Raises TaskNotSupported: what asks for this was refused before."""
        raise TaskNotSupported(f"{recipe.model} cannot {recipe.task}")

    @torch.inference_mode()
    def encode(self, image: Image.Image, size: int) -> "Codes":
        """The codes [size/8 size/8] of the middle of an RGB picture. Raises NonFinite."""
        levels = squeeze(to_levels([middle(image, size)])).to(self.parts.device)

        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            net = self.parts.net("encoder", partial(_net, "encoder"), dtype)
            logits: Tensor = net(levels.to(dtype))
            return logits, logits.isfinite().flatten(1).all(dim=1)

        codes = self.parts.finite("encoder", None, run).argmax(dim=1)[0]
        return cast("Codes", codes.int().cpu().numpy())

    @torch.inference_mode()
    def decode(self, codes: "Codes") -> Image.Image:
        """The RGB picture of codes [h w], each below the vocabulary. Raises NonFinite."""
        given = torch.from_numpy(codes.astype(np.int64))[None].to(self.parts.device)

        def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            net = self.parts.net("decoder", partial(_net, "decoder"), dtype)
            means: Tensor = net(given)[:, :CHANNELS]
            return means, means.isfinite().flatten(1).all(dim=1)

        means = self.parts.finite("decoder", None, run).float()
        return from_levels(unsqueeze(means.sigmoid()))[0]


def middle(image: Image.Image, size: int) -> Image.Image:
    """A picture whose shorter side is scaled to `size` pixels, and what is then its middle, rounded as published.

    Of a strip whose longer side would then be above `SIDE_LIMIT`, the ends are cut off before.
    """
    most = min(image.size) * SIDE_LIMIT // size
    image = _cut(image, min(image.width, most), min(image.height, most))
    scale = size / min(image.size)
    width, height = (round(scale * side) for side in image.size)
    return _cut(image.resize((width, height), Image.Resampling.LANCZOS), size, size)


def _cut(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of a picture; half a pixel is rounded to the even one."""
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
