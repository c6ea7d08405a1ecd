"""Training CLIP: the text of a picture and the picture of a text should find each other in a batch.

Radford et al. 2021, section 2.3. Equal captions in one batch are all right answers to each other: with a small
vocabulary a batch holds many.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's mean of RGB in [0, 1], written to `feature_extractor/preprocessor_config.json`."""
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's standard deviation of RGB in [0, 1]."""


class ClipTowers(nn.Module):
    """Both towers and the learned temperature; `logit_scale` is training state, no published part holds it."""

    def __init__(self, text: ClipTextConfig, vision: ClipVisionConfig) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(text)
        self.image_encoder = CLIPVisionModel(vision)
        self.logit_scale = nn.Parameter(torch.tensor(2.659))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)


def normalised(pictures: Tensor) -> Tensor:
    """Return CLIP's input [b 3 h w] from uint8 pictures [b 3 h w]."""
    mean = torch.tensor(MEAN, device=pictures.device)[:, None, None]
    std = torch.tensor(STD, device=pictures.device)[:, None, None]
    return (pictures.float() / 255 - mean) / std


@dataclass(slots=True)
class ClipData:
    """Pairs: uint8 pictures [n 3 s s] and the token ids [n context] of their captions."""

    pictures: Tensor
    ids: Tensor


class ClipObjective:
    """The symmetric contrastive loss over a batch."""

    name = "clip"

    def __init__(self, towers: ClipTowers, train: ClipData, held_out: ClipData) -> None:
        self.module = towers
        self.towers = towers
        self.train = train
        self.held_out = held_out

    def loss(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return the contrastive loss of a random batch."""
        device = self.train.pictures.device
        chosen = torch.randint(len(self.train.pictures), (batch,), generator=generator, device=device)
        ids = trimmed(self.train.ids[chosen])
        text = F.normalize(self.towers.text_encoder(ids).embedding.float(), dim=-1)
        image = F.normalize(self.towers.image_encoder(normalised(self.train.pictures[chosen])).float(), dim=-1)
        logits = self.towers.logit_scale.clamp(max=4.6).exp() * text @ image.T
        right = (ids[:, None] == ids[None]).all(dim=-1).float()
        right = right / right.sum(dim=-1, keepdim=True)
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the share of held-out pairs whose best match is right, among all of them, in both directions."""
        texts, images = [], []
        for start in range(0, len(self.held_out.ids), 256):
            part = slice(start, start + 256)
            texts.append(F.normalize(self.towers.text_encoder(self.held_out.ids[part]).embedding, dim=-1))
            images.append(F.normalize(self.towers.image_encoder(normalised(self.held_out.pictures[part])), dim=-1))
        scores = torch.cat(texts) @ torch.cat(images).T
        ids = self.held_out.ids
        same = (ids[:, None] == ids[None]).all(dim=-1)
        rows = torch.arange(len(ids), device=ids.device)
        return {
            "text_to_image": float(same[rows, scores.argmax(dim=1)].float().mean()),
            "image_to_text": float(same[rows, scores.argmax(dim=0)].float().mean()),
        }

    def samples(self) -> None:
        """There is nothing to see."""


def trimmed(ids: Tensor) -> Tensor:
    """Return `ids` [b n] without the columns that are padding in every row.

    The end token is the padding and the largest id; the text tower is causal and pools at its first one, so the
    embeddings are unchanged.
    """
    end = int(ids.max())
    longest = int(ids.eq(end).int().argmax(dim=-1).max())
    return ids[:, : longest + 1]


@torch.no_grad()
def rescale(towers: ClipTowers, data: ClipData) -> None:
    """Scale both projections so that embeddings have a root mean square of 1 a dimension.

    Cosines don't change; the networks that read the embeddings get inputs of a known size.
    """
    part = slice(0, 1024)
    text = towers.text_encoder(data.ids[part]).embedding
    image = towers.image_encoder(normalised(data.pictures[part]))
    towers.text_encoder.text_projection.weight /= text.square().mean().sqrt()
    towers.image_encoder.visual_projection.weight /= image.square().mean().sqrt()
