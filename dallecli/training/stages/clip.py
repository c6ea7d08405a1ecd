"""The stage that trains CLIP: the text of a picture and the picture of a text should find each other in a batch.

Radford et al. 2021, section 2.3, with two additions that make a decoder of few samples possible. The picture should be
readable from its embedding by a linear map: then the decoder learns to paint from an embedding in minutes, and what a
sentence looks like is left to the prior, whose steps are cheap. And the text's embedding should be close to
the picture's, not only closer than the others': it is where the prior starts from.

Equal captions in one batch are all right answers to each other: with a small vocabulary a batch holds many.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.clip import ClipAttention, ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.training.batch import Draw, take
from dallecli.training.linear import ridge
from dallecli.training.loop import TrainingRun
from dallecli.training.model_folder import feature_extractor
from dallecli.training.stages.stage import Material
from dallecli.training.states import normalised, picture_embeddings

READ_SIZE = 16
"""The side in pixels at which pictures should be readable from their embeddings, if the tower sees them in patches."""
READABLE, CLOSE = 30.0, 1.0
"""The weights of the two additions beside the contrastive loss."""
LOCKED_CLOSE, KEPT = 4.0, 0.1
"""The weights of closeness, and of leaving the states of tokens what they were, where the image tower is locked."""
FITTED_ON, SCALED_ON = 4096, 1024
"""Pictures on which patches and reader are fitted, and on which the size of embeddings is measured, at most."""


BESIDE, FAINT = 2.0, 0.1
"""How large the constant is beside a picture of size 1, and how much is left of a fresh block (`pass_through`)."""


class ClipTowers(nn.Module):
    """Both towers, with training state that no published part holds: the temperature `logit_scale` and a `reader`."""

    def __init__(self, text: ClipTextConfig, vision: ClipVisionConfig) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(text)
        self.image_encoder = CLIPVisionModel(vision)
        # A tower that sees a picture in one patch sees as much as a linear map can read.
        self.read_size = vision.image_size if vision.patch_size == vision.image_size else READ_SIZE
        self.reader = nn.Linear(vision.projection_dim, 3 * self.read_size**2)
        self.logit_scale = nn.Parameter(torch.tensor(2.659))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)


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
        seed(towers, train.pictures[:FITTED_ON])
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
        contrast = contrastive(texts, images, ids, self.towers.logit_scale)
        loss: Tensor = contrast + READABLE * self._misread(images, pictures) + CLOSE * close
        return loss

    def _misread(self, images: Tensor, pictures: Tensor) -> Tensor:
        """The mean-squared error, in units of [-1, 1] pixels, of reading pictures from their embeddings."""
        small = F.adaptive_avg_pool2d(pictures.float(), self.towers.read_size) / 127.5 - 1
        return F.mse_loss(self.towers.reader(images).float(), small.flatten(1))

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


class LockedClipObjective(ClipObjective):
    """The text tower alone learns, against an image tower that stays what it is (Zhai et al. 2022).

    What has learned from the embeddings of pictures can still read them. The states of a caption's tokens should stay
    close to what they were: prior and decoder read those too.
    """

    def __init__(
        self,
        towers: ClipTowers,
        before: ClipTowers,
        train: ClipData,
        held_out: ClipData,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> None:
        """Train on `train`, validate on `held_out`; `before` are the towers that training starts from."""
        super().__init__(towers, train, held_out, gather)
        towers.image_encoder.requires_grad_(False)
        towers.reader.requires_grad_(False)
        self.before = before
        self.images = picture_embeddings(before.image_encoder, train.pictures)
        self.spread = self.images.var()

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of a random batch."""
        chosen = draw.integers(len(self.images))
        ids = take(self.train.ids, chosen)
        own = trimmed(ids)
        states = self.towers.text_encoder(own)
        texts, images = self.gather(states.embedding.float()), self.gather(take(self.images, chosen))
        with torch.no_grad():
            hidden = self.before.text_encoder(own).hidden
        kept = F.mse_loss(states.hidden, hidden) / hidden.var()
        close = F.mse_loss(texts, images) / self.spread
        contrast = contrastive(texts, images, trimmed(self.gather(ids)), self.towers.logit_scale)
        loss: Tensor = contrast + LOCKED_CLOSE * close + KEPT * kept
        return loss


def contrastive(texts: Tensor, images: Tensor, ids: Tensor, logit_scale: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of finding the pictures [n d] of texts [n d] with token ids [n c]."""
    scale = logit_scale.clamp(max=4.6).exp()
    logits = scale * F.normalize(texts, dim=-1) @ F.normalize(images, dim=-1).T
    right = same_caption(ids).float()
    right = right / right.sum(dim=-1, keepdim=True)
    loss: Tensor = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    return loss


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


def seed(towers: ClipTowers, pictures: Tensor) -> None:
    """Begin with what `pictures` say alone: their principal components, and how one patch of them is read."""
    image_encoder = towers.image_encoder
    one = image_encoder.config.image_size == image_encoder.config.patch_size
    if seed_patches(image_encoder, pictures) and one:
        pictures = pictures.to(towers.reader.weight.device)
        pass_through(image_encoder, pictures[:SCALED_ON])
        fit_reader(towers, pictures)


@torch.no_grad()
def seed_patches(image_encoder: CLIPVisionModel, pictures: Tensor) -> bool:
    """Set the patch embedding to the principal components of `pictures`' patches, half whitened, unless all are alike.

    Returns whether it was set.

    From random weights, most of a run is spent on finding the few directions in which pictures differ. Half whitening
    (the fourth root of the variance is divided out) lets details be heard beside the large areas without drowning them.
    """
    weight = image_encoder.vision_model.embeddings.patch_embedding.weight
    size = weight.shape[-1]
    patches = F.unfold(normalised(pictures), size, stride=size).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(dim=0)
    variance, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    if variance.max() < 1e-6:  # all patches are alike, and their directions mean nothing
        return False
    kept = min(len(weight), len(variance))
    variance, directions = variance.flip(0)[:kept].clamp(min=1e-6), directions.flip(1)[:, :kept]
    components = (directions / variance**0.25).T
    components /= (components @ patches.T).std()
    weight[:kept] = components.unflatten(1, weight.shape[1:])
    return True


@torch.no_grad()
def pass_through(image_encoder: CLIPVisionModel, pictures: Tensor) -> None:
    """Let the embeddings of `pictures` be their one patch's principal components, all but exactly.

    A fresh tower mixes what it is told at random, and norms take away how much of it there was: what a linear map reads
    from the components, it does not read behind them, and hours of training hardly mend that. Here the patch's position
    is a constant beside which a picture is small, so that norms are all but linear; the first block adds the patch to
    the class token as it is; and the others begin as a tenth of themselves.
    """
    vision = image_encoder.vision_model
    width = len(vision.embeddings.class_embedding)
    constant = torch.ones(width).index_fill(0, torch.randperm(width)[: width // 2], -1.0)
    vision.embeddings.position_embedding.weight.copy_(torch.stack([torch.zeros(width), BESIDE * constant]))
    nn.init.normal_(vision.embeddings.class_embedding)
    for name, weight in vision.encoder.named_parameters():
        if name.endswith(("q_proj.weight", "out_proj.weight", "fc2.weight")):
            weight.mul_(FAINT)
    first = vision.encoder.layers[0].get_submodule("self_attn")
    assert isinstance(first, ClipAttention)  # for the type checker
    for part in (first.v_proj, first.out_proj):
        nn.init.eye_(part.weight)
        nn.init.zeros_(part.bias)
    states = vision(normalised(pictures))
    mean = states.mean(dim=0)
    vision.post_layernorm.bias.sub_(mean)
    nn.init.eye_(image_encoder.visual_projection.weight)
    image_encoder.visual_projection.weight /= (states - mean).std().clamp(min=1e-3)


@torch.no_grad()
def rescale(towers: ClipTowers, pictures: Tensor) -> None:
    """Scale both projections alike, so that the embeddings of `pictures` have a root mean square of 1 a dimension.

    Cosines don't change; the networks that read the embeddings get inputs of a known size.
    """
    size = towers.image_encoder(normalised(pictures)).square().mean().sqrt()
    towers.text_encoder.text_projection.weight /= size
    towers.image_encoder.visual_projection.weight /= size
    towers.reader.weight *= size


@torch.no_grad()
def fit_reader(towers: ClipTowers, pictures: Tensor) -> None:
    """Set the reader to the ridge regression of small pictures on their embeddings.

    Towers that are trained already should not be pulled about by a reader that knows nothing.
    """
    small = F.adaptive_avg_pool2d(pictures.float(), towers.read_size).flatten(1) / 127.5 - 1
    read = ridge(picture_embeddings(towers.image_encoder, pictures), small)
    towers.reader.weight.copy_(read.weight)
    towers.reader.bias.copy_(read.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipStage:
    """CLIP from the configs of its towers.

    vocab_size: returns the size of the tokenizer, where `text_encoder` does not say it. own_space: whether its
    embeddings are a space of their own, which is rescaled and whose preprocessing is written; False where the networks
    of another model read them. locked: whether the image tower stays that of the model that training starts from, and
    the text tower learns alone.
    """

    name: ClassVar[str] = "clip"
    seed: ClassVar[int] = 1
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    text_encoder: dict[str, Any]
    image_encoder: dict[str, Any]
    vocab_size: Callable[[], int] | None = None
    own_space: bool = True
    locked: bool = False

    @property
    def image_size(self) -> int:
        """The side in pixels of what the image tower sees."""
        return ClipVisionConfig.from_config(self.image_encoder).image_size

    @property
    def _text_config(self) -> dict[str, Any]:
        """The text tower's config; of the tokens, start and end are the last two."""
        if self.vocab_size is None:
            return self.text_encoder
        end = self.vocab_size() - 1
        ends = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
        return {**self.text_encoder, "vocab_size": end + 1, **ends}

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The towers, and how a picture becomes the image tower's input."""
        towers = {"text_encoder": self._text_config, "image_encoder": self.image_encoder}
        return {"feature_extractor": feature_extractor(self.image_size), **towers} if self.own_space else towers

    def fresh(self) -> ClipTowers:
        """Return both towers with fresh weights."""
        text = ClipTextConfig.from_config(self._text_config)
        return ClipTowers(text, ClipVisionConfig.from_config(self.image_encoder))

    def networks(self, module: ClipTowers) -> dict[str, nn.Module]:
        """Return the towers; what else is trained is not part of a model."""
        return {"text_encoder": module.text_encoder, "image_encoder": module.image_encoder}

    def objective(self, module: ClipTowers, material: Material) -> ClipObjective:
        """Return what both towers minimise together."""
        dataset, last = material.dataset, material.dataset.held_out
        pictures = torch.cat(dataset.clip_pictures(self.image_size))
        train = ClipData(pictures[:-last], dataset.ids[:-last])
        held_out = ClipData(pictures[-last:].to(dataset.ids.device), dataset.ids[-last:])
        if not self.locked:
            return ClipObjective(module, train, held_out, material.team.gather)
        before = material.before(self.name)
        assert isinstance(before, ClipTowers)  # for the type checker: `Workshop` locks no tower that it does not have
        return LockedClipObjective(module, before, train, held_out, material.team.gather)

    def adapt(self, module: ClipTowers, material: Material) -> None:
        """Fit the reader."""
        pictures = torch.cat(material.dataset.clip_pictures(self.image_size))[: -material.dataset.held_out]
        fit_reader(module, pictures[:FITTED_ON].to(module.reader.weight.device))

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Rescale the averaged weights, where no network of another model reads the embeddings."""
        if self.own_space and not self.locked:
            towers, pictures = run.objective.module, material.dataset.clip_pictures(self.image_size)[0]
            assert isinstance(towers, ClipTowers)  # for the type checker: that is what `fresh` makes
            run.settle(lambda: rescale(towers, pictures[:SCALED_ON].to(run.device)))
