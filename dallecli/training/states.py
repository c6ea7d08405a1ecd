"""Data as the frozen CLIP towers see them: text states of captions, embeddings of pictures."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dallecli.nets.clip import MEAN, STD, CLIPTextModel, CLIPVisionModel
from dallecli.training.batch import take


class BatchStates(NamedTuple):
    """The text states of a batch: `embedding` [b d], `hidden` [b n d], `mask` [b n], True on the prompt's tokens."""

    embedding: Tensor
    hidden: Tensor
    mask: Tensor


class Captions(Protocol):
    """The captions of all samples, as the prior and the decoder read them."""

    def states(self, samples: Tensor, drop: Tensor, trim: bool = False) -> BatchStates:
        """Return the states of `samples` [b], the empty caption's where `drop` [b] is True.

        With `trim`, token columns that are padding in the whole batch are left out.
        """


@dataclass(slots=True)
class CaptionTable:
    """Text states of m distinct captions, computed once.

    row: maps samples to rows, [n]; row 0 is the empty caption. embedding: [m d]. hidden: [m context w]. mask: True on
    the prompt's tokens, [m context].
    """

    row: Tensor
    embedding: Tensor
    hidden: Tensor
    mask: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return what it is made of, by name, as its constructor takes it."""
        return {"row": self.row, "embedding": self.embedding, "hidden": self.hidden, "mask": self.mask}

    def states(self, samples: Tensor, drop: Tensor, trim: bool = False) -> BatchStates:
        """Look the states up (see `Captions`)."""
        rows = torch.where(drop, 0, self.row[samples])
        mask = self.mask[rows]
        length = int(mask.sum(dim=1).max()) if trim else mask.shape[1]
        return BatchStates(self.embedding[rows], self.hidden[rows, :length].float(), mask[:, :length])


@dataclass(slots=True)
class CaptionsOnDemand:
    """Captions whose states are computed when they are asked for, because those of all would not fit into memory.

    ids: the token ids [n context] of the samples. empty: those [context] of the empty caption.
    """

    text_encoder: CLIPTextModel
    ids: Tensor
    empty: Tensor

    @torch.no_grad()
    def states(self, samples: Tensor, drop: Tensor, trim: bool = False) -> BatchStates:
        """Compute the states (see `Captions`)."""
        ids = torch.where(drop[:, None], self.empty, take(self.ids, samples))
        mask = prompt_mask(ids, int(self.empty.max()))
        length = int(mask.sum(dim=1).max()) if trim else mask.shape[1]
        states = self.text_encoder(ids[:, :length])
        return BatchStates(states.embedding.float(), states.hidden.float(), mask[:, :length])


def normalised(pictures: Tensor) -> Tensor:
    """Return CLIP's input [b 3 h w] from uint8 pictures [b 3 h w]."""
    mean = torch.tensor(MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(STD, device=pictures.device)[:, None, None]
    return (pictures.float() / 255 - mean) / std


def prompt_mask(ids: Tensor, end: int) -> Tensor:
    """Return which of the token ids [n context] belong to the prompt: all up to the first `end` token, [n context]."""
    length = ids.eq(end).int().argmax(dim=-1) + 1
    return torch.arange(ids.shape[1], device=ids.device)[None] < length[:, None]


@torch.no_grad()
def caption_states(text_encoder: CLIPTextModel, ids: Tensor, empty: Tensor) -> CaptionTable:
    """Return the states of captions with token ids [n context]; `empty` [context] are the empty caption's ids."""
    distinct, row = torch.unique(ids, dim=0, return_inverse=True)
    distinct = torch.cat([empty[None], distinct])
    embeddings, hiddens = [], []
    for part in torch.split(distinct, 512):
        states = text_encoder(part)
        embeddings.append(states.embedding)
        hiddens.append(states.hidden.half())
    mask = prompt_mask(distinct, int(empty.max()))
    return CaptionTable(row + 1, torch.cat(embeddings), torch.cat(hiddens), mask)


@torch.no_grad()
def picture_embeddings(image_encoder: CLIPVisionModel, pictures: Tensor) -> Tensor:
    """Return CLIP image embeddings [n d] of uint8 pictures [n 3 s s], which may lie elsewhere than the tower."""
    device = image_encoder.visual_projection.weight.device
    parts = torch.split(pictures, 512)
    return torch.cat([image_encoder(normalised(part.to(device))) for part in parts])
