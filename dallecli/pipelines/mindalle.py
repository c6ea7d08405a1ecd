"""minDALL-E, by Kakao Brain: a transformer of one stream, and the codes of a VQGAN (https://github.com/kakaobrain/minDALL-E)."""

from functools import partial
from typing import Final

import torch

from dallecli.pipelines.parts import Parts
from dallecli.pipelines.token_stream import WRITER, TokenStream, build_writer
from dallecli.pipelines.vqgan import VqganCoder, check_halves
from dallecli.tokens import CharTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

VQGAN: Final = {"encoder": "vqgan_encoder", "decoder": "vqgan"}
"""The parts with the halves of the autoencoder."""


def open_mindalle(parts: Parts) -> TokenStream:
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    return TokenStream(parts, CharTokenizer.open(parts.folder.path_of("tokenizer")), VqganCoder(parts, **VQGAN))


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_mindalle(Parts(folder, torch.device("cpu"), torch.float32))
    check_net(partial(build_writer, folder.config(WRITER)), folder.weights_file(WRITER))
    check_halves(folder, VQGAN)
