"""A reference of GLIDE, from the formulas of its paper and of the published chain, on tensors by their published names.

No library has GLIDE, so this stands in for the published classes. It shares nothing with dallecli: networks are
functions of a table of tensors, schedules are numpy in float64, and noise is drawn from a generator as the notebooks
draw it: for both halves of a guided batch, and at every step.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Table = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of a UNet with its text tower."""

    side: int
    widths: tuple[int, ...]
    layers: int
    attends: tuple[bool, ...]
    channels: int
    heads: int = 2
    """Of the text tower."""
    head: int = 8
    """The width of a head."""
    groups: int = 8
    context: int = 12
    text_layers: int = 2
    vocab: int = 264

    @property
    def text(self) -> int:
        return self.heads * self.head

    @property
    def time(self) -> int:
        return 4 * self.widths[0]


BASE = Shape(side=16, widths=(16, 32), layers=1, attends=(False, True), channels=3)
UPSAMPLE = Shape(side=32, widths=(16, 16, 16), layers=1, attends=(False, False, True), channels=6)


# The tables, random.


class Random:
    """Tensors in the published names and shapes."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.made: Table = {}

    def draw(self, name: str, *sizes: int, scale: float = 1.0, around: float = 0.0) -> None:
        self.made[name] = torch.randn(sizes, generator=self.generator) * scale + around

    def layer(self, name: str, *sizes: int, scale: float | None = None) -> None:
        self.draw(f"{name}.weight", *sizes, scale=1.5 / math.sqrt(math.prod(sizes[1:])) if scale is None else scale)
        self.draw(f"{name}.bias", sizes[0], scale=0.1)

    def norm(self, name: str, width: int) -> None:
        self.draw(f"{name}.weight", width, scale=0.1, around=1.0)
        self.draw(f"{name}.bias", width, scale=0.1)

    def tower(self, shape: Shape) -> None:
        width = shape.text
        self.draw("token_embedding.weight", shape.vocab, width)
        self.draw("positional_embedding", shape.context, width)
        self.draw("padding_embedding", shape.context, width)
        for layer in range(shape.text_layers):
            block = f"transformer.resblocks.{layer}"
            self.layer(f"{block}.attn.c_qkv", 3 * width, width)
            self.layer(f"{block}.attn.c_proj", width, width)
            self.norm(f"{block}.ln_1", width)
            self.layer(f"{block}.mlp.c_fc", 4 * width, width)
            self.layer(f"{block}.mlp.c_proj", width, 4 * width)
            self.norm(f"{block}.ln_2", width)
        self.norm("final_ln", width)
        self.layer("transformer_proj", shape.time, width)

    def resnet(self, name: str, width: int, out: int, shape: Shape) -> None:
        self.norm(f"{name}.in_layers.0", width)
        self.layer(f"{name}.in_layers.2", out, width, 3, 3)
        self.layer(f"{name}.emb_layers.1", 2 * out, shape.time)
        self.norm(f"{name}.out_layers.0", out)
        self.layer(f"{name}.out_layers.3", out, out, 3, 3, scale=0.4 / math.sqrt(9 * out))
        if width != out:
            self.layer(f"{name}.skip_connection", out, width, 1, 1)

    def attention(self, name: str, width: int, shape: Shape) -> None:
        self.norm(f"{name}.norm", width)
        self.layer(f"{name}.qkv", 3 * width, width, 1)
        self.layer(f"{name}.encoder_kv", 2 * width, shape.text, 1)
        self.layer(f"{name}.proj_out", width, width, 1)

    def down(self, shape: Shape) -> list[int]:
        """The way down; returns the widths of what it keeps for the way up."""
        width = shape.widths[0]
        self.layer("input_blocks.0.0", width, shape.channels, 3, 3)
        skips = [width]
        for level, out in enumerate(shape.widths):
            for _ in range(shape.layers):
                self.resnet(f"input_blocks.{len(skips)}.0", width, out, shape)
                if shape.attends[level]:
                    self.attention(f"input_blocks.{len(skips)}.1", out, shape)
                width = out
                skips.append(width)
            if level < len(shape.widths) - 1:
                self.resnet(f"input_blocks.{len(skips)}.0", width, width, shape)
                skips.append(width)
        return skips

    def up(self, shape: Shape, skips: list[int]) -> None:
        width = shape.widths[-1]
        for number in range(len(skips)):
            from_smallest, layer = divmod(number, shape.layers + 1)
            level = len(shape.widths) - 1 - from_smallest
            out, attends = shape.widths[level], shape.attends[level]
            self.resnet(f"output_blocks.{number}.0", width + skips.pop(), out, shape)
            if attends:
                self.attention(f"output_blocks.{number}.1", out, shape)
            width = out
            if level > 0 and layer == shape.layers:
                self.resnet(f"output_blocks.{number}.{2 if attends else 1}", width, width, shape)


def table(shape: Shape, seed: int) -> Table:
    """Random tensors of a UNet and its text tower."""
    random = Random(seed)
    random.tower(shape)
    random.layer("time_embed.0", shape.time, shape.widths[0])
    random.layer("time_embed.2", shape.time, shape.time)
    skips = random.down(shape)
    width = shape.widths[-1]
    random.resnet("middle_block.0", width, width, shape)
    random.attention("middle_block.1", width, shape)
    random.resnet("middle_block.2", width, width, shape)
    random.up(shape, skips)
    random.norm("out.0", shape.widths[0])
    random.layer("out.2", 6, shape.widths[0], 3, 3, scale=0.05)
    return random.made


@cache
@torch.no_grad()
def fitted(shape: Shape, seed: int) -> Table:
    """A random table whose last layer is fitted to predict the noise in smooth pictures a little."""
    t = table(shape, seed)
    net = UNet(t, shape, *read(t, shape, [[1, 2]] * 4))
    betas = cosine() if shape.channels in (3, 7) else straight()
    return fit(t, net.features, betas, side=shape.side, channels=shape.channels, seed=seed)


def fit(
    t: Table, see: Callable[[Tensor, int], Tensor], betas: np.ndarray, *, side: int, channels: int, seed: int
) -> Table:
    """Fit the last layer of a table to the noise in smooth pictures; `see` gives what that layer sees of four."""
    generator = torch.Generator().manual_seed(seed)
    bars = np.cumprod(1 - betas)
    rows, wanted = [], []
    for step in range(20, 1000, 140):
        x0 = torch.rand(4, 3, 4, 4, generator=generator) * 1.6 - 0.8
        x0 = F.interpolate(x0, size=(side, side), mode="bilinear")
        eps = torch.randn(x0.shape, generator=generator)
        beside = torch.rand(4, channels - 3, side, side, generator=generator)
        x = math.sqrt(bars[step]) * x0 + math.sqrt(1 - bars[step]) * eps
        features = F.unfold(see(torch.cat([x, beside], dim=1), step), 3, padding=1)
        rows.append(F.pad(features.transpose(1, 2).flatten(0, 1), (0, 1), value=1.0).double())
        wanted.append(eps.flatten(2).transpose(1, 2).flatten(0, 1).double())
    seen = torch.cat(rows)
    square = seen.T @ seen
    # A strong ridge: large weights would amplify the rounding of the features.
    square += 0.01 * square.diagonal().mean() * torch.eye(len(square))
    weights = torch.linalg.solve(square, seen.T @ torch.cat(wanted)).T.float()
    t["out.2.weight"][:3] = weights[:, :-1].reshape(3, -1, 3, 3)
    t["out.2.bias"][:3] = weights[:, -1]
    return t


# The networks, from the formulas.


def linear(t: Table, name: str, x: Tensor) -> Tensor:
    weight = t[f"{name}.weight"]
    return F.linear(x, weight.view(weight.shape[0], weight.shape[1]), t[f"{name}.bias"])


def by_heads(x: Tensor, parts: int, head: int) -> list[Tensor]:
    """[b n parts*d] whose channels are ordered head by head, to `parts` of [b heads n head]."""
    b, n, width = x.shape
    split = x.view(b, n, width // (parts * head), parts, head)
    return [split[:, :, :, part].transpose(1, 2) for part in range(parts)]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def read(t: Table, shape: Shape, tokens: list[list[int]]) -> tuple[Tensor, Tensor]:
    """The states [b n d] of prompts, and what they add to the time [b time]."""
    rows = []
    for ids in tokens:
        ids = ids[: shape.context]
        known = t["token_embedding.weight"][ids] + t["positional_embedding"][: len(ids)]
        rows.append(torch.cat([known, t["padding_embedding"][len(ids) :]]))
    x = torch.stack(rows)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (shape.text,), t[f"{name}.weight"], t[f"{name}.bias"])

    for layer in range(shape.text_layers):
        block = f"transformer.resblocks.{layer}"
        q, k, v = by_heads(linear(t, f"{block}.attn.c_qkv", norm(f"{block}.ln_1", x)), 3, shape.head)
        x = x + linear(t, f"{block}.attn.c_proj", attend(q, k, v))
        inner = linear(t, f"{block}.mlp.c_fc", norm(f"{block}.ln_2", x))
        x = x + linear(t, f"{block}.mlp.c_proj", 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2))))
    x = norm("final_ln", x)
    return x, linear(t, "transformer_proj", x[:, -1])


def group_norm(t: Table, groups: int, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, groups, t[f"{name}.weight"], t[f"{name}.bias"])


def residual(t: Table, groups: int, name: str, x: Tensor, time: Tensor, resample: Callable[[Tensor], Tensor]) -> Tensor:
    """A residual block, which resamples between its first norm and its first convolution."""
    h = resample(F.silu(group_norm(t, groups, f"{name}.in_layers.0", x)))
    x = resample(x)
    h = F.conv2d(h, t[f"{name}.in_layers.2.weight"], t[f"{name}.in_layers.2.bias"], padding=1)
    scale, shift = linear(t, f"{name}.emb_layers.1", F.silu(time))[..., None, None].chunk(2, dim=1)
    h = F.silu(group_norm(t, groups, f"{name}.out_layers.0", h) * (1 + scale) + shift)
    h = F.conv2d(h, t[f"{name}.out_layers.3.weight"], t[f"{name}.out_layers.3.bias"], padding=1)
    if f"{name}.skip_connection.weight" in t:
        x = F.conv2d(x, t[f"{name}.skip_connection.weight"], t[f"{name}.skip_connection.bias"])
    return x + h


@dataclass(frozen=True)
class UNet:
    """A UNet with the text that it was told."""

    t: Table
    shape: Shape
    states: Tensor
    added: Tensor

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return F.conv2d(self.features(x, step), self.t["out.2.weight"], self.t["out.2.bias"], padding=1)

    def features(self, x: Tensor, step: int) -> Tensor:
        """What the last layer sees."""
        t, shape = self.t, self.shape
        half = shape.widths[0] // 2
        angles = step * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = torch.cat([angles.cos(), angles.sin()])[None]
        time = linear(t, "time_embed.2", F.silu(linear(t, "time_embed.0", time))) + self.added
        x = F.conv2d(x, t["input_blocks.0.0.weight"], t["input_blocks.0.0.bias"], padding=1)
        skips, number = [x], 1
        for level in range(len(shape.widths)):
            for _ in range(shape.layers):
                x = self.block(f"input_blocks.{number}", x, time)
                number += 1
                skips.append(x)
            if level < len(shape.widths) - 1:
                x = self.resnet(f"input_blocks.{number}.0", x, time, lambda x: F.avg_pool2d(x, 2))
                number += 1
                skips.append(x)
        x = self.resnet("middle_block.0", x, time)
        x = self.attention("middle_block.1", x)
        x = self.resnet("middle_block.2", x, time)
        for number in range(len(shape.widths) * (shape.layers + 1)):
            x = self.block(f"output_blocks.{number}", torch.cat([x, skips.pop()], dim=1), time)
        return F.silu(self.norm("out.0", x))

    def block(self, name: str, x: Tensor, time: Tensor) -> Tensor:
        x = self.resnet(f"{name}.0", x, time)
        if f"{name}.1.qkv.weight" in self.t:
            x = self.attention(f"{name}.1", x)
        for last in (1, 2):
            if f"{name}.{last}.in_layers.0.weight" in self.t:
                x = self.resnet(f"{name}.{last}", x, time, lambda x: F.interpolate(x, scale_factor=2))
        return x

    def norm(self, name: str, x: Tensor) -> Tensor:
        return group_norm(self.t, self.shape.groups, name, x)

    def resnet(self, name: str, x: Tensor, time: Tensor, resample: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
        return residual(self.t, self.shape.groups, name, x, time, resample)

    def attention(self, name: str, x: Tensor) -> Tensor:
        seen = self.norm(f"{name}.norm", x).flatten(2).transpose(1, 2)
        q, k, v = by_heads(linear(self.t, f"{name}.qkv", seen), 3, self.shape.head)
        told_k, told_v = by_heads(linear(self.t, f"{name}.encoder_kv", self.states), 2, self.shape.head)
        y = attend(q, torch.cat([told_k, k], dim=2), torch.cat([told_v, v], dim=2))
        return x + linear(self.t, f"{name}.proj_out", y).transpose(1, 2).view(x.shape)


# The diffusion: betas and respacing in float64.


def cosine() -> np.ndarray:
    level = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - level[1:] / level[:-1], 0.999)


def straight() -> np.ndarray:
    return np.linspace(1e-4, 0.02, 1000)


@dataclass(kw_only=True)
class Run:
    """One run of a respaced schedule."""

    betas: np.ndarray
    visits: list[int]
    """Ascending."""
    generator: torch.Generator
    put_in: Callable[[Tensor], Tensor] = lambda x0: x0
    seen: list[Tensor] = field(default_factory=list)
    """x after each step."""

    def __call__(self, predict: Callable[[Tensor, int], tuple[Tensor, Tensor]], x: Tensor, ddim: bool) -> Tensor:
        """`predict` gives the noise and the share of the variance; `x` may have a second half that is not used."""
        bars = np.cumprod(1 - self.betas)[self.visits]
        before = np.concatenate([[1.0], bars[:-1]])
        jumps = 1 - bars / before
        for i in reversed(range(len(bars))):
            eps, share = predict(x, self.visits[i])
            x0 = (x - math.sqrt(1 - bars[i]) * eps) / math.sqrt(bars[i])
            x0 = self.put_in(x0).clamp(-1, 1)
            noise = torch.randn(x.shape, generator=self.generator)
            if ddim:
                eps = (x / math.sqrt(bars[i]) - x0) / math.sqrt(1 / bars[i] - 1)
                x = math.sqrt(before[i]) * x0 + math.sqrt(1 - before[i]) * eps
            else:
                mean = (math.sqrt(before[i]) * jumps[i] * x0 + math.sqrt(1 - jumps[i]) * (1 - before[i]) * x) / (
                    1 - bars[i]
                )
                if i > 0:
                    small = math.log(jumps[i] * (1 - before[i]) / (1 - bars[i]))
                    log_variance = (share + 1) / 2 * math.log(jumps[i]) + (1 - share) / 2 * small
                    mean = mean + (0.5 * log_variance).exp() * noise
                x = mean
            self.seen.append(x)
        return x


FAST_27 = [0, 22, 44, 66, 88, 111, 133, 155, 177, 199, 200, 222, 244, 266, 288, 311, 333, 355, 377, 399, 400, 500, 599,
           600, 799, 800, 997]  # fmt: skip


def even(count: int) -> list[int]:
    """`count` visits; for these tests' counts the published sum and this product round alike."""
    return [round(k * 999 / (count - 1)) for k in range(count)]


@dataclass(frozen=True, kw_only=True)
class Known:
    """A picture at both sizes [1 3 s s] in [-1, 1], and the masks [1 1 s s] that are 1 where it is kept."""

    pictures: tuple[Tensor, Tensor]
    masks: tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Glide:
    """The chain of the notebooks. tables: of both UNets."""

    base: Table
    upsample: Table
    shapes: tuple[Shape, Shape]

    @torch.no_grad()
    def __call__(
        self,
        tokens: list[int],
        away: list[int],
        *,
        seed: int,
        steps: int,
        guidance: float,
        base_ddim: bool = False,
        known: Known | None = None,
        enlarging_ddim: bool = True,
        enlarging: list[int] = FAST_27,
        across: float = 1,
        painted: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor], torch.Generator]:
        """x after each step of both stages [1 3 s s], and the generator as it is then; `across` times as wide.

        The second stage enlarges `painted` [1 3 s s], or else what the first one has painted. It gets whole levels: a
        number near a half may be rounded the other way after a difference in its last digit, and is another picture.
        """
        generator = torch.Generator().manual_seed(seed)
        small, large = self.shapes
        net = UNet(self.base, small, *read(self.base, small, [tokens, away]))
        keep = None if known is None else (known.pictures[0] * known.masks[0], known.masks[0])

        def guided(x: Tensor, step: int) -> tuple[Tensor, Tensor]:
            half = torch.cat([x[:1], x[:1]])
            if keep is not None:
                half = torch.cat([half, *(torch.cat([part, part]) for part in keep)], dim=1)
            out = net(half, step)
            told, untold = out[:1, :3], out[1:, :3]
            eps = untold + guidance * (told - untold)
            return torch.cat([eps, eps]), out[:, 3:]

        run = Run(betas=cosine(), visits=even(steps), generator=generator, put_in=_put_in(known, 0))
        x_T = torch.randn((2, 3, small.side, int(across * small.side)), generator=generator)
        low = run(guided, x_T, base_ddim)[:1]
        low = low if painted is None else painted
        low = F.interpolate(
            ((low + 1) * 127.5).round() / 127.5 - 1, (large.side, int(across * large.side)), mode="bilinear"
        )
        net2 = UNet(self.upsample, large, *read(self.upsample, large, [tokens]))
        beside = [low] if known is None else [known.pictures[1] * known.masks[1], known.masks[1], low]

        def enlarged(x: Tensor, step: int) -> tuple[Tensor, Tensor]:
            out = net2(torch.cat([x, *beside], dim=1), step)
            return out[:, :3], out[:, 3:]

        again = Run(betas=straight(), visits=enlarging, generator=generator, put_in=_put_in(known, 1))
        x_T = torch.randn((1, 3, large.side, int(across * large.side)), generator=generator) * 0.997
        again(enlarged, x_T, enlarging_ddim)
        return [x[:1] for x in run.seen], again.seen, generator


def _put_in(known: Known | None, which: int) -> Callable[[Tensor], Tensor]:
    if known is None:
        return lambda x0: x0
    picture, mask = known.pictures[which], known.masks[which]
    return lambda x0: x0 * (1 - mask) + picture * mask


# A folder of a tiny model, by way of the published names.


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """A byte-level vocabulary with a few merges, and the end of text last, as GPT-2's."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["a t", "c at", "Ġ cat", "Ġ a", "o g", "d og", "Ġ dog"]
    tokens = [*letters, *(merge.replace(" ", "") for merge in merges), "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def write_vocabulary(folder: Path, vocab: str = "encoder.json", merges: str = "vocab.bpe") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ids, pairs = vocabulary()
    (folder / vocab).write_text(json.dumps(ids), encoding="utf-8")
    (folder / merges).write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")


def inpainting(shape: Shape) -> Shape:
    """The same with four channels more: what is known, and where."""
    return replace(shape, channels=shape.channels + 4)


TABLES: Mapping[str, tuple[Shape, int]] = {
    "decoder": (BASE, 1),
    "super_res": (UPSAMPLE, 2),
    "inpaint_decoder": (inpainting(BASE), 3),
    "inpaint_super_res": (inpainting(UPSAMPLE), 4),
}
"""The UNets by their parts, and the seeds of their tables."""


@cache
def chain(which: str = "") -> Glide:
    """The reference of the folder that `write` writes."""
    (small, first), (large, second) = TABLES[f"{which}decoder"], TABLES[f"{which}super_res"]
    return Glide(base=fitted(small, first), upsample=fitted(large, second), shapes=(small, large))


def write(folder: Path) -> Path:
    """Write a tiny random model in the layout of this project, all four networks."""
    from safetensors.torch import save_file

    from dallecli.weights.glide import SCHEDULERS, tower_of
    from dallecli.weights.guided_diffusion import read_unet

    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder / "tokenizer", "vocab.json", "merges.txt")
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": BASE.context}))
    for part, (shape, seed) in TABLES.items():
        tensors = fitted(shape, seed)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        tower, moves = tower_of(shapes, head_width=shape.head)
        unet = read_unet(
            {name: of for name, of in shapes.items() if name not in {m.source for m in moves}}, head_width=shape.head
        )
        prefix = "inpaint_" if part.startswith("inpaint_") else ""
        text = prefix + ("super_res_text_encoder" if part.endswith("super_res") else "text_encoder")
        config = {**unet.config, "sample_size": shape.side, "norm_num_groups": shape.groups}
        parts: list[tuple[str, str, Any, Any]] = [
            (text, "model", tower, moves), (part, "diffusion_pytorch_model", config, unet.moves)
        ]  # fmt: skip
        for name, stem, json_config, own in parts:
            (folder / name).mkdir()
            (folder / name / "config.json").write_text(json.dumps(json_config))
            split = {
                target: new.clone()
                for move in own
                for target, new in zip(move.targets, move.split(tensors[move.source]), strict=True)
            }
            save_file(split, folder / name / f"{stem}.safetensors", metadata={"format": "pt"})
    for part, config in SCHEDULERS.items():
        (folder / part).mkdir()
        (folder / part / "scheduler_config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "GlidePipeline"}))
    return folder
