"""What is known of a DALL·E Mini before its weights are read. No torch here."""

from collections.abc import Iterable

from dallecli.errors import TaskNotSupported
from dallecli.pipelines.description import Description
from dallecli.tasks.task import ModelRequest
from dallecli.tokens import BartTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import ModelSpec


class DalleMiniDescription(Description):
    """A DALL·E Mini that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = BartTokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)

    def check_request(self, request: ModelRequest) -> None:
        """Refuse what the model has no parts for. Raises TaskNotSupported, BadSetting."""
        super().check_request(request)
        if request.sources:
            what = f"{self.spec.name} writes a picture code by code, and starts from no other"
            raise TaskNotSupported(what, hint="leave out --init")

    def dropped(self, text: str) -> str:
        """The end of a sentence that the model will not read."""
        return self.tokenizer.encode(text).dropped

    def unknown(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The words of some sentences of which it reads nothing: it knows ASCII only."""
        return tuple(dict.fromkeys(word for text in texts for word in self.tokenizer.unreadable(text)))
