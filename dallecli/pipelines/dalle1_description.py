"""What is known of a DALL·E 1 before its weights are read. No torch here."""

import math

from dallecli.pipelines.token_description import TokenDescription
from dallecli.tokens import ClipTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import ModelSpec


class Dalle1Description(TokenDescription):
    """A DALL·E 1 that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = ClipTokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)
        length = folder.config("decoder").get("ctx_len_img")
        self.rows = math.isqrt(length) if isinstance(length, int) and length > 0 else None

    def dropped(self, text: str) -> str:
        """The end of a sentence that the model will not read."""
        return self.tokenizer.encode(text).dropped
