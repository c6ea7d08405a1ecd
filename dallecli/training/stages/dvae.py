"""The stage that trains the discrete autoencoder: pictures to codes and back, as DALL·E 1's was trained.

Ramesh et al. 2021, section 2.1 and appendix A: a code is drawn by the Gumbel-softmax relaxation, whose temperature falls
until shares are all but codes; pixels are told by a logit-Laplace distribution; and a term that grows pulls the
encoder's shares towards an even use of all codes.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.dvae import CHANNELS, Convolution, DvaeConfig, DvaeDecoder, DvaeEncoder, squeeze, unsqueeze
from dallecli.training.batch import Draw, take
from dallecli.training.dataset import Examples
from dallecli.training.loop import TrainingRun
from dallecli.training.stages.stage import Material

SHOWN: Final = 16
"""Held-out pictures on a sheet, each beside its reconstruction."""
VALIDATED: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeLesson:
    """How the autoencoder is taught.

    coldest: the temperature at the end of the annealing; it begins at 1. annealed: the share of the budget over which
    it falls, and over which the KL term grows. kl: the weight of that term at the end, counted as in the paper: a code's
    KL divergence has this weight, divided by the numbers of a cell, beside the mean of a pixel's number. least_scale: the
    narrowest scale that the decoder may claim, so that large plain areas do not outweigh all else.
    """

    coldest: float = 1 / 16
    annealed: float = 0.5
    kl: float = 6.6
    least_scale: float = 0.0

    def __post_init__(self) -> None:
        for name in ("coldest", "annealed"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0, at most 1")
        for name in ("kl", "least_scale"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number from 0 on")


class DvaeParts(nn.Module):
    """The encoder and the decoder, which are trained together."""

    def __init__(self, encoder: DvaeConfig, decoder: DvaeConfig) -> None:
        super().__init__()
        self.encoder = DvaeEncoder(encoder)
        self.decoder = DvaeDecoder(decoder)

    @torch.no_grad()
    def codes(self, pictures: Tensor) -> Tensor:
        """Return the codes [b h w] of pictures, uint8 [b 3 s s]."""
        logits: Tensor = self.encoder(squeeze(pictures.float() / 255))
        return logits.argmax(dim=1)

    @torch.no_grad()
    def painted(self, codes: Tensor) -> Tensor:
        """Return pictures [b 3 s s] in [-1, 1] of codes [b h w]."""
        return unsqueeze(self.decoder(codes)[:, :CHANNELS].sigmoid()) * 2 - 1


class DvaeObjective:
    """The negative evidence lower bound, relaxed: nats of a pixel's number, and the weighted KL term."""

    name = "dvae"

    def __init__(self, parts: DvaeParts, examples: Examples, lesson: DvaeLesson) -> None:
        self.module = parts
        self.parts = parts
        self.pictures = examples.pictures
        self.count = len(examples.pictures) - examples.held_out
        self.lesson = lesson

    def loss(self, draw: Draw) -> Tensor:
        """Return the loss of random pictures at the temperature and with the weight of this point of the training."""
        lesson = self.lesson
        way = min(1.0, draw.done / lesson.annealed)
        # A cosine, as in the paper.
        temperature = lesson.coldest + (1 - lesson.coldest) * (1 + math.cos(math.pi * way)) / 2
        pixels = squeeze(take(self.pictures, draw.integers(self.count)).float() / 255)
        logits = self.parts.encoder(pixels)
        noise = -torch.log(-torch.log(draw.uniform(*logits.shape[1:]).clamp(1e-20, 1 - 1e-7)))
        shares = ((logits + noise) / temperature).softmax(dim=1)
        nats = logit_laplace(self.parts.decoder(shares), pixels, lesson.least_scale).mean()
        cell = pixels[0].numel() / logits[0, 0].numel()
        return nats + lesson.kl * way / cell * divergence(logits).mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return, of held-out pictures painted from their codes: nats a number, the error in levels, how many codes."""
        pictures = take(self.pictures, torch.arange(self.count, len(self.pictures))[:VALIDATED])
        pixels = squeeze(pictures.float() / 255)
        codes = self.parts.codes(pictures)
        stats = self.parts.decoder(codes)
        levels = unsqueeze(stats[:, :CHANNELS].sigmoid())
        shares = torch.bincount(codes.flatten()).float() / codes.numel()
        shares = shares[shares > 0]
        return {
            "held_out": float(logit_laplace(stats, pixels, self.lesson.least_scale).mean()),
            "levels": float((levels - pictures.float() / 255).abs().mean() * 255),
            "codes": float(len(shares)),
            "perplexity": float(torch.exp(-(shares * shares.log()).sum())),
        }

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Return held-out pictures, each before its reconstruction."""
        pictures = take(self.pictures, torch.arange(self.count, len(self.pictures))[:SHOWN])
        painted = self.parts.painted(self.parts.codes(pictures))
        return torch.stack([pictures.float() / 127.5 - 1, painted], dim=1).flatten(0, 1)


def logit_laplace(stats: Tensor, pixels: Tensor, least_scale: float = 0.0) -> Tensor:
    """Return the negative log-likelihood [b 3 h w] of squeezed pixels under what the decoder says of them [b 6 h w].

    Paper, appendix A.3: x is the sigmoid of a Laplace variable of mean mu and scale b; b is at least `least_scale`.
    """
    means, scales = stats.float().chunk(2, dim=1)
    if least_scale:
        scales = scales.clamp(min=math.log(least_scale))
    odds = torch.logit(pixels)
    return (odds - means).abs() * torch.exp(-scales) + scales + math.log(2) + torch.log(pixels * (1 - pixels))


def divergence(logits: Tensor) -> Tensor:
    """Return the KL divergence [b h w] of the encoder's shares, logits [b v h w], from an even choice, in nats."""
    logs = F.log_softmax(logits.float(), dim=1)
    return (logs.exp() * logs).sum(dim=1) + math.log(logits.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class DvaeStage:
    """The autoencoder from the configs of its halves. size: the side in pixels of the pictures that it learns from."""

    name: ClassVar[str] = "dvae"
    seed: ClassVar[int] = 21
    optional: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    encoder: dict[str, Any]
    decoder: dict[str, Any]
    size: int
    lesson: DvaeLesson

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Both halves."""
        return {"encoder": self.encoder, "decoder": self.decoder}

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
        nn.init.normal_(parts.decoder.blocks.input.w)
        return parts

    def networks(self, module: DvaeParts) -> dict[str, nn.Module]:
        """Return both halves."""
        return {"encoder": module.encoder, "decoder": module.decoder}

    def objective(self, module: DvaeParts, material: Material) -> DvaeObjective:
        """Return what both halves minimise together."""
        return DvaeObjective(module, material.dataset.examples(self.name, self.size), self.lesson)

    def adapt(self, module: DvaeParts, material: Material) -> None:
        """Leave the weights as they are."""

    def finish(self, run: TrainingRun, material: Material) -> None:
        """Leave the weights as they are."""
