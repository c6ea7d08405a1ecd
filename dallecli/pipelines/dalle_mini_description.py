"""What is known of a DALL·E Mini before its weights are read. No torch here."""

import math
from collections.abc import Iterable
from typing import Final

from dallecli.pipelines.token_description import TokenDescription
from dallecli.tokens import BartTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import ModelSpec

VQGAN_ENCODER: Final = "vqgan_encoder"
LENGTH: Final = 256
"""The codes of a picture, where a config does not say."""


class DalleMiniDescription(TokenDescription):
    """A DALL·E Mini that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = BartTokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)
        if VQGAN_ENCODER in folder.parts:  # of which there is not always one
            length = folder.config("decoder").get("image_length", LENGTH)
            self.rows = math.isqrt(length) if isinstance(length, int) and length > 0 else None

    def dropped(self, text: str) -> str:
        """The end of a sentence that the model will not read."""
        return self.tokenizer.encode(text).dropped

    def unknown(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The words of some sentences of which it reads nothing: it knows ASCII only. And those its folder excludes."""
        several = list(texts)
        unreadable = [word for text in several for word in self.tokenizer.unreadable(text)]
        return tuple(dict.fromkeys([*super().unknown(several), *unreadable]))
