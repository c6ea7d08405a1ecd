"""From words and pictures to embeddings, by the CLIP of a model folder and the prior in its space, for every family."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.nets.autoregressive_prior import AutoregressivePriorConfig
from dallecli.nets.clip import ClipTextConfig
from dallecli.nets.prior import PriorConfig
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.prior import Priors
from dallecli.pipelines.settings import PriorSettings
from dallecli.pipelines.text import EncodedPrompts, check_tokens, read
from dallecli.pipelines.vision import check_image_tower, see
from dallecli.pipelines.watch import Watch
from dallecli.tokens import ClipTokenizer


class ClipEmbedder:
    """An `Embedder` of a folder's text tower, image tower and prior, as far as the folder has them.

    space: the name of the CLIP. prefix: the beginning of the names of its tokenizer and text tower. also_negative:
    whether the prior also makes an embedding of a negative prompt, for the decoder's guidance to lead away from.
    """

    def __init__(self, parts: Parts, space: str, *, prefix: str = "", also_negative: bool = False) -> None:
        self.parts = parts
        self.space = space
        self.tokenizer = ClipTokenizer.open(parts.folder.path_of(f"{prefix}tokenizer"))
        self._text_encoder = f"{prefix}text_encoder"
        self._prefix = prefix
        self._also_negative = also_negative
        self._priors = Priors(parts=parts, space=space)

    @torch.inference_mode()
    def read(self, prompts: Sequence[str], negative: str = "") -> EncodedPrompts:
        """Encode prompts, and the negative prompt that guidance leads away from."""
        return read(self.parts, self.tokenizer, prompts, negative, self._text_encoder)

    @torch.inference_mode()
    def meaning(self, words: EncodedPrompts) -> Embedding:
        """The text embeddings [p d] of the prompts, without the negative one."""
        return Embedding(vector=words.embedding[1:], space=self.space)

    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image]) -> Embedding:
        """Let the image tower look at pictures, prepared as the folder says."""
        return Embedding(vector=see(self.parts, images), space=self.space)

    @torch.inference_mode()
    def imagine(
        self, words: EncodedPrompts, noise: Noise, settings: PriorSettings, watch: Watch
    ) -> tuple[Embedding, Tensor]:
        """Let the prior make embeddings, and keep the one that points most like the text."""
        also_negative = self._also_negative and words.negative
        return self._priors.imagine(words, noise, settings, watch, also_negative=also_negative)

    def check(self, width: tuple[str, int]) -> None:
        """Refuse towers and a prior that do not fit each other, or do not fit a part of the decoder.

        `width` is that part and the width of the embeddings that it takes. Raises BadFolder, BadFile.
        """
        parts = self.parts
        text = parts.config(self._text_encoder, ClipTextConfig.from_config)
        parts.check_same("width of embeddings", self._text_encoder, text.projection_dim, *width)
        parts.check_same("width of text states", self._text_encoder, text.hidden_size, *width)
        if "prior" in parts.folder.parts:
            prior = parts.config("prior", PriorConfig.from_config)
            parts.check_same("width of embeddings", "prior", prior.embedding_dim, *width)
            tokens = (f"{self._prefix}tokenizer", self.tokenizer.context)
            parts.check_same("number of tokens", *tokens, "prior", prior.num_embeddings)
            parts.check_variance("prior_scheduler", "prior")
        if "autoregressive_prior" in parts.folder.parts:
            rival = parts.config("autoregressive_prior", AutoregressivePriorConfig.from_config)
            parts.check_same("width of embeddings", "autoregressive_prior", rival.embedding_dim, *width)
            tokens = (f"{self._prefix}tokenizer", self.tokenizer.context)
            parts.check_same("number of tokens", *tokens, "autoregressive_prior", rival.num_embeddings)
        if "image_encoder" in parts.folder.parts:
            check_image_tower(parts, width)
        check_tokens(parts, self.tokenizer, self._text_encoder)

    def check_towers(self) -> None:
        """Refuse towers that do not fit each other, of a CLIP that belongs to no decoder. Raises BadFolder, BadFile."""
        text = self.parts.config(self._text_encoder, ClipTextConfig.from_config)
        width = (self._text_encoder, text.projection_dim)
        self.parts.check_same("width of text states", self._text_encoder, text.hidden_size, *width)
        check_image_tower(self.parts, width)
        check_tokens(self.parts, self.tokenizer, self._text_encoder)
