"""CLIP embeddings that know which CLIP they come from, and moves between them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """What CLIP says about a batch of pictures or texts: `vector` [b, d], not normalised, in the space of one CLIP.

    Numbers from two CLIPs mean different things even where there are equally many, so every function here that takes
    two embeddings raises ValueError when their spaces differ.
    """

    vector: Tensor
    space: str


def cosine(a: Embedding, b: Embedding) -> Tensor:
    """The cosine [b] of the angle between each pair of embeddings; a batch of one goes with all of the other."""
    _same_space(a, b)
    return torch.cosine_similarity(a.vector.float(), b.vector.float(), dim=-1)


def slerp(a: Embedding, b: Embedding, t: float) -> Embedding:
    """Move from `a` (t = 0) to `b` (t = 1) along the sphere, the length going evenly from one's to the other's.

    Raises ValueError where a pair points in opposite directions: every way round would be as good. Source: Shoemake
    1985, as Ramesh et al. 2022, section 3.2 use it.
    """
    _same_space(a, b)
    length_a, length_b = (e.vector.norm(dim=-1, keepdim=True) for e in (a, b))
    unit_a, unit_b = a.vector / length_a, b.vector / length_b
    # Half the angle from the lengths of sum and difference: acos of the dot product loses all digits of small angles.
    omega = 2 * torch.atan2((unit_a - unit_b).norm(dim=-1, keepdim=True), (unit_a + unit_b).norm(dim=-1, keepdim=True))
    if bool((omega > torch.pi - 1e-4).any()):
        raise ValueError("the embeddings point in opposite directions, so there is no shortest way between them")
    # sinc keeps sin(x omega) / sin(omega) = x sinc(x omega) / sinc(omega) true down to omega = 0.
    along_a, along_b = ((1 - t) * _sinc((1 - t) * omega), t * _sinc(t * omega))
    direction = (along_a * unit_a + along_b * unit_b) / _sinc(omega)
    return Embedding(vector=torch.lerp(length_a, length_b, t) * direction, space=a.space)


def _sinc(x: Tensor) -> Tensor:
    return torch.sinc(x / torch.pi)


def _same_space(a: Embedding, b: Embedding) -> None:
    if a.space != b.space:
        raise ValueError(f"an embedding of {a.space} can't be mixed with one of {b.space}")
