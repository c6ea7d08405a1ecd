"""How a model folder's text tower reads prompts, the same for every family that has a prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dallecli.diffusion.guidance import OFF, pair
from dallecli.errors import BadFolder
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import precise
from dallecli.tokens import ClipTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompts:
    """Prompts as the text tower sees them. Row 0 is what guidance leads away from, the others are the p real ones.

    `embedding` [1 + p, d] and `hidden` [1 + p, n, d] are at least float32; `mask` [1 + p, n] is True where a token is
    the prompt's. It is all True where they are not `padded`, because all of them are empty. `negative` says whether row
    0 is a sentence; otherwise it is the empty prompt.
    """

    embedding: Tensor
    hidden: Tensor
    mask: Tensor
    padded: bool
    negative: bool

    def rows(self, count: int, guidance: float) -> Tensor:
        """Which row each of `count` samples reads, the same number each prompt: behind as many of row 0 when guided."""
        prompts = len(self.embedding) - 1
        real = torch.arange(1, 1 + prompts, device=self.embedding.device).repeat_interleave(count // prompts)
        return real if guidance == OFF else pair(torch.zeros_like(real), real)

    def spread(self, count: int, guidance: float) -> "EncodedPrompts":
        """The rows for `count` samples: see `rows`."""
        rows = self.rows(count, guidance)
        return self._mapped(lambda of: of[rows])

    def with_negative(self) -> "EncodedPrompts":
        """Row 0 as it is, and behind each real prompt row 0 once more, as one of the real ones."""

        def rows(of: Tensor) -> Tensor:
            both = torch.stack([of[1:], of[:1].expand_as(of[1:])], dim=1)
            return torch.cat([of[:1], both.flatten(0, 1)])

        return self._mapped(rows)

    def _mapped(self, rows: Callable[[Tensor], Tensor]) -> "EncodedPrompts":
        return replace(self, embedding=rows(self.embedding), hidden=rows(self.hidden), mask=rows(self.mask))


def read(
    parts: Parts, tokenizer: ClipTokenizer, prompts: Sequence[str], negative: str, part: str = "text_encoder"
) -> EncodedPrompts:
    """Encode prompts with the tower in `part`, behind the negative one, which may be "".

    Raises NonFinite if the tower overflows.
    """
    tokens = [tokenizer.encode(prompt) for prompt in (negative, *prompts)]
    ids = torch.tensor([row.ids for row in tokens], device=parts.device)
    mask = torch.tensor([row.mask for row in tokens], device=parts.device)

    def encode(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        tower = parts.net(part, lambda json: CLIPTextModel(ClipTextConfig.from_config(json)), dtype)
        embedding, hidden = tower(ids)
        states = torch.cat([embedding[:, None], hidden], dim=1).to(precise(dtype))
        return states, states.isfinite().flatten(1).all(dim=1)

    states = parts.finite("text", None, encode)
    # Not to the longest of several: then a picture would be rounded by what is painted beside it.
    padded = any((negative, *prompts))
    most = mask.shape[1] if padded else sum(tokens[0].mask)
    hidden = states[:, 1 : 1 + most]
    return EncodedPrompts(
        embedding=states[:, 0], hidden=hidden, mask=mask[:, :most], negative=negative != "", padded=padded
    )


def check_tokens(parts: Parts, tokenizer: ClipTokenizer, part: str = "text_encoder") -> None:
    """Raise BadFolder if a tokenizer gives tokens that the text tower in `part` doesn't know, before it is loaded."""
    tower = parts.config(part, ClipTextConfig.from_config)
    if tokenizer.end >= tower.vocab_size or tokenizer.context > tower.max_position_embeddings:
        what = f"the tokenizer's vocabulary or context is larger than the {part}'s"
        raise BadFolder(what, str(parts.folder.path))
