"""A reference of guided-diffusion ("ADM"), from the formulas of its paper and of the published scripts.

No library has its classifier, its networks with four heads, or its sampling, so this stands in for the published
classes: functions of tables of tensors in their published names, with numpy's schedules in float64, and noise drawn as
the scripts draw it, at every step. Where diffusers' `UNet2DModel` has a network, the tests compare with that as well.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from glide_oracle import Random, Table, attend, by_heads, cosine, fit, group_norm, linear, residual, straight
from torch import Tensor

NAMES = ("tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "golden retriever", "crane", "red panda, panda")
"""The classes of the tiny models."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a UNet, or of a classifier."""

    side: int
    widths: tuple[int, ...]
    layers: int
    attends: tuple[bool, ...]
    channels: int = 3
    head: int | None = 8
    """The width of a head; None where there are always `heads`."""
    heads: int = 4
    legacy: bool = True
    """Whether the projections stand head by head."""
    features: int | None = None
    """The width of the time features, where it is not that of the first level."""
    classes: int | None = len(NAMES)
    groups: int = 8
    cosine: bool = False

    @property
    def sinusoid(self) -> int:
        return self.widths[0] if self.features is None else self.features

    @property
    def time(self) -> int:
        return 4 * self.sinusoid

    @property
    def betas(self) -> np.ndarray:
        return cosine() if self.cosine else straight()

    def count(self, width: int) -> int:
        return self.heads if self.head is None else width // self.head


BASE = Shape(side=16, widths=(16, 32), layers=1, attends=(False, True), legacy=False, cosine=True)
UPSAMPLE = Shape(side=32, widths=(16, 16, 32), layers=1, attends=(False, False, True), channels=6, head=None)
UNCONDITIONAL = Shape(side=16, widths=(16, 32), layers=1, attends=(False, True), classes=None)
HALVED = Shape(side=16, widths=(8, 16, 16), layers=1, attends=(False, False, True), features=16)
"""As the published one for 512 pixels: its first level is half as wide as its time features."""
CLASSIFIER = Shape(side=16, widths=(16, 32), layers=2, attends=(False, True))


class AdmRandom(Random):
    """Tensors in the published names and shapes."""

    def block(self, name: str, width: int, out: int, shape: Any, *, attends: bool) -> None:
        self.resnet(f"{name}.0", width, out, shape)
        if attends:
            self.cells(f"{name}.1", out)

    def cells(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        self.layer(f"{name}.qkv", 3 * width, width, 1)
        self.layer(f"{name}.proj_out", width, width, 1)

    def way_down(self, shape: Shape) -> list[int]:
        self.layer("time_embed.0", shape.time, shape.sinusoid)
        self.layer("time_embed.2", shape.time, shape.time)
        width = shape.widths[0]
        self.layer("input_blocks.0.0", width, shape.channels, 3, 3)
        skips = [width]
        for level, out in enumerate(shape.widths):
            for _ in range(shape.layers):
                self.block(f"input_blocks.{len(skips)}", width, out, shape, attends=shape.attends[level])
                width = out
                skips.append(width)
            if level < len(shape.widths) - 1:
                self.resnet(f"input_blocks.{len(skips)}.0", width, width, shape)
                skips.append(width)
        self.resnet("middle_block.0", width, width, shape)
        self.cells("middle_block.1", width)
        self.resnet("middle_block.2", width, width, shape)
        return skips

    def way_up(self, shape: Shape, skips: list[int]) -> None:
        width = shape.widths[-1]
        for number in range(len(skips)):
            level = len(shape.widths) - 1 - number // (shape.layers + 1)
            out, attends = shape.widths[level], shape.attends[level]
            self.block(f"output_blocks.{number}", width + skips.pop(), out, shape, attends=attends)
            width = out
            if level > 0 and number % (shape.layers + 1) == shape.layers:
                self.resnet(f"output_blocks.{number}.{2 if attends else 1}", width, width, shape)


def table(shape: Shape, seed: int) -> Table:
    """Random tensors of a UNet."""
    random = AdmRandom(seed)
    random.way_up(shape, random.way_down(shape))
    if shape.classes is not None:
        random.draw("label_emb.weight", shape.classes, shape.time)
    random.norm("out.0", shape.widths[0])
    random.layer("out.2", 6, shape.widths[0], 3, 3, scale=0.05)
    return random.made


def classifier_table(shape: Shape, seed: int) -> Table:
    """Random tensors of a classifier."""
    assert shape.classes is not None
    random = AdmRandom(seed)
    random.way_down(shape)
    width, cells = shape.widths[-1], (shape.side // 2 ** (len(shape.widths) - 1)) ** 2
    random.norm("out.0", width)
    random.draw("out.2.positional_embedding", width, cells + 1, scale=0.5)
    random.layer("out.2.qkv_proj", 3 * width, width, 1)
    random.layer("out.2.c_proj", shape.classes, width, 1, scale=4 / math.sqrt(width))
    return random.made


@cache
@torch.no_grad()
def fitted(shape: Shape, seed: int) -> Table:
    """A random table whose last layer is fitted to predict the noise in smooth pictures a little."""
    t = table(shape, seed)
    net = Net(t, shape)
    known = None if shape.classes is None else torch.tensor([3] * 4)
    return fit(
        t,
        lambda x, step: net.features(x, step, known),
        shape.betas,
        side=shape.side,
        channels=shape.channels,
        seed=seed,
    )


# The networks, from the formulas.


@dataclass(frozen=True)
class Net:
    """A UNet or a classifier."""

    t: Table
    shape: Shape

    def __call__(self, x: Tensor, step: int, classes: Tensor | None) -> Tensor:
        """The noise and the share of the variance."""
        return F.conv2d(self.features(x, step, classes), self.t["out.2.weight"], self.t["out.2.bias"], padding=1)

    def features(self, x: Tensor, step: int, classes: Tensor | None) -> Tensor:
        """What the last layer of a UNet sees."""
        time = self.time(step)
        if classes is not None:
            time = time + self.t["label_emb.weight"][classes]
        x, skips = self.down(x, time)
        for number in range(len(skips)):
            name = f"output_blocks.{number}"
            x = self.block(name, torch.cat([x, skips.pop()], dim=1), time)
            for last in (1, 2):
                if f"{name}.{last}.in_layers.0.weight" in self.t:
                    x = self.resnet(f"{name}.{last}", x, time, lambda x: F.interpolate(x, scale_factor=2))
        return F.silu(self.norm("out.0", x))

    def logits(self, x: Tensor, step: int) -> Tensor:
        """Of a classifier."""
        x, _ = self.down(x, self.time(step))
        cells = F.silu(self.norm("out.0", x)).flatten(2)
        tokens = torch.cat([cells.mean(dim=2, keepdim=True), cells], dim=2) + self.t["out.2.positional_embedding"]
        tokens = linear(self.t, "out.2.qkv_proj", tokens.transpose(1, 2))
        heads = self.shape.count(x.shape[1])
        q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in tokens.chunk(3, dim=2))
        return linear(self.t, "out.2.c_proj", attend(q, k, v)[:, 0])

    def gradient(self, x: Tensor, step: int, classes: Tensor) -> Tensor:
        """Of the log probabilities of classes."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            chosen = torch.log(torch.softmax(self.logits(x, step), dim=1))[torch.arange(len(x)), classes]
            return torch.autograd.grad(chosen.sum(), x)[0]

    def time(self, step: int) -> Tensor:
        half = self.shape.sinusoid // 2
        angles = step * torch.exp(-math.log(10000) * torch.arange(half) / half)
        features = torch.cat([angles.cos(), angles.sin()])[None]
        return linear(self.t, "time_embed.2", F.silu(linear(self.t, "time_embed.0", features)))

    def down(self, x: Tensor, time: Tensor) -> tuple[Tensor, list[Tensor]]:
        t, shape = self.t, self.shape
        x = F.conv2d(x, t["input_blocks.0.0.weight"], t["input_blocks.0.0.bias"], padding=1)
        skips = [x]
        for level in range(len(shape.widths)):
            for _ in range(shape.layers):
                x = self.block(f"input_blocks.{len(skips)}", x, time)
                skips.append(x)
            if level < len(shape.widths) - 1:
                x = self.resnet(f"input_blocks.{len(skips)}.0", x, time, lambda x: F.avg_pool2d(x, 2))
                skips.append(x)
        x = self.resnet("middle_block.0", x, time)
        x = self.attention("middle_block.1", x)
        return self.resnet("middle_block.2", x, time), skips

    def block(self, name: str, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnet(f"{name}.0", x, time)
        return self.attention(f"{name}.1", x) if f"{name}.1.qkv.weight" in self.t else x

    def norm(self, name: str, x: Tensor) -> Tensor:
        return group_norm(self.t, self.shape.groups, name, x)

    def resnet(self, name: str, x: Tensor, time: Tensor, resample: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        return residual(self.t, self.shape.groups, name, x, time, resample)

    def attention(self, name: str, x: Tensor) -> Tensor:
        seen = linear(self.t, f"{name}.qkv", self.norm(f"{name}.norm", x).flatten(2).transpose(1, 2))
        heads = self.shape.count(x.shape[1])
        if self.shape.legacy:
            q, k, v = by_heads(seen, 3, x.shape[1] // heads)
        else:
            q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in seen.chunk(3, dim=2))
        return x + linear(self.t, f"{name}.proj_out", attend(q, k, v)).transpose(1, 2).view(x.shape)


# Sampling, from the formulas: `p_sample` and `ddim_sample` of the published code.


@dataclass(kw_only=True)
class Run:
    """One run of a respaced schedule."""

    betas: np.ndarray
    visits: list[int]
    """Ascending."""
    generator: torch.Generator
    lead: Callable[[Tensor, int], Tensor] | None = None
    """The gradient, times the scale."""
    seen: list[Tensor] = field(default_factory=list)
    """x after each step."""

    def __call__(self, net: Callable[[Tensor, int], Tensor], x: Tensor, ddim: bool) -> Tensor:
        bars = np.cumprod(1 - self.betas)[self.visits]
        before = np.append(1.0, bars[:-1])
        jumps = 1 - bars / before
        spread = jumps * (1 - before) / (1 - bars)
        log_spread = np.log(np.append(spread[1], spread[1:]))
        for i in reversed(range(len(bars))):
            t = self.visits[i]
            eps, share = net(x, t).chunk(2, dim=1)
            x0 = ((x - math.sqrt(1 - bars[i]) * eps) / math.sqrt(bars[i])).clamp(-1, 1)
            log_variance = (share + 1) / 2 * math.log(jumps[i]) + (1 - share) / 2 * log_spread[i]
            noise = torch.randn(x.shape, generator=self.generator)
            if ddim:
                eps = (x / math.sqrt(bars[i]) - x0) / math.sqrt(1 / bars[i] - 1)
                if self.lead is not None:
                    eps = eps - math.sqrt(1 - bars[i]) * self.lead(x, t)
                    x0 = (x - math.sqrt(1 - bars[i]) * eps) / math.sqrt(bars[i])
                x = math.sqrt(before[i]) * x0 + math.sqrt(1 - before[i]) * eps
            else:
                mean = (math.sqrt(before[i]) * jumps[i] * x0 + math.sqrt(1 - jumps[i]) * (1 - before[i]) * x) / (
                    1 - bars[i]
                )
                if self.lead is not None:
                    mean = mean + log_variance.exp() * self.lead(x, t)
                x = mean + (0.5 * log_variance).exp() * noise if i > 0 else mean
            self.seen.append(x)
        return x


def visits(count: int, *, ddim: bool) -> list[int]:
    """So many timesteps: "ddimN" in whole strides, else evenly; for these tests' counts both are published so."""
    if ddim and 1000 % count == 0:
        return list(range(0, 1000, 1000 // count))
    return [round(k * 999 / (count - 1)) for k in range(count)]


def levels(x: Tensor) -> Tensor:
    """What the published scripts write: bytes, cut off and not rounded."""
    return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def paint(
    number: int | None, *, seed: int, steps: int, guidance: float, ddim: bool = False, base: str = "decoder"
) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """The steps of both stages, and the bytes of both pictures [1 3 s s]; the chain has one generator."""
    shape, t = TABLES[base][0], fitted(*TABLES[base])
    generator = torch.Generator().manual_seed(seed)
    classes = None if number is None else torch.tensor([number])
    classifier = Net(classifier_table(*TABLES["classifier"]), CLASSIFIER)
    lead = None
    if classes is not None and guidance != 0:
        lead = lambda x, t: guidance * classifier.gradient(x, t, classes)  # noqa: E731
    run = Run(betas=shape.betas, visits=visits(steps, ddim=ddim), generator=generator, lead=lead)
    told = classes if shape.classes is not None else None
    x = torch.randn(1, 3, shape.side, shape.side, generator=generator)
    small = levels(run(lambda x, t_: Net(t, shape)(x, t_, told), x, ddim))
    if shape.classes is None:
        return run.seen, [], small, small
    big, large = TABLES["super_res"][0], Net(fitted(*TABLES["super_res"]), TABLES["super_res"][0])
    low = F.interpolate(small.float() / 127.5 - 1, size=(big.side, big.side), mode="bilinear")
    again = Run(betas=big.betas, visits=visits(steps, ddim=False), generator=generator)
    x = torch.randn(1, 3, big.side, big.side, generator=generator)
    pixels = again(lambda x, t_: large(torch.cat([x, low], dim=1), t_, told), x, False)
    return run.seen, again.seen, small, levels(pixels)


TABLES: dict[str, tuple[Shape, int]] = {
    "decoder": (BASE, 1),
    "super_res": (UPSAMPLE, 2),
    "classifier": (CLASSIFIER, 3),
    "unconditional": (UNCONDITIONAL, 4),
}
"""The networks, and the seeds of their tables."""


def moved(t: Table, moves: Any) -> Table:
    """A table in the names of the networks here."""
    return {
        target: new.clone()
        for move in moves
        for target, new in zip(move.targets, move.split(t[move.source]), strict=True)
    }


def converted(shape: Shape, t: Table) -> tuple[dict[str, Any], Table]:
    """The config and the tensors of a network here."""
    from dallecli.weights.guided_diffusion import read_classifier, read_unet

    shapes = {name: tuple(tensor.shape) for name, tensor in t.items()}
    if "out.2.qkv_proj.weight" in t:
        net = read_classifier(shapes, layers=shape.layers, head_width=shape.head or 0)
    else:
        net = read_unet(shapes, head_width=shape.head, heads=shape.heads, by_heads=shape.legacy)
    config = {**net.config, "sample_size": shape.side, "norm_num_groups": shape.groups}
    return config, moved(t, net.moves)


def write(folder: Path, *, base: str = "decoder", parts: tuple[str, ...] = ("super_res", "classifier")) -> Path:
    """Write a tiny random model in the layout of this project."""
    from safetensors.torch import save_file

    from dallecli.weights.adm import SCHEDULES

    folder.mkdir(parents=True, exist_ok=True)
    for part in ("decoder", *parts):
        shape, seed = TABLES[base if part == "decoder" else part]
        config, tensors = converted(
            shape, classifier_table(shape, seed) if part == "classifier" else fitted(shape, seed)
        )
        (folder / part).mkdir()
        (folder / part / "config.json").write_text(json.dumps(config))
        save_file(tensors, folder / part / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        if part != "classifier":
            (folder / f"{part}_scheduler").mkdir()
            schedule = SCHEDULES["cosine" if shape.cosine else "linear"]
            (folder / f"{part}_scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "AdmPipeline"}))
    (folder / "classes.json").write_text(json.dumps({"classes": NAMES}))
    return folder


def without(folder: Path, target: Path, *parts: str) -> Path:
    """A copy of a model folder without some of its parts."""
    shutil.copytree(folder, target)
    for part in parts:
        shutil.rmtree(target / part)
    return target
