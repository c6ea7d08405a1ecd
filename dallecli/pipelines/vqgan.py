"""A VQGAN, opened by itself, and as the part of a model that paints with its codes."""

from collections.abc import Mapping
from typing import Final, cast

import torch
from torch import Tensor

from dallecli.nets.vqgan import VqganConfig, VqganDecoder, VqganEncoder
from dallecli.pipelines.halves import ALONE, Autoencoder, Half, HalvesCoder, check_nets
from dallecli.pipelines.parts import Parts
from dallecli.weights.folder import Folder

HALVES: Mapping[str, Half] = {
    "encoder": lambda json: VqganEncoder(VqganConfig.from_config(json)),
    "decoder": lambda json: VqganDecoder(VqganConfig.from_config(json)),
}

_ALIKE: Final = (
    ("number of codes", "num_vq_embeddings"),
    ("width of the codebook", "vq_embed_dim"),
    ("pixels of a code", "cell"),
    ("range of pixels", "pixel_range"),
)
"""What an encoder and a decoder must agree on, and the fields that state it."""


def open_vqgan(parts: Parts) -> Autoencoder:
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    return Autoencoder(VqganCoder(parts))


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_vqgan(Parts(folder, torch.device("cpu"), torch.float32))
    check_halves(folder, ALONE)


def check_halves(folder: Folder, names: Mapping[str, str]) -> None:
    """Compare the tensors of the halves of a VQGAN that a folder has; `names` are the parts they are in.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    check_nets(folder, HALVES, names)


class VqganCoder(HalvesCoder):
    """The `Coder` of a model that has a VQGAN. Raises BadFolder or BadFile if its halves contradict each other."""

    halves = HALVES

    def __init__(self, parts: Parts, encoder: str = "encoder", decoder: str = "decoder") -> None:
        super().__init__(parts, encoder, decoder)
        self.config = parts.config(decoder, VqganConfig.from_config)
        self.vocabulary, self.cell = self.config.num_vq_embeddings, self.config.cell
        if self.encodes:
            other = parts.config(encoder, VqganConfig.from_config)
            for what, field in _ALIKE:
                parts.check_same(what, encoder, getattr(other, field), decoder, getattr(self.config, field))

    @torch.inference_mode()
    def codes(self, levels: Tensor) -> Tensor:
        """The codes [b h w] of levels [b 3 cell*h cell*w] in [0, 1]. Raises NonFinite."""
        vectors = self.run("encoder", self.config.from_levels(levels))
        # The codebook is the decoder's, which may have had to come in the encoder's place.
        dtype = self.parts.dtype_of(self.names["decoder"])
        return cast(VqganDecoder, self.net("decoder", dtype)).quantize.nearest(vectors)

    @torch.inference_mode()
    def levels(self, codes: Tensor) -> Tensor:
        """Levels [b 3 cell*h cell*w] in [0, 1], float32, of codes [b h w] below the vocabulary. Raises NonFinite."""
        return self.config.to_levels(self.run("decoder", codes).float())
