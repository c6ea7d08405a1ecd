"""Models whose one transformer reads the words and writes the codes behind them, in one stream, as DALL·E 1's did.

Ramesh et al. 2021 (https://arxiv.org/abs/2102.12092), section 2. minDALL-E is one. A family supplies its tokenizer and
its autoencoder, and has the transformer in the part `decoder`.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, Protocol

import torch
from PIL import Image
from torch import Tensor

from dallecli.errors import BadFolder
from dallecli.nets.conditions import KeysValues
from dallecli.nets.gpt import Cache, Gpt, GptConfig
from dallecli.pipelines.halves import HalvesCoder
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import from_levels
from dallecli.pipelines.token_pipeline import TokenPipeline, Words
from dallecli.pipelines.token_sampling import Writer
from dallecli.pipelines.watch import LookingWatch
from dallecli.tokens import Tokens

WRITER: Final = "decoder"
"""The part with the transformer."""


class Tokenizer(Protocol):
    """Turns words into token ids. context: how many there are of a text. size: how large the vocabulary is."""

    @property
    def context(self) -> int: ...
    @property
    def size(self) -> int: ...
    def encode(self, prompt: str, /) -> Tokens: ...


def build_writer(json: Mapping[str, Any]) -> Gpt:
    """The transformer of the config in a folder. Raises ValueError."""
    return Gpt(GptConfig.from_config(json))


class TokenStream(TokenPipeline):
    """An opened model of this kind.

    Raises BadFolder or BadFile if its parts contradict each other.
    """

    writing = (WRITER,)

    def __init__(self, parts: Parts, tokenizer: Tokenizer, coder: HalvesCoder) -> None:
        super().__init__(parts)
        self.tokenizer = tokenizer
        self.coder = self.autoencoder = coder
        self.drawing = coder.names["decoder"]
        config = parts.config(WRITER, GptConfig.from_config)
        self.side, self.cell = math.isqrt(config.ctx_len_img), coder.cell
        parts.check_same("number of tokens", "tokenizer", tokenizer.context, WRITER, config.ctx_len_txt)
        parts.check_same("number of codes", WRITER, config.vocab_size_img, self.drawing, coder.vocabulary)
        parts.check_same("codes of a picture", WRITER, config.ctx_len_img, "square", self.side**2)
        parts.check_same("side", WRITER, self.side * self.cell, self.drawing, parts.folder.sizes()[-1])
        if tokenizer.size > config.vocab_size_txt:
            raise BadFolder(f"the tokenizer's vocabulary is larger than the {WRITER}'s", str(parts.folder.path))

    def writer(self, words: Words, dtype: torch.dtype, watch: LookingWatch) -> Writer:
        """What writes the codes of pictures of these words, computing in `dtype`."""
        told = [*([words.negative] * len(words.prompts) if words.guided else []), *words.prompts]
        texts = list(dict.fromkeys(told))
        ids = torch.tensor([self.tokenizer.encode(text).ids for text in texts], device=self.parts.device)
        stream = _Stream(self.parts.net(WRITER, build_writer, dtype), ids, [texts.index(text) for text in told])
        watch("text", 1, 1)
        return stream

    def pixels(self, codes: Tensor) -> list[Image.Image]:
        """The pictures of codes [b h w], each by itself. Raises NonFinite."""
        return list(chain.from_iterable(from_levels(self.autoencoder.levels(one[None])) for one in codes))


class _Stream:
    """A `Writer`: streams that go on behind texts [t n], of which `rows` says which one is each stream's."""

    def __init__(self, net: Gpt, texts: Tensor, rows: Sequence[int]) -> None:
        self._net = net
        # Each by itself, so that no text depends on its neighbours.
        read = [net.read(text[None]) for text in texts]
        self._logits = torch.cat([read[row][0] for row in rows])
        self._cache = _joined([cache for _, cache in read], rows)
        self._place = 0

    def __call__(self, codes: Tensor) -> Tensor:
        for code in codes.to(self._logits.device).unbind(dim=1):
            self._logits = self._net.write(code, self._place, self._cache)
            self._place += 1
        return self._logits


def _joined(caches: Sequence[Cache], rows: Sequence[int]) -> Cache:
    """One cache for streams that go on from those of `rows`; the only one is taken as it is."""
    if len(caches) == len(rows) == 1:
        return caches[0]
    layers = zip(*(cache.layers for cache in caches), strict=True)
    return Cache(
        tuple(
            KeysValues(torch.cat([layer[row].keys for row in rows]), torch.cat([layer[row].values for row in rows]))
            for layer in layers
        )
    )
