"""CLIP embeddings that know which CLIP they come from, and interpolation between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from dallecli.errors import BadEmbedding

ITERATIONS: Final = 16
"""Of `blend`. Ends within a right angle of each other need five until the last digit is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """CLIP's embeddings of a batch of pictures or texts.

    Numbers from two CLIPs mean different things even if there are equally many. So every function here that takes two
    embeddings raises ValueError if their spaces differ.
    """

    vector: Tensor
    """[b d], not normalised."""
    space: str
    """The name of the CLIP."""
    away: Tensor | None = None
    """[b d], what guidance leads away from when the embedding is painted, if there was a negative prompt; None is what
    the model uses for "no picture". A mixture of several embeddings has none."""

    def on_cpu(self) -> "Embedding":
        """The same in main memory, where embeddings from files are; without `away`."""
        return Embedding(vector=self.vector.cpu(), space=self.space)

    def row(self, row: int) -> "Embedding":
        """One embedding [1 d] of the batch, without `away`."""
        return Embedding(vector=self.vector[row : row + 1], space=self.space)

    def repeated(self, count: int) -> "Embedding":
        """A single embedding for each of `count` pictures [count d], without `away`."""
        return Embedding(vector=self.vector.expand(count, -1), space=self.space)


def stacked(rows: Sequence[Embedding]) -> Embedding:
    """Several batches of one space as one batch, without `away`."""
    return Embedding(vector=torch.cat([row.vector for row in rows]), space=rows[0].space)


def check_space(embedding: Embedding, space: str) -> None:
    """Raise ValueError if the embedding is not in `space`, in which a model works."""
    if embedding.space != space:
        raise ValueError(f"this model decodes embeddings of {space}, not of {embedding.space}")


def cosine(a: Embedding, b: Embedding) -> Tensor:
    """The cosine [b] of the angle between each pair of embeddings; a batch of one is paired with all of the other."""
    _same_space(a, b)
    return torch.cosine_similarity(a.vector.float(), b.vector.float(), dim=-1)


def slerp(a: Embedding, b: Embedding, t: float) -> Embedding:
    """Move from `a` (t = 0) to `b` (t = 1) along the sphere; lengths are interpolated linearly.

    Raises BadEmbedding where a pair points in opposite directions, since there is no shortest arc. Source: Shoemake
    1985, as used by Ramesh et al. 2022, section 3.2.
    """
    _same_space(a, b)
    return Embedding(vector=slerp_rows(a.vector, b.vector, t), space=a.space)


def slerp_rows(a: Tensor, b: Tensor, t: float) -> Tensor:
    """`slerp` for the rows of two tensors [b ...]: of embeddings, or of the noise x_T."""
    shape, a, b = a.shape, a.flatten(1), b.flatten(1)
    length_a, length_b = (rows.norm(dim=-1, keepdim=True) for rows in (a, b))
    unit_a, unit_b = a / length_a, b / length_b
    omega = _angle(unit_a, unit_b)
    if bool((omega > torch.pi - 1e-4).any()):
        raise BadEmbedding("the ends point in opposite directions, so there is no shortest way between them")
    # sinc keeps sin(x omega) / sin(omega) = x sinc(x omega) / sinc(omega) true down to omega = 0.
    along_a, along_b = ((1 - t) * _sinc((1 - t) * omega), t * _sinc(t * omega))
    direction = (along_a * unit_a + along_b * unit_b) / _sinc(omega)
    moved: Tensor = torch.lerp(length_a, length_b, t) * direction
    return moved.view(shape)


def blend(ends: Sequence[Embedding], weights: Sequence[float]) -> Embedding:
    """The weighted mean of any number of embeddings on the sphere; of two it is their `slerp`.

    It is the direction from which the weighted arcs to all ends cancel out (Buss & Fillmore 2001, algorithm A1), with
    the weighted mean of their lengths. `weights` are 0 or more, and their sum is 1. Raises BadEmbedding where the ends
    cancel each other out.
    """
    for end in ends[1:]:
        _same_space(ends[0], end)
    vectors = torch.stack([end.vector for end in ends])
    shares = torch.tensor(weights, dtype=vectors.dtype, device=vectors.device)[:, None, None]
    lengths = vectors.norm(dim=-1, keepdim=True)
    units = vectors / lengths
    mean = (shares * units).sum(dim=0)
    if bool((mean.norm(dim=-1) < 1e-4).any()):
        raise BadEmbedding("the ends cancel each other out, so there is no middle between them")
    mean = mean / mean.norm(dim=-1, keepdim=True)
    for _ in range(ITERATIONS):
        move = (shares * _ways(mean, units)).sum(dim=0)
        angle = move.norm(dim=-1, keepdim=True)
        mean = angle.cos() * mean + _sinc(angle) * move
    return Embedding(vector=(shares * lengths).sum(dim=0) * mean, space=ends[0].space)


def turned(embedding: Embedding, before: Embedding, after: Embedding, strength: float) -> Embedding:
    """Rotate an image embedding towards the difference of two texts, by a share of the angle; 0 does nothing.

    A text diff (Ramesh et al. 2022, section 3.3): `slerp` towards the normalised difference of the texts' embeddings.
    The length stays. Raises BadEmbedding if the texts mean the same.
    """
    _same_space(embedding, before)
    _same_space(embedding, after)
    unit_before, unit_after = (e.vector / e.vector.norm(dim=-1, keepdim=True) for e in (before, after))
    difference = unit_after - unit_before
    size = difference.norm(dim=-1, keepdim=True)
    if bool((size < 1e-4).any()):
        raise BadEmbedding("both sentences mean the same to this model, so there is no difference to follow")
    length = embedding.vector.norm(dim=-1, keepdim=True)
    towards = (length * difference / size).expand_as(embedding.vector)
    return slerp(embedding, Embedding(vector=towards, space=embedding.space), strength)


def _ways(start: Tensor, ends: Tensor) -> Tensor:
    """The arcs from a unit vector to others, as tangents at `start` with the length of the angle."""
    across = ends - (start * ends).sum(dim=-1, keepdim=True) * start
    return across / _sinc(_angle(start, ends))


def _angle(unit_a: Tensor, unit_b: Tensor) -> Tensor:
    # Half the angle from the lengths of sum and difference: acos of the dot product loses all digits of small angles.
    return 2 * torch.atan2((unit_a - unit_b).norm(dim=-1, keepdim=True), (unit_a + unit_b).norm(dim=-1, keepdim=True))


def _sinc(x: Tensor) -> Tensor:
    return torch.sinc(x / torch.pi)


def _same_space(a: Embedding, b: Embedding) -> None:
    if a.space != b.space:
        raise ValueError(f"an embedding of {a.space} can't be mixed with one of {b.space}")
