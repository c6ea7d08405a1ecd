"""How DeepFloyd IF's text tower encodes prompts: each once, as long as their states fit.

The tower is by far the largest network of the model, and its states are small. So what is read is kept, and what will
be asked for soon is read with the first prompt: the tower is loaded once for many pictures, whatever the memory plan.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from dallecli.captions import clean_caption
from dallecli.errors import BadFolder
from dallecli.nets.t5 import T5Config, T5Encoder
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import precise
from dallecli.tokens import T5Tokenizer

KEPT_BYTES: Final = 256 * 2**20
"""Main memory for states of prompts: those of 212 with the published tower."""


class T5Text:
    """The text tower of an opened model, with the states of the prompts that it has read last."""

    def __init__(self, parts: Parts, tokenizer: T5Tokenizer, part: str = "text_encoder") -> None:
        self.parts = parts
        self.tokenizer = tokenizer
        self._part = part
        self._known: OrderedDict[str, Tensor] = OrderedDict()
        self._expected: dict[str, None] = {}
        width = parts.config(part, T5Config.from_config).d_model
        self._room = max(1, KEPT_BYTES // (4 * tokenizer.context * width))

    def expect(self, prompts: Iterable[str]) -> None:
        """Read these, too, when the tower is needed next; as many of them, from the first on, as there is room for."""
        self._expected = dict.fromkeys(clean_caption(prompt) for prompt in prompts)

    def read(self, prompts: Sequence[str]) -> Tensor:
        """The states [p n d] of prompts as they were typed, at least float32. Raises NonFinite if the tower overflows.

        All n tokens have states, those of padding, too, and the networks read them all.
        """
        texts = [clean_caption(prompt) for prompt in prompts]
        found = {text: self._known[text] for text in texts if text in self._known}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        for text in texts:
            self._expected.pop(text, None)
        found |= {text: self._encode(text) for text in missing}
        for text in found:
            self._keep(text, found[text])
        if missing:
            self._read_ahead(self._room - len(found))
        return torch.stack([found[text] for text in texts]).to(self.parts.device)

    def _read_ahead(self, room: int) -> None:
        """Read of what is expected so many that all of them are known, while the tower is here."""
        ahead = [text for text in self._expected if text in self._known]
        fresh = [text for text in self._expected if text not in self._known]
        for text in fresh[: max(0, room - len(ahead))]:
            self._keep(text, self._encode(text))

    @torch.inference_mode()
    def _encode(self, text: str) -> Tensor:
        """The states [n d] of a clean text, in main memory: of it alone, so that they do not depend on neighbours."""
        tokens = self.tokenizer.encode(text)
        ids = torch.tensor([tokens.ids], device=self.parts.device)
        mask = torch.tensor([tokens.mask], device=self.parts.device)

        def encode(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
            states = self.parts.net(self._part, build_t5, dtype)(ids, mask).to(precise(dtype))
            return states, states.isfinite().flatten(1).all(dim=1)

        return self.parts.finite("text", None, encode)[0].cpu()

    def _keep(self, text: str, states: Tensor) -> None:
        """Put it among the known ones as the latest, and forget the oldest for which there is no room."""
        self._known[text] = states
        self._known.move_to_end(text)
        while len(self._known) > self._room:
            # What was read ahead is still to be asked for.
            oldest = next((known for known in self._known if known not in self._expected), next(iter(self._known)))
            del self._known[oldest]


def build_t5(json: dict[str, Any]) -> T5Encoder:
    """The tower that a config describes. Raises ValueError."""
    return T5Encoder(T5Config.from_config(json))


def check_tokens(parts: Parts, tokenizer: T5Tokenizer, part: str = "text_encoder") -> None:
    """Raise BadFolder if a tokenizer gives tokens that the text tower in `part` does not know, before it is loaded."""
    tower = parts.config(part, T5Config.from_config)
    if tokenizer.encoder.get_vocab_size() > tower.vocab_size:
        raise BadFolder(f"the tokenizer's vocabulary is larger than the {part}'s", str(parts.folder.path))
