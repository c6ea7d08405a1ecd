"""What is known of a DeepFloyd IF before its weights are read. No torch here."""

from dallecli.captions import clean_caption, typed_end
from dallecli.pipelines.description import Description
from dallecli.tokens import T5Tokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import ModelSpec


class DeepFloydDescription(Description):
    """A DeepFloyd IF that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = T5Tokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)

    def dropped(self, text: str) -> str:
        """The end of a sentence that T5 will not read: as it was typed, or as it was cleaned where that is another."""
        return typed_end(text, self.tokenizer.encode(clean_caption(text)).dropped)
