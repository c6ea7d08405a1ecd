"""What the trained CLIP says about a dataset, which the prior and the decoder learn from: computed once, and kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from dallecli.nets.clip import CLIPTextModel, CLIPVisionModel
from dallecli.training.dataset import Dataset
from dallecli.training.machine import Machine
from dallecli.training.model_folder import write_file
from dallecli.training.states import Captions, CaptionsOnDemand, CaptionTable, caption_states, picture_embeddings

LARGEST_TABLE: Final = 2**31
"""Bytes that the text states of all captions may take; more are computed when they are asked for."""


@dataclass(frozen=True, slots=True)
class FrozenClip:
    """CLIP's towers as the other stages see them, and the file that their weights were read from."""

    text_encoder: CLIPTextModel
    image_encoder: CLIPVisionModel
    source: Path


class Conditions(NamedTuple):
    """CLIP's image embeddings [n d] of a dataset's pictures, and the states of its captions."""

    images: Tensor
    captions: Captions


def deviations(embeddings: Tensor) -> Tensor:
    """The standard deviation [d] of two embeddings or more, [n d], by number; to divide by: not 0 if they are equal."""
    rms = embeddings.square().mean().sqrt()
    return embeddings.std(dim=0).clamp(min=1e-3 * rms)


def conditions_of(clip: FrozenClip, dataset: Dataset, file: Path, machine: Machine) -> Conditions:
    """Return what CLIP says about a dataset, from `file` where it holds that of this CLIP and these data."""
    stamps = [path.stat() for path in (clip.source, *dataset.files)]
    stamp = " ".join(f"{status.st_size} {status.st_mtime_ns}" for status in stamps)
    if machine.team.first and not _is_stamped(file, stamp):
        write_file(file, save(_computed(clip, dataset), {"stamp": stamp}))
    machine.team.wait()
    kept = load_file(file)
    images = machine.hold(kept.pop("images"))
    if kept:
        return Conditions(images, CaptionTable(**{name: tensor.to(machine.device) for name, tensor in kept.items()}))
    return Conditions(images, CaptionsOnDemand(clip.text_encoder, dataset.ids, dataset.empty))


def _computed(clip: FrozenClip, dataset: Dataset) -> dict[str, Tensor]:
    parts = dataset.clip_pictures(clip.image_encoder.config.image_size)
    tensors = {"images": torch.cat([picture_embeddings(clip.image_encoder, part) for part in parts]).cpu()}
    distinct, context = len(torch.unique(dataset.ids, dim=0)) + 1, dataset.ids.shape[1]
    if 2 * distinct * context * clip.text_encoder.config.hidden_size <= LARGEST_TABLE:
        table = caption_states(clip.text_encoder, dataset.ids, dataset.empty)
        tensors |= {name: tensor.cpu() for name, tensor in table.tensors().items()}
    return tensors


def _is_stamped(file: Path, stamp: str) -> bool:
    if not file.exists():
        return False
    with safe_open(file, framework="pt") as opened:
        kept: dict[str, str] | None = opened.metadata()
    return kept is not None and kept.get("stamp") == stamp
