"""The stages that train a discrete autoencoder of DALL·E 1's kind: pictures to codes and back.

The networks, the squeezed pixels and the logit-Laplace distribution are those of Ramesh et al. 2021 (section 2.1 and
appendix A). How codes come to be is not: the paper's Gumbel-softmax relaxation takes millions of steps, and in a short
training it forgets its codes before a decoder can read them (docs/decisions/starter-1.md). So first an autoencoder is
trained whose cells are vectors in noise; then the codes are the means of k-means among these vectors, the encoder stays
as it is, and the decoder goes on with the codes themselves.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.dvae import (
    CHANNELS,
    Codebook,
    Convolution,
    DvaeConfig,
    DvaeDecoder,
    DvaeEncoder,
    squeeze,
    unsqueeze,
)
from dallecli.nets.layers import channels_last
from dallecli.training.batch import Draw, take
from dallecli.training.dataset import Examples
from dallecli.training.loop import TrainingRun
from dallecli.training.stages.stage import Material

SHOWN: Final = 16
"""Held-out pictures on a sheet, each before its reconstruction."""
VALIDATED: Final = 256
"""Held-out pictures that are measured."""
MEASURED: Final = 2048
"""Pictures among whose cells the codes are found."""
ROUNDS: Final = 12
"""Rounds of k-means; the codes hardly move any more then."""
LOUD: Final = 8.0
"""How far vectors lie apart at first, in deviations of the noise, where features do by 1."""
TOGETHER: Final = 64
"""Pictures that are encoded at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeLesson:
    """How the autoencoder is taught.

    rate_weight: the weight of the KL term, counted as in the paper: the divergence of a cell has this weight, divided
    by the numbers of a cell's pixels, beside the mean of a pixel's number. least_scale: the narrowest scale that the
    decoder may claim, so that large plain areas do not outweigh all else.
    """

    rate_weight: float = 6.6
    least_scale: float = 0.05

    def __post_init__(self) -> None:
        for name in ("rate_weight", "least_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 on")


class PlainParts(nn.Module):
    """An autoencoder whose cells are vectors, as wide as the decoder's codebook, in noise of deviation 1."""

    def __init__(self, encoder: DvaeConfig, decoder: DvaeConfig) -> None:
        super().__init__()
        self.dvae = DvaeParts(encoder, decoder)
        self.dvae.output.requires_grad_(False)
        self.dvae.table.requires_grad_(False)
        assert decoder.init_channels is not None  # DvaeDecoder has refused it
        self.bridge = nn.Conv2d(encoder.block_out_channels[-1], decoder.init_channels, 1)

    def vectors(self, pixels: Tensor) -> Tensor:
        """Return the vectors [b c h w] of squeezed pixels."""
        vectors: Tensor = self.bridge(self.dvae.features(pixels))
        return vectors

    def stats(self, vectors: Tensor) -> Tensor:
        """Return what the decoder says of vectors [b c h w]; as `DvaeDecoder.forward`."""
        stats: Tensor = self.dvae.decoder.blocks[1:](vectors)
        return stats


class DvaeParts(nn.Module):
    """The encoder and the decoder of the autoencoder that a model has."""

    def __init__(self, encoder: DvaeConfig, decoder: DvaeConfig) -> None:
        super().__init__()
        self.encoder = DvaeEncoder(encoder)
        self.decoder = DvaeDecoder(decoder)

    @property
    def output(self) -> Convolution:
        """The encoder's last layer, from features to the logits of codes."""
        return cast("Convolution", self.encoder.blocks.output.conv)  # type: ignore[union-attr]

    @property
    def table(self) -> Codebook:
        """The decoder's first layer."""
        return cast("Codebook", self.decoder.blocks.input)

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the encoder's last layer reads [b c h w] of squeezed pixels [b 3 s s]."""
        return F.relu(self.encoder.blocks[:-1](pixels))

    @torch.no_grad()
    def codes(self, pictures: Tensor) -> Tensor:
        """Return the codes [b h w] of pictures, uint8 [b 3 s s]."""
        logits: Tensor = self.encoder(squeeze(pictures.float() / 255))
        return logits.argmax(dim=1)


class _Objective:
    """What both stages share: the pictures, and how a reconstruction is measured and shown."""

    def __init__(self, examples: Examples, lesson: DvaeLesson) -> None:
        self.pictures = examples.pictures
        self.count = len(examples.pictures) - examples.held_out
        self.lesson = lesson

    def nats(self, stats: Tensor, pixels: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of a number of squeezed pixels."""
        return logit_laplace(stats, pixels, self.lesson.least_scale).mean()

    def held_out(self, count: int) -> Tensor:
        """Return the first held-out pictures, uint8."""
        return take(self.pictures, torch.arange(self.count, len(self.pictures))[:count])

    def figures(self, stats: Tensor, pictures: Tensor) -> dict[str, float]:
        """Return the nats a number, and the mean error in levels of 255."""
        levels = unsqueeze(stats[:, :CHANNELS].sigmoid())
        truth = pictures.float() / 255
        return {
            "held_out": float(self.nats(stats, squeeze(truth))),
            "levels": float((levels - truth).abs().mean() * 255),
        }

    @staticmethod
    def beside(pictures: Tensor, stats: Tensor) -> Tensor:
        """Return pictures in [-1, 1], each before its reconstruction."""
        painted = unsqueeze(stats[:, :CHANNELS].sigmoid()) * 2 - 1
        return torch.stack([pictures.float() / 127.5 - 1, painted], dim=1).flatten(0, 1)


class AutoencoderObjective(_Objective):
    """The negative evidence lower bound of vectors in noise: nats of a pixel's number, and the weighted KL term."""

    name = "autoencoder"

    def __init__(self, parts: PlainParts, examples: Examples, lesson: DvaeLesson) -> None:
        super().__init__(examples, lesson)
        self.module = parts
        self.parts = parts

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of random pictures."""
        pixels = squeeze(take(self.pictures, draw.integers(self.count)).float() / 255)
        vectors = self.parts.vectors(pixels)
        stats = self.parts.stats(vectors + draw.normal(*vectors.shape[1:]))
        numbers = pixels[0].numel() / vectors[0, 0].numel()
        # Of two normal distributions with deviation 1, one of them with mean 0.
        divergence = vectors.float().square().sum(dim=1).mean() / 2
        return self.nats(stats, pixels) + self.lesson.rate_weight / numbers * divergence

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return figures of held-out pictures without noise."""
        pictures = self.held_out(VALIDATED)
        return self.figures(self.parts.stats(self.parts.vectors(squeeze(pictures.float() / 255))), pictures)

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Return held-out pictures, each before its reconstruction."""
        pictures = self.held_out(SHOWN)
        return self.beside(pictures, self.parts.stats(self.parts.vectors(squeeze(pictures.float() / 255))))


class DvaeObjective(_Objective):
    """Nats of a pixel's number, told by the codes of its picture."""

    name = "dvae"

    def __init__(self, parts: DvaeParts, examples: Examples, lesson: DvaeLesson) -> None:
        """Train the decoder alone: what it reads stays, whatever it learns."""
        super().__init__(examples, lesson)
        self.module = parts
        self.parts = parts
        parts.encoder.requires_grad_(False)

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of random pictures."""
        pictures = take(self.pictures, draw.integers(self.count))
        return self.nats(self.parts.decoder(self.parts.codes(pictures)), squeeze(pictures.float() / 255))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return figures of held-out pictures, and how many codes are used; the perplexity counts rare ones less."""
        pictures = self.held_out(VALIDATED)
        codes = self.parts.codes(pictures)
        shares = torch.bincount(codes.flatten()).float() / codes.numel()
        shares = shares[shares > 0]
        used = {"codes": float(len(shares)), "perplexity": float(torch.exp(-(shares * shares.log()).sum()))}
        return self.figures(self.parts.decoder(codes), pictures) | used

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Return held-out pictures, each before its reconstruction."""
        pictures = self.held_out(SHOWN)
        return self.beside(pictures, self.parts.decoder(self.parts.codes(pictures)))


def spread(examples: Examples) -> Tensor:
    """Return pictures from all over those that are trained on, uint8."""
    count = len(examples.pictures) - examples.held_out
    return take(examples.pictures, torch.arange(0, count, max(1, count // MEASURED))[:MEASURED])


@torch.no_grad()
def begin_codes(parts: DvaeParts, plain: PlainParts, pictures: Tensor) -> None:
    """Give an autoencoder the networks of one whose cells are vectors, and codes: the means of k-means among its cells.

    pictures: uint8 [n 3 s s], whose cells those are. The encoder then chooses the nearest mean, and the decoder reads
    its vector: the square of a distance is linear in what the encoder's last layer reads, but for a term that all codes
    have in common.
    """
    parts.load_state_dict(plain.dvae.state_dict())
    found = [plain.vectors(squeeze(some.float() / 255)) for some in torch.split(pictures, TOGETHER)]
    cells = torch.cat(found).permute(0, 2, 3, 1).flatten(0, 2)
    means = k_means(cells, len(parts.output.w), ROUNDS)
    bridge, bias = plain.bridge.weight[:, :, 0, 0], plain.bridge.bias
    assert bias is not None  # for the type checker
    parts.output.w.copy_((2 * means @ bridge)[:, :, None, None])
    parts.output.b.copy_(2 * means @ bias - means.square().sum(dim=1))
    parts.table.w.copy_(means.T[:, :, None, None])
    nn.init.zeros_(parts.table.b)


def k_means(points: Tensor, count: int, rounds: int) -> Tensor:
    """Return `count` means of points [n d], found by Lloyd's algorithm from a start that is spread out.

    The start is that of k-means++ (Arthur & Vassilvitskii 2007): each is the likelier the further it is from those
    before it. Where there are fewer different points than means, some are the same.
    """
    generator = torch.Generator().manual_seed(0)
    chosen, distances = [0], torch.full((len(points),), math.inf)
    for _ in range(count - 1):
        distances = torch.minimum(distances, (points - points[chosen[-1]]).square().sum(dim=1).cpu())
        likely = distances if bool(distances.sum() > 0) else torch.ones_like(distances)
        # torch draws from at most 2^24 at once.
        some = torch.randint(len(points), (2**16,), generator=generator) if len(points) > 2**16 else None
        place = int(torch.multinomial(likely if some is None else likely[some] + 1e-20, 1, generator=generator))
        chosen.append(place if some is None else int(some[place]))
    means = points[chosen]
    for _ in range(rounds):
        nearest = torch.cat([torch.cdist(part, means).argmin(dim=1) for part in torch.split(points, 4096)])
        counts = torch.bincount(nearest, minlength=count)
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], means)
    return means


def logit_laplace(stats: Tensor, pixels: Tensor, least_scale: float = 0.0) -> Tensor:
    """Return the negative log-likelihood [b 3 h w] of squeezed pixels under what the decoder says of them [b 6 h w].

    Paper, appendix A.3: x is the sigmoid of a Laplace variable of mean mu and scale b; b is at least `least_scale`.
    """
    means, scales = stats.float().chunk(2, dim=1)
    if least_scale:
        scales = scales.clamp(min=math.log(least_scale))
    odds = torch.logit(pixels)
    return (odds - means).abs() * torch.exp(-scales) + scales + math.log(2) + torch.log(pixels * (1 - pixels))


def _begun(parts: DvaeParts) -> DvaeParts:
    """The networks with fresh weights: every residual path begins as nothing."""
    for key, weight in parts.named_parameters():
        if weight.ndim == 1 or key.endswith("res_path.conv_4.w"):
            nn.init.zeros_(weight)
        else:
            # A ReLU before a convolution lets half of its input through.
            rectified = "res_path" in key or "output" in key
            nn.init.normal_(weight, std=math.sqrt((2 if rectified else 1) / weight[0].numel()))
    return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderStage:
    """The autoencoder whose encoder becomes that of the codes. size: the side of the pictures in pixels."""

    name: ClassVar[str] = "autoencoder"
    seed: ClassVar[int] = 21
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    size: int
    lesson: DvaeLesson

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Nothing: what is part of a model comes of the next stage."""
        return {}

    def fresh(self) -> PlainParts:
        """Return the networks with fresh weights."""
        plain = PlainParts(DvaeConfig.from_config(self.encoder), DvaeConfig.from_config(self.decoder))
        _begun(plain.dvae)
        # Louder than the noise from the beginning, or nothing would be heard.
        nn.init.normal_(plain.bridge.weight, std=LOUD / math.sqrt(plain.bridge.in_channels))
        channels_last(plain)
        return plain

    def networks(self, module: PlainParts) -> dict[str, nn.Module]:
        """Return nothing, likewise."""
        return {}

    def objective(self, module: PlainParts, material: Material) -> AutoencoderObjective:
        """Return what the networks minimise."""
        return AutoencoderObjective(module, material.dataset.examples(self.name, self.size), self.lesson)

    def adapt(self, module: PlainParts, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeStage:
    """The discrete autoencoder; its encoder is that of the stage before.

    size: the side of the pictures in pixels. own_codes: whether its codes are found in the data; False where those of
    another model stay, whose decoder is trained on.
    """

    name: ClassVar[str] = "dvae"
    seed: ClassVar[int] = 22
    optional: ClassVar[bool] = False
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    size: int
    lesson: DvaeLesson
    own_codes: bool = True

    @property
    def needs(self) -> tuple[str, ...]:
        """The autoencoder, where codes are found among its cells."""
        return (AutoencoderStage.name,) if self.own_codes else ()

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Both halves."""
        return {"dvae_encoder": self.encoder, "dvae": self.decoder}

    def fresh(self) -> DvaeParts:
        """Return both halves with fresh weights."""
        parts = _begun(DvaeParts(DvaeConfig.from_config(self.encoder), DvaeConfig.from_config(self.decoder)))
        channels_last(parts)
        return parts

    def networks(self, module: DvaeParts) -> dict[str, nn.Module]:
        """Return both halves."""
        return {"dvae_encoder": module.encoder, "dvae": module.decoder}

    def objective(self, module: DvaeParts, material: Material) -> DvaeObjective:
        """Return what the decoder minimises; the codes are decided by the data."""
        examples = material.dataset.examples(self.name, self.size)
        if self.own_codes:
            plain = material.trained(AutoencoderStage.name)
            assert isinstance(plain, PlainParts)  # for the type checker: that is what its stage makes
            begin_codes(module, plain, spread(examples))
        return DvaeObjective(module, examples, self.lesson)

    def adapt(self, module: DvaeParts, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
