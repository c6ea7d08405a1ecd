"""What is known of a GLIDE before its weights are read. No torch here."""

from dallecli.pipelines.description import Description
from dallecli.tokens import GptTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import ModelSpec


class GlideDescription(Description):
    """A GLIDE that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = GptTokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)

    def dropped(self, text: str) -> str:
        """The end of a sentence that the text towers will not read."""
        return self.tokenizer.encode(text).dropped
