"""DALL·E 1's discrete autoencoder, opened: the round trip of the published notebook."""

from collections.abc import Mapping

import torch
from torch import Tensor

from dallecli.errors import BadFolder
from dallecli.nets.dvae import CHANNELS, DvaeConfig, DvaeDecoder, DvaeEncoder, squeeze, unsqueeze
from dallecli.pipelines.halves import ALONE, Autoencoder, Half, HalvesCoder, check_nets
from dallecli.pipelines.parts import Parts
from dallecli.weights.folder import Folder

HALVES: Mapping[str, Half] = {
    "encoder": lambda json: DvaeEncoder(DvaeConfig.from_config(json)),
    "decoder": lambda json: DvaeDecoder(DvaeConfig.from_config(json)),
}


def open_dvae(parts: Parts) -> Autoencoder:
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    return Autoencoder(DvaeCoder(parts))


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_dvae(Parts(folder, torch.device("cpu"), torch.float32))
    check_nets(folder, HALVES, ALONE)


class DvaeCoder(HalvesCoder):
    """The `Coder` of a model that has such an autoencoder. Raises BadFolder or BadFile if its halves contradict."""

    halves = HALVES

    def __init__(self, parts: Parts, encoder: str = "encoder", decoder: str = "decoder") -> None:
        super().__init__(parts, encoder, decoder)
        own = parts.config(decoder, DvaeConfig.from_config)
        if own.init_channels is None:
            raise BadFolder("the decoder has no codebook: init_channels is missing", str(parts.folder.path))
        self.vocabulary, self.cell = own.vocab_size, own.cell
        if self.encodes:
            other = parts.config(encoder, DvaeConfig.from_config)
            parts.check_same("number of codes", encoder, other.vocab_size, decoder, own.vocab_size)
            parts.check_same("pixels of a code", encoder, other.cell, decoder, own.cell)

    @torch.inference_mode()
    def codes(self, levels: Tensor) -> Tensor:
        """The codes [b h w] of levels [b 3 cell*h cell*w] in [0, 1]. Raises NonFinite."""
        return self.run("encoder", squeeze(levels)).argmax(dim=1)

    @torch.inference_mode()
    def levels(self, codes: Tensor) -> Tensor:
        """Levels [b 3 cell*h cell*w] in [0, 1], float32, of codes [b h w] below the vocabulary. Raises NonFinite."""
        return unsqueeze(self.run("decoder", codes)[:, :CHANNELS].float().sigmoid())
