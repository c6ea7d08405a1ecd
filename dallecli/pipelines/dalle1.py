"""A DALL·E 1: a transformer of one stream writes the codes of a discrete autoencoder of DALL·E 1's kind.

Ramesh et al. 2021 (https://arxiv.org/abs/2102.12092). OpenAI published the autoencoder alone; the starter's is trained
here (`dalle train starter-tokens`).
"""

from functools import partial
from typing import Final

import torch

from dallecli.pipelines.dvae import HALVES, DvaeCoder
from dallecli.pipelines.halves import check_nets
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.token_stream import WRITER, TokenStream, build_writer
from dallecli.tokens import ClipTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

DVAE: Final = {"encoder": "dvae_encoder", "decoder": "dvae"}
"""The parts with the halves of the autoencoder."""


def open_dalle1(parts: Parts) -> TokenStream:
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    return TokenStream(parts, ClipTokenizer.open(parts.folder.path_of("tokenizer")), DvaeCoder(parts, **DVAE))


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_dalle1(Parts(folder, torch.device("cpu"), torch.float32))
    check_net(partial(build_writer, folder.config(WRITER)), folder.weights_file(WRITER))
    check_nets(folder, HALVES, DVAE)
