"""Training CLIP: the text of a picture and the picture of a text should find each other in a batch.

Radford et al. 2021, section 2.3, with two additions that make a decoder of few samples possible. The picture should be
readable from its embedding by a linear map: then the decoder learns to paint from an embedding in minutes, and what a
sentence looks like is left to the prior, whose steps are cheap. And the text's embedding should be close to
the picture's, not only closer than the others': it is where the prior starts from.

Equal captions in one batch are all right answers to each other: with a small vocabulary a batch holds many.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.training.batch import Draw, take

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's mean of RGB in [0, 1], written to `feature_extractor/preprocessor_config.json`."""
STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's standard deviation of RGB in [0, 1]."""


READ_SIZE = 16
"""The side in pixels at which pictures should be readable from their embeddings."""
READABLE, CLOSE = 30.0, 1.0
"""The weights of the two additions beside the contrastive loss."""


class ClipTowers(nn.Module):
    """Both towers, with training state that no published part holds: the temperature `logit_scale` and a `reader`."""

    def __init__(self, text: ClipTextConfig, vision: ClipVisionConfig) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(text)
        self.image_encoder = CLIPVisionModel(vision)
        self.reader = nn.Linear(vision.projection_dim, 3 * READ_SIZE**2)
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
    """The symmetric contrastive loss over a batch, with readable and close embeddings."""

    name = "clip"

    def __init__(
        self,
        towers: ClipTowers,
        train: ClipData,
        held_out: ClipData,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> None:
        """Train on `train`, validate on `held_out`.

        `gather` returns the rows of all processes that share a batch, behind one another: what is right in a batch
        depends on all of it.
        """
        seed_patches(towers.image_encoder, train.pictures[:4096])
        self.module = towers
        self.towers = towers
        self.train = train
        self.held_out = held_out
        self.gather = gather

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of a random batch."""
        chosen = draw.integers(len(self.train.pictures))
        pictures, ids = take(self.train.pictures, chosen), take(self.train.ids, chosen)
        texts = self.gather(self.towers.text_encoder(trimmed(ids)).embedding.float())
        images = self.gather(self.towers.image_encoder(normalised(pictures)).float())
        pictures, ids = self.gather(pictures), trimmed(self.gather(ids))
        close = F.mse_loss(texts, images.detach()) / images.detach().var()
        loss: Tensor = self._contrast(texts, images, ids) + READABLE * self._misread(images, pictures) + CLOSE * close
        return loss

    def _misread(self, images: Tensor, pictures: Tensor) -> Tensor:
        """The mean-squared error, in units of [-1, 1] pixels, of reading pictures from their embeddings."""
        small = F.adaptive_avg_pool2d(pictures.float(), READ_SIZE) / 127.5 - 1
        return F.mse_loss(self.towers.reader(images).float(), small.flatten(1))

    def _contrast(self, texts: Tensor, images: Tensor, ids: Tensor) -> Tensor:
        scale = self.towers.logit_scale.clamp(max=4.6).exp()
        logits = scale * F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T
        right = same_caption(ids).float()
        right = right / right.sum(dim=-1, keepdim=True)
        loss: Tensor = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the share of held-out pairs whose best match is right, among all of them, in both directions.

        Beside it stands the error of reading the pictures from their embeddings, and of the text's embeddings
        against the pictures' (1.0 is knowing nothing).
        """
        texts, images = [], []
        for start in range(0, len(self.held_out.ids), 256):
            part = slice(start, start + 256)
            texts.append(self.towers.text_encoder(self.held_out.ids[part]).embedding)
            images.append(self.towers.image_encoder(normalised(self.held_out.pictures[part])))
        text, image = torch.cat(texts), torch.cat(images)
        scores = F.normalize(text, dim=-1) @ F.normalize(image, dim=-1).T
        same = same_caption(self.held_out.ids)
        return {
            "text_to_image": recall(scores, same, 1),
            "image_to_text": recall(scores.T, same, 1),
            "misread": float(self._misread(image, self.held_out.pictures)),
            "apart": float(F.mse_loss(text, image) / image.var()),
        }

    def samples(self) -> None:
        """There is nothing to see."""


def same_caption(ids: Tensor) -> Tensor:
    """Return whether two of the captions `ids` [n context] are one and the same, [n n]."""
    return (ids[:, None] == ids[None]).all(dim=-1)


def recall(scores: Tensor, right: Tensor, first: int) -> float:
    """Return the share of rows of `scores` [n m] with a `right` one [n m] among their `first` highest."""
    best = scores.topk(first, dim=1).indices
    return float(right.gather(1, best).any(dim=1).float().mean())


def trimmed(ids: Tensor) -> Tensor:
    """Return `ids` [b n] without the columns that are padding in every row.

    The end token is the padding and the largest id; the text tower is causal and pools at its first one, so the
    embeddings are unchanged.
    """
    end = int(ids.max())
    longest = int(ids.eq(end).int().argmax(dim=-1).max())
    return ids[:, : longest + 1]


@torch.no_grad()
def seed_patches(image_encoder: CLIPVisionModel, pictures: Tensor) -> None:
    """Set the patch embedding to the principal components of `pictures`' patches, half whitened.

    From random weights, most of a run is spent on finding the few directions in which pictures differ. Half whitening
    (the fourth root of the variance is divided out) lets details be heard beside the large areas without drowning them.
    """
    weight = image_encoder.vision_model.embeddings.patch_embedding.weight
    size = weight.shape[-1]
    patches = F.unfold(normalised(pictures), size, stride=size).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(dim=0)
    variance, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    kept = min(len(weight), len(variance))
    variance, directions = variance.flip(0)[:kept].clamp(min=1e-6), directions.flip(1)[:, :kept]
    components = (directions / variance**0.25).T
    components /= (components @ patches.T).std()
    weight[:kept] = components.unflatten(1, weight.shape[1:])


@torch.no_grad()
def rescale(towers: ClipTowers, data: ClipData) -> None:
    """Scale both projections alike, so that image embeddings have a root mean square of 1 a dimension.

    Cosines don't change; the networks that read the embeddings get inputs of a known size.
    """
    part = slice(0, 1024)
    size = towers.image_encoder(normalised(data.pictures[part])).square().mean().sqrt()
    towers.text_encoder.text_projection.weight /= size
    towers.image_encoder.visual_projection.weight /= size
    towers.reader.weight *= size
