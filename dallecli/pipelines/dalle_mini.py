"""DALL·E Mini and Mega: BART writes a picture as 256 codes of a VQGAN (Dayma et al. 2021).

The chain is that of dalle-mini (https://github.com/borisdayma/dalle-mini). Where its port min-dalle, whose files are
converted here, computes something else than what was trained, this follows the training: the start token, the end token
of a long prompt, the epsilon of the VQGAN's norms.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from dallecli.errors import BadFolder
from dallecli.nets.dalle_bart import DalleBartConfig, DalleBartDecoder, DalleBartEncoder, Writing
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import from_levels
from dallecli.pipelines.token_pipeline import TokenPipeline, Words
from dallecli.pipelines.token_sampling import Writer
from dallecli.pipelines.vqgan import VqganCoder, check_halves
from dallecli.pipelines.watch import LookingWatch
from dallecli.tokens import BartTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.load import check_net

READER: Final = "text_encoder"
WRITER: Final = "decoder"
VQGAN: Final = "vqgan"
VQGAN_ENCODER: Final = "vqgan_encoder"


def open_dalle_mini(parts: Parts) -> "DalleMini":
    """The model in a folder, opened. Networks are loaded when they are first needed.

    Raises BadFolder or BadFile if parts contradict each other.
    """
    return DalleMini(parts, BartTokenizer.open(parts.folder.path_of("tokenizer")))


def check_tensors(folder: Folder) -> None:
    """Compare the parts of a folder with each other, and its tensors with its networks; nothing is loaded.

    Raises BadFolder, BadFile, LayoutMismatch.
    """
    open_dalle_mini(Parts(folder, torch.device("cpu"), torch.float32))
    for part, build in ((READER, _reader), (WRITER, _writer)):
        check_net(partial(build, folder.config(part)), folder.weights_file(part))
    check_halves(folder, {"encoder": VQGAN_ENCODER, "decoder": VQGAN})


def _reader(json: dict[str, Any]) -> DalleBartEncoder:
    return DalleBartEncoder(DalleBartConfig.from_config(json))


def _writer(json: dict[str, Any]) -> DalleBartDecoder:
    return DalleBartDecoder(DalleBartConfig.from_config(json))


class DalleMini(TokenPipeline):
    """An opened DALL·E Mini or Mega.

    Raises BadFolder or BadFile if its parts contradict each other.
    """

    writing, drawing = (READER, WRITER), VQGAN

    def __init__(self, parts: Parts, tokenizer: BartTokenizer) -> None:
        super().__init__(parts)
        self.tokenizer = tokenizer
        reader, writer = (parts.config(part, DalleBartConfig.from_config) for part in (READER, WRITER))
        self.coder = self.vqgan = VqganCoder(parts, VQGAN_ENCODER, VQGAN)
        self.start = writer.decoder_start_token_id
        self.side, self.cell = math.isqrt(writer.image_length), self.vqgan.cell
        parts.check_same("width of states", READER, reader.d_model, WRITER, writer.d_model)
        parts.check_same("number of tokens", "tokenizer", tokenizer.context, READER, reader.max_text_length)
        size = self.side * self.cell if self.side**2 == writer.image_length else writer.image_length
        parts.check_same("side of a picture", f"codes of the {WRITER}", size, "sample_size", parts.folder.sizes()[-1])
        if tokenizer.encoder.get_vocab_size() > reader.encoder_vocab_size:
            raise BadFolder(f"the tokenizer's vocabulary is larger than the {READER}'s", str(parts.folder.path))
        if self.vqgan.vocabulary > writer.image_vocab_size:
            what = f"the codebook has {self.vqgan.vocabulary} codes, and the {WRITER} writes {writer.image_vocab_size}"
            raise BadFolder(what, str(parts.folder.path), "these parts are of different models")

    def writer(self, words: Words, dtype: torch.dtype, watch: LookingWatch) -> Writer:
        """What writes the codes of pictures of these words, computing in `dtype`."""
        told = [*([words.negative] * len(words.prompts) if words.guided else []), *words.prompts]
        texts = list(dict.fromkeys(told))
        states, mask = self._read(texts, dtype)
        watch("text", 1, 1)
        net = self.parts.net(WRITER, _writer, dtype)
        writing, places = Writing.begin(net, states, mask, [texts.index(text) for text in told]), [0]

        def write(codes: Tensor) -> Tensor:
            place, tokens = places[-1], codes.to(self.parts.device)
            if place == 0:
                tokens = torch.cat([tokens.new_full((len(told), 1), self.start), tokens], dim=1)
            places.append(place + tokens.shape[1])
            # Mega has more logits than there are codes: those were never trained.
            return net.write(tokens, place, writing)[:, : self.vqgan.vocabulary]

        return write

    def pixels(self, codes: Tensor) -> list[Image.Image]:
        """The pictures of codes [b h w]. Raises NonFinite."""
        return list(chain.from_iterable(from_levels(self.vqgan.levels(one[None])) for one in codes))

    def _read(self, texts: Sequence[str], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The states [t n w] of texts, each read by itself, so that none depends on its neighbours, and their mask."""
        net = self.parts.net(READER, _reader, dtype)
        rows = [self.tokenizer.encode(text) for text in texts]
        ids = torch.tensor([row.ids for row in rows], device=self.parts.device)
        mask = torch.tensor([row.mask for row in rows], device=self.parts.device)
        return torch.cat([net(ids[row : row + 1], mask[row : row + 1]) for row in range(len(rows))]), mask
