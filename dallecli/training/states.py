"""What the frozen CLIP towers say about a pool, computed once: text states of captions, embeddings of pictures."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from dallecli.nets.clip import CLIPTextModel, CLIPVisionModel
from dallecli.training.clip import normalised


class BatchStates(NamedTuple):
    """The text states of a batch: `embedding` [b d], `hidden` [b n d], `mask` [b n], True on the prompt's tokens."""

    embedding: Tensor
    hidden: Tensor
    mask: Tensor


@dataclass(slots=True)
class Captions:
    """Text states of a pool's distinct captions; row 0 is the empty caption, `row` [n] maps samples to rows."""

    row: Tensor
    embedding: Tensor
    hidden: Tensor
    mask: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return what it is made of, by name, as its constructor takes it."""
        return {"row": self.row, "embedding": self.embedding, "hidden": self.hidden, "mask": self.mask}

    def states(self, samples: Tensor, drop: Tensor, trim: bool = False) -> BatchStates:
        """Return the states of `samples` [b], the empty caption's where `drop` [b] is True.

        With `trim`, token columns that are padding in the whole batch are left out.
        """
        rows = torch.where(drop, 0, self.row[samples])
        mask = self.mask[rows]
        length = int(mask.sum(dim=1).max()) if trim else mask.shape[1]
        return BatchStates(self.embedding[rows], self.hidden[rows, :length].float(), mask[:, :length])


@torch.no_grad()
def caption_states(text_encoder: CLIPTextModel, ids: Tensor, empty: Tensor) -> Captions:
    """Return the states of captions with token ids [n context]; `empty` [context] are the empty caption's ids."""
    distinct, row = torch.unique(ids, dim=0, return_inverse=True)
    distinct = torch.cat([empty[None], distinct])
    embeddings, hiddens = [], []
    for part in torch.split(distinct, 512):
        states = text_encoder(part)
        embeddings.append(states.embedding)
        hiddens.append(states.hidden.half())
    end = int(empty.max())
    length = distinct.eq(end).int().argmax(dim=-1) + 1
    mask = torch.arange(ids.shape[1], device=ids.device)[None] < length[:, None]
    return Captions(row + 1, torch.cat(embeddings), torch.cat(hiddens), mask)


@torch.no_grad()
def picture_embeddings(image_encoder: CLIPVisionModel, pictures: Tensor) -> Tensor:
    """Return CLIP image embeddings [n d] of uint8 pictures [n 3 s s]."""
    return torch.cat([image_encoder(normalised(part)) for part in torch.split(pictures, 512)])
