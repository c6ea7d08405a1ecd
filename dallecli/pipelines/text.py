"""How a model folder's text tower encodes prompts, for every family that has a prior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dallecli.diffusion.guidance import pair
from dallecli.errors import BadFolder
from dallecli.nets.clip import ClipTextConfig, CLIPTextModel
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.stage import precise
from dallecli.tokens import ClipTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompts:
    """Prompts as the text tower encodes them. Row 0 is what guidance leads away from, the others are the p prompts."""

    embedding: Tensor
    """[1+p d], at least float32."""
    hidden: Tensor
    """[1+p n d], the states of the tokens, at least float32."""
    mask: Tensor
    """[1+p n], True where a token belongs to the prompt."""
    padded: bool
    """Whether there is padding. There is none if all prompts are empty; the mask is then all True."""
    negative: bool
    """Whether row 0 is a negative prompt; otherwise it is the empty prompt."""

    def rows(self, count: int, paired: bool) -> Tensor:
        """The row that each of `count` samples reads, equally many a prompt; paired, as many of row 0 first."""
        return rows_of(len(self.embedding) - 1, count, paired, self.embedding.device)

    def spread(self, count: int, paired: bool) -> "EncodedPrompts":
        """The rows for `count` samples: see `rows`."""
        rows = self.rows(count, paired)
        return self._mapped(lambda of: of[rows])

    def with_negative(self) -> "EncodedPrompts":
        """The same with row 0 inserted after each prompt, as a prompt of its own."""

        def rows(of: Tensor) -> Tensor:
            both = torch.stack([of[1:], of[:1].expand_as(of[1:])], dim=1)
            return torch.cat([of[:1], both.flatten(0, 1)])

        return self._mapped(rows)

    def _mapped(self, rows: Callable[[Tensor], Tensor]) -> "EncodedPrompts":
        return replace(self, embedding=rows(self.embedding), hidden=rows(self.hidden), mask=rows(self.mask))


def rows_of(prompts: int, count: int, paired: bool, device: torch.device) -> Tensor:
    """Which of 1 + `prompts` rows each of `count` samples reads: see `EncodedPrompts.rows`."""
    real = torch.arange(1, 1 + prompts, device=device).repeat_interleave(count // prompts)
    return pair(torch.zeros_like(real), real) if paired else real


def read(
    parts: Parts, tokenizer: ClipTokenizer, prompts: Sequence[str], negative: str, part: str = "text_encoder"
) -> EncodedPrompts:
    """Encode prompts with the tower in `part`, after the negative one, which may be "".

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
    # Not cut to the longest of several: then the rounding of a picture would depend on its neighbours.
    padded = any((negative, *prompts))
    most = mask.shape[1] if padded else sum(tokens[0].mask)
    hidden = states[:, 1 : 1 + most]
    return EncodedPrompts(
        embedding=states[:, 0], hidden=hidden, mask=mask[:, :most], negative=negative != "", padded=padded
    )


def check_tokens(parts: Parts, tokenizer: ClipTokenizer, part: str = "text_encoder") -> None:
    """Raise BadFolder if a tokenizer gives tokens that the text tower in `part` does not know, before it is loaded."""
    tower = parts.config(part, ClipTextConfig.from_config)
    if tokenizer.end >= tower.vocab_size or tokenizer.context > tower.max_position_embeddings:
        what = f"the tokenizer's vocabulary or context is larger than the {part}'s"
        raise BadFolder(what, str(parts.folder.path))
