"""What is known of a minDALL-E before its weights are read. No torch here."""

import math
from collections.abc import Iterable, Mapping

from dallecli.errors import BadSetting
from dallecli.pipelines.token_description import TokenDescription
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import CODES, StageSettings
from dallecli.tasks.task import ModelRequest
from dallecli.tokens import CharTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.registry import ModelSpec


class MindalleDescription(TokenDescription):
    """A minDALL-E that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = CharTokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)
        if "vqgan_encoder" in folder.parts:
            length = folder.config("decoder").get("ctx_len_img")
            self.rows = math.isqrt(length) if isinstance(length, int) and length > 0 else None

    def check_request(self, request: ModelRequest) -> None:
        """Refuse what the model has no parts for, and words to lead away from. Raises TaskNotSupported, BadSetting."""
        super().check_request(request)
        if isinstance(request, Generate) and request.negative is not None:
            what = f"{self.spec.name} can't be led away from words: it was never trained without any"
            raise BadSetting(what, hint="leave out --negative")

    def check_stages(self, stages: Mapping[str, StageSettings]) -> None:
        """Refuse dials that a stage cannot have. Raises UnknownSampler, BadSteps, BadSetting."""
        super().check_stages(stages)
        if CODES.name in stages and stages[CODES.name].guidance != 1.0:
            what = (
                f"the guidance is {stages[CODES.name].guidance:g}, and {self.spec.name} was never trained without words"
            )
            raise BadSetting(what, hint="leave out --guidance, or at 1")

    def dropped(self, text: str) -> str:
        """The end of a sentence that the model will not read."""
        return self.tokenizer.encode(text).dropped

    def unknown(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The words of some sentences with letters that it does not know."""
        return tuple(dict.fromkeys(word for text in texts for word in self.tokenizer.unreadable(text)))
