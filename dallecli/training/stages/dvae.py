"""The stage that trains a discrete autoencoder of DALL·E 1's kind: pictures to codes and back.

Squeezed pixels, the logit-Laplace distribution and what a decoder is are those of Ramesh et al. 2021 (section 2.1 and
appendix A). How codes come to be is not: the paper's Gumbel-softmax relaxation takes millions of steps, and in a short
training it forgets its codes before a decoder can read them (docs/decisions/starter-1.md). Here codes are those of
classical vector quantisation: the means of k-means among the patches of pictures, told by their principal components.
The encoder chooses the nearest one, and only the decoder is trained: it paints a patch by its code and those around it.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.dvae import CHANNELS, Codebook, Convolution, DvaeConfig, DvaeDecoder, DvaeEncoder, squeeze, unsqueeze
from dallecli.training.batch import Draw, take
from dallecli.training.dataset import Examples
from dallecli.training.loop import TrainingRun
from dallecli.training.stages.stage import Material

SHOWN: Final = 16
"""Held-out pictures on a sheet, each before its reconstruction."""
VALIDATED: Final = 256
"""Held-out pictures that are measured."""
MEASURED: Final = 2048
"""Pictures among whose patches the codes are found."""
ROUNDS: Final = 12
"""Rounds of k-means; the codes hardly move any more then."""
BEGINS: Final = 0.1
"""The scale of a number that the decoder claims at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeLesson:
    """How the decoder is taught.

    least_scale: the narrowest scale that it may claim, so that large plain areas do not outweigh all else.
    """

    least_scale: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.least_scale < math.inf:
            raise ValueError(f"least_scale is {self.least_scale}, expected a number from 0 on")


class DvaeParts(nn.Module):
    """The encoder and the decoder."""

    def __init__(self, encoder: DvaeConfig, decoder: DvaeConfig) -> None:
        super().__init__()
        self.encoder = DvaeEncoder(encoder)
        self.decoder = DvaeDecoder(decoder)

    @property
    def table(self) -> Codebook:
        """The decoder's first layer, in which codes are looked up."""
        return cast(Codebook, self.decoder.blocks.input)

    @torch.no_grad()
    def codes(self, pictures: Tensor) -> Tensor:
        """Return the codes [b h w] of pictures, uint8 [b 3 s s]."""
        logits: Tensor = self.encoder(squeeze(pictures.float() / 255))
        return logits.argmax(dim=1)


class DvaeObjective:
    """Nats of a pixel's number, told by the codes of its picture."""

    name = "dvae"

    def __init__(self, parts: DvaeParts, examples: Examples, lesson: DvaeLesson) -> None:
        """Train the decoder on pictures but for the held-out ones; what it reads stays, whatever it learns."""
        self.module = parts
        self.parts = parts
        self.pictures = examples.pictures
        self.count = len(examples.pictures) - examples.held_out
        self.lesson = lesson
        parts.encoder.requires_grad_(False)

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of random pictures."""
        pictures = take(self.pictures, draw.integers(self.count))
        stats = self.parts.decoder(self.parts.codes(pictures))
        return logit_laplace(stats, squeeze(pictures.float() / 255), self.lesson.least_scale).mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return, of held-out pictures: nats a number, the mean error in levels of 255, and how many codes are used.

        The perplexity counts rare codes less.
        """
        pictures = self._held_out(VALIDATED)
        codes = self.parts.codes(pictures)
        stats, truth = self.parts.decoder(codes), pictures.float() / 255
        shares = torch.bincount(codes.flatten()).float() / codes.numel()
        shares = shares[shares > 0]
        return {
            "held_out": float(logit_laplace(stats, squeeze(truth), self.lesson.least_scale).mean()),
            "levels": float((_levels(stats) - truth).abs().mean() * 255),
            "codes": float(len(shares)),
            "perplexity": float(torch.exp(-(shares * shares.log()).sum())),
        }

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Return held-out pictures, each before its reconstruction."""
        pictures = self._held_out(SHOWN)
        painted = _levels(self.parts.decoder(self.parts.codes(pictures))) * 2 - 1
        return torch.stack([pictures.float() / 127.5 - 1, painted], dim=1).flatten(0, 1)

    def _held_out(self, count: int) -> Tensor:
        rows = torch.arange(self.count, len(self.pictures), device=self.parts.table.w.device)
        return take(self.pictures, rows[:count])


def _levels(stats: Tensor) -> Tensor:
    """The levels in [0, 1] that a decoder means."""
    return unsqueeze(stats[:, :CHANNELS].sigmoid())


@torch.no_grad()
def begin_codes(parts: DvaeParts, pictures: Tensor) -> None:
    """Set the encoder, and where the decoder begins, by the patches of some pictures, uint8 [n 3 s s].

    The encoder then gives a patch the code of the nearest mean, in the space of the first principal components: the
    square of a distance is linear in the patch, but for a term that all codes have in common. The decoder begins as
    that mean. Both networks have a ReLU before their last layer, which passes a number in two halves, of either sign.
    """
    input_, output = cast(Convolution, parts.encoder.blocks.input), _last(parts.encoder.blocks)
    table, first, painted = parts.table, _first_path(parts.decoder), _last(parts.decoder.blocks)
    count = len(table.w)
    patches = F.pixel_unshuffle(squeeze(pictures.float() / 255), parts.encoder.patch).permute(0, 2, 3, 1).flatten(0, 2)
    mean = patches.mean(dim=0)
    components = torch.linalg.eigh((patches - mean).T @ (patches - mean)).eigenvectors.flip(1)[:, :count]
    told = (patches - mean) @ components
    size = told.std()
    means = k_means(told / size, len(output.w), ROUNDS)
    halves = torch.cat([components, -components], dim=1).T / size
    _set(input_, halves, -halves @ mean)
    _set(output, torch.cat([2 * means, -2 * means], dim=1), -means.square().sum(dim=1))
    table.w.copy_(means.T[:, :, None, None])
    eye = torch.eye(count, device=means.device)
    _set(first, torch.cat([eye, -eye]), torch.zeros(2 * count, device=means.device))
    numbers = len(painted.w) // 2
    back = torch.cat([components, -components], dim=1) * size / (mean * (1 - mean))[:, None]
    scales = torch.full((numbers,), math.log(BEGINS), device=means.device)
    _set(painted, F.pad(back, (0, 0, 0, numbers)), torch.cat([torch.logit(mean), scales]))


def _last(blocks: nn.Sequential) -> Convolution:
    return cast(Convolution, cast(nn.Sequential, blocks.output).conv)


def _first_path(decoder: DvaeDecoder) -> Convolution:
    """The layer that widens what a code stands for."""
    return cast(Convolution, decoder.blocks[1][0].id_path)  # type: ignore[index]


def _set(layer: Convolution, weight: Tensor, bias: Tensor) -> None:
    """Give a 1x1 convolution the weights [out in] of its first channels, and the others none. Raises ValueError."""
    out, channels = weight.shape
    if out > layer.w.shape[0] or channels > layer.w.shape[1]:
        raise ValueError(f"a layer of {layer.w.shape[1]} to {layer.w.shape[0]} channels needs {channels} to {out}")
    nn.init.zeros_(layer.w)
    nn.init.zeros_(layer.b)
    layer.w[:out, :channels, 0, 0] = weight
    layer.b[:out] = bias


def k_means(points: Tensor, count: int, rounds: int) -> Tensor:
    """Return `count` means of points [n d], found by Lloyd's algorithm from a start that is spread out.

    The start is that of k-means++ (Arthur & Vassilvitskii 2007): each is the likelier the further it is from those
    before it. Where there are fewer different points than means, some are the same.
    """
    generator = torch.Generator().manual_seed(0)
    # The start needs no more points than this, and torch draws from at most 2^24.
    some = points[torch.randperm(len(points), generator=generator)[: 2**16].to(points.device)]
    chosen, distances = [0], torch.full((len(some),), math.inf)
    for _ in range(count - 1):
        distances = torch.minimum(distances, (some - some[chosen[-1]]).square().sum(dim=1).cpu())
        likely = distances if bool(distances.sum() > 0) else torch.ones_like(distances)
        chosen.append(int(torch.multinomial(likely, 1, generator=generator)))
    means = some[chosen]
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(part, means).argmin(dim=1) for part in torch.split(points, 4096)])
        counts = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
    return means


def spread(examples: Examples, device: torch.device) -> Tensor:
    """Return pictures from all over those that are trained on, uint8, on a device."""
    count = len(examples.pictures) - examples.held_out
    rows = torch.arange(0, count, max(1, count // MEASURED), device=device)
    return take(examples.pictures, rows[:MEASURED])


def logit_laplace(stats: Tensor, pixels: Tensor, least_scale: float = 0.0) -> Tensor:
    """Return the negative log-likelihood [b 3 h w] of squeezed pixels under what the decoder says of them [b 6 h w].

    Paper, appendix A.3: x is the sigmoid of a Laplace variable of mean mu and scale b; b is at least `least_scale`.
    """
    means, scales = stats.float().chunk(2, dim=1)
    if least_scale:
        scales = scales.clamp(min=math.log(least_scale))
    odds = torch.logit(pixels)
    return (odds - means).abs() * torch.exp(-scales) + scales + math.log(2) + torch.log(pixels * (1 - pixels))


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeStage:
    """The discrete autoencoder from the configs of its halves.

    size: the side of the pictures in pixels. own_codes: whether its codes are found in the data; False where those of
    another model stay, whose decoder is trained on.
    """

    name: ClassVar[str] = "dvae"
    seed: ClassVar[int] = 21
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    size: int
    lesson: DvaeLesson
    own_codes: bool = True

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Both halves."""
        return {"dvae_encoder": self.encoder, "dvae": self.decoder}

    def fresh(self) -> DvaeParts:
        """Return both halves with fresh weights: every residual path begins as nothing."""
        parts = DvaeParts(DvaeConfig.from_config(self.encoder), DvaeConfig.from_config(self.decoder))
        for key, weight in parts.named_parameters():
            if weight.ndim == 1 or key.endswith("res_path.conv_4.w"):
                nn.init.zeros_(weight)
            else:
                # A ReLU before a convolution lets half of its input through.
                rectified = "res_path" in key or "output" in key
                nn.init.normal_(weight, std=math.sqrt((2 if rectified else 1) / weight[0].numel()))
        return parts

    def networks(self, module: DvaeParts) -> dict[str, nn.Module]:
        """Return both halves."""
        return {"dvae_encoder": module.encoder, "dvae": module.decoder}

    def objective(self, module: DvaeParts, material: Material) -> DvaeObjective:
        """Return what the decoder minimises; the codes are decided by the data."""
        examples = material.dataset.examples(self.name, self.size)
        if self.own_codes:
            begin_codes(module, spread(examples, module.table.w.device))
        return DvaeObjective(module, examples, self.lesson)

    def adapt(self, module: DvaeParts, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
