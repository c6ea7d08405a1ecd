"""A reference of VQGAN, from the formulas of its paper and published code, on tensors by their names in checkpoints.

Networks are functions of a table of tensors, and share nothing with those of dallecli. The published groups of norms
are kept, 32, so a tiny network is 32 wide.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from dvae_oracle import prepared
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from dallecli.weights.vqgan import write_halves

Table = dict[str, Tensor]

CODES, WIDTH, LATENT = 24, 6, 32
CHANNELS = (32, 64)
"""Of the levels, whole pixels first; codes stand for 2 by 2 pixels."""
BLOCKS = 1


class Draft:
    """Random tensors in the published names, layer by layer."""

    def __init__(self, seed: int) -> None:
        self.t, self.generator = Table(), torch.Generator().manual_seed(seed)

    def conv(self, name: str, inside: int, out: int, kernel: int) -> None:
        scale = 1.4 / math.sqrt(inside * kernel**2)
        self.t[f"{name}.weight"] = torch.randn(out, inside, kernel, kernel, generator=self.generator) * scale
        self.t[f"{name}.bias"] = torch.randn(out, generator=self.generator) * 0.1

    def norm(self, name: str, width: int) -> None:
        self.t[f"{name}.weight"] = 1 + torch.randn(width, generator=self.generator) * 0.1
        self.t[f"{name}.bias"] = torch.randn(width, generator=self.generator) * 0.1

    def block(self, name: str, inside: int, out: int) -> None:
        self.norm(f"{name}.norm1", inside)
        self.conv(f"{name}.conv1", inside, out, 3)
        self.norm(f"{name}.norm2", out)
        self.conv(f"{name}.conv2", out, out, 3)
        if inside != out:
            self.conv(f"{name}.nin_shortcut", inside, out, 1)

    def attention(self, name: str, width: int) -> None:
        self.norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            self.conv(f"{name}.{part}", width, width, 1)

    def middle(self, name: str) -> None:
        self.block(f"{name}.block_1", CHANNELS[-1], CHANNELS[-1])
        self.attention(f"{name}.attn_1", CHANNELS[-1])
        self.block(f"{name}.block_2", CHANNELS[-1], CHANNELS[-1])

    def level(self, name: str, inside: int, level: int, blocks: int) -> None:
        for number in range(blocks):
            self.block(f"{name}.{level}.block.{number}", CHANNELS[level] if number else inside, CHANNELS[level])
            if level == len(CHANNELS) - 1:
                self.attention(f"{name}.{level}.attn.{number}", CHANNELS[level])

    def encoder(self) -> None:
        self.conv("encoder.conv_in", 3, CHANNELS[0], 3)
        for level, width in enumerate(CHANNELS):
            self.level("encoder.down", CHANNELS[max(level - 1, 0)], level, BLOCKS)
            if level < len(CHANNELS) - 1:
                self.conv(f"encoder.down.{level}.downsample.conv", width, width, 3)
        self.middle("encoder.mid")
        self.norm("encoder.norm_out", CHANNELS[-1])
        self.conv("encoder.conv_out", CHANNELS[-1], LATENT, 3)

    def decoder(self) -> None:
        self.conv("decoder.conv_in", LATENT, CHANNELS[-1], 3)
        self.middle("decoder.mid")
        for level, width in reversed(list(enumerate(CHANNELS))):
            self.level("decoder.up", CHANNELS[min(level + 1, len(CHANNELS) - 1)], level, BLOCKS + 1)
            if level > 0:
                self.conv(f"decoder.up.{level}.upsample.conv", width, width, 3)
        self.norm("decoder.norm_out", CHANNELS[0])
        self.conv("decoder.conv_out", CHANNELS[0], 3, 3)


def table(seed: int = 0) -> Table:
    """Random tensors in the published names, of both halves."""
    draft = Draft(seed)
    draft.encoder()
    draft.conv("quant_conv", LATENT, WIDTH, 1)
    draft.t["quantize.embedding.weight"] = torch.randn(CODES, WIDTH, generator=draft.generator)
    draft.conv("post_quant_conv", WIDTH, LATENT, 1)
    draft.decoder()
    return draft.t


# The formulas.


class Reference:
    """Both halves as functions, with the epsilon of norms."""

    def __init__(self, tensors: Table, eps: float = 1e-6) -> None:
        self.t, self.eps = tensors, eps

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.t[f"{name}.weight"]
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(x, weight, self.t[f"{name}.bias"], stride, padding)

    def norm(self, name: str, x: Tensor) -> Tensor:
        parts = x.unflatten(1, (32, -1)).flatten(2)
        mean, var = parts.mean(dim=2, keepdim=True), parts.var(dim=2, keepdim=True, unbiased=False)
        y = ((parts - mean) / (var + self.eps).sqrt()).reshape(x.shape)
        return y * self.t[f"{name}.weight"][:, None, None] + self.t[f"{name}.bias"][:, None, None]

    def swish(self, name: str, x: Tensor) -> Tensor:
        y = self.norm(name, x)
        return y * torch.sigmoid(y)

    def block(self, name: str, x: Tensor) -> Tensor:
        y = self.conv(f"{name}.conv1", self.swish(f"{name}.norm1", x))
        y = self.conv(f"{name}.conv2", self.swish(f"{name}.norm2", y))
        return y + (self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.t else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.q.weight" not in self.t:
            return x
        y = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", y).flatten(2) for part in "qkv")
        shares = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=2)
        return x + self.conv(f"{name}.proj_out", (v @ shares.transpose(1, 2)).view(x.shape))

    def middle(self, name: str, x: Tensor) -> Tensor:
        x = self.attention(f"{name}.attn_1", self.block(f"{name}.block_1", x))
        return self.block(f"{name}.block_2", x)

    def count(self, prefix: str) -> int:
        return len({name.split(".")[2] for name in self.t if name.startswith(prefix)})

    def vectors(self, pixels: Tensor) -> Tensor:
        """What the encoder makes of pixels in its range."""
        x = self.conv("encoder.conv_in", pixels)
        levels = self.count("encoder.down.")
        for level in range(levels):
            number = 0
            while f"encoder.down.{level}.block.{number}.conv1.weight" in self.t:
                x = self.block(f"encoder.down.{level}.block.{number}", x)
                x = self.attention(f"encoder.down.{level}.attn.{number}", x)
                number += 1
            if level < levels - 1:
                x = self.conv(f"encoder.down.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
        x = self.conv("encoder.conv_out", self.swish("encoder.norm_out", self.middle("encoder.mid", x)))
        return self.conv("quant_conv", x)

    def codes(self, pixels: Tensor) -> Tensor:
        book = self.t["quantize.embedding.weight"]
        apart = self.vectors(pixels)[:, None] - book[:, :, None, None]
        return apart.square().sum(dim=2).argmin(dim=1)

    def pixels(self, codes: Tensor) -> Tensor:
        """What the decoder makes of codes, in its range."""
        x = self.conv("post_quant_conv", self.t["quantize.embedding.weight"][codes.long()].permute(0, 3, 1, 2))
        x = self.middle("decoder.mid", self.conv("decoder.conv_in", x))
        for level in range(self.count("decoder.up.") - 1, -1, -1):
            number = 0
            while f"decoder.up.{level}.block.{number}.conv1.weight" in self.t:
                x = self.block(f"decoder.up.{level}.block.{number}", x)
                x = self.attention(f"decoder.up.{level}.attn.{number}", x)
                number += 1
            if level > 0:
                x = self.conv(f"decoder.up.{level}.upsample.conv", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
        return self.conv("decoder.conv_out", self.swish("decoder.norm_out", x))


def codes_of(image: Image.Image, size: int, tensors: Table, *, symmetric: bool) -> Tensor:
    """The codes of a picture, prepared as for DALL·E 1's autoencoder but for the range of its pixels."""
    levels = (prepared(image, size) - 0.1) / 0.8
    return Reference(tensors).codes(levels * 2 - 1 if symmetric else levels)


def picture_of(codes: Tensor, tensors: Table, *, symmetric: bool) -> np.ndarray[Any, Any]:
    """Levels [h w 3] from 0 to 255, before rounding."""
    pixels = Reference(tensors).pixels(codes)[0]
    levels = (pixels.clamp(-1, 1) + 1) / 2 if symmetric else pixels.clamp(0, 1)
    return (levels * 255).permute(1, 2, 0).numpy()


# The files.


def in_flax(tensors: Table) -> Table:
    """The same tensors in the names and the order of flax."""
    made = Table()
    for name, tensor in tensors.items():
        *path, kind = name.split(".")
        whole = "/".join(path)
        for word in ("down", "up", "block", "attn"):
            for number in range(len(CHANNELS) + BLOCKS + 1):
                whole = whole.replace(f"/{word}/{number}", f"/{word}_{number}")
        if tensor.ndim == 4:
            made[f"{whole}/kernel"] = tensor.permute(2, 3, 1, 0).contiguous()
        elif kind == "weight":
            made[f"{whole}/{'embedding' if 'embedding' in whole else 'scale'}"] = tensor
        else:
            made[f"{whole}/bias"] = tensor
    return made


def decoder_alone(tensors: Table) -> Table:
    """The tensors of min-dalle's `detoker.pt`."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(("encoder.", "quant_conv."))}
    return {name.replace("quantize.", ""): tensor for name, tensor in kept.items()}


def write_published(folder: Path, name: str, seed: int = 0, **options: Any) -> Path:
    """Write the checkpoint of a tiny model as its publishers do: `last.ckpt`, `stage1_last.ckpt` or `detoker.pt`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Any] = table(seed)
    if name == "detoker.pt":
        tensors = decoder_alone(tensors)
    if name == "last.ckpt":
        tensors = {"loss.discriminator.main.0.weight": torch.ones(2, 3, 4, 4), **tensors}
    content = tensors if name == "detoker.pt" else {"epoch": 3, "state_dict": tensors}
    torch.save(content, folder / name, **options)
    return folder


def write(folder: Path, tensors: Table, pixel_range: str) -> Path:
    """Write a model folder as a conversion makes it."""
    (folder / "raw").mkdir(parents=True)
    save_file(tensors, folder / "raw" / "x.safetensors")
    folders = {part: folder / part for part in ("encoder", "decoder")}
    write_halves(folder / "raw" / "x.safetensors", pixel_range, folders, folder)
    shutil.rmtree(folder / "raw")
    (folder / "model_index.json").write_text('{"_class_name": "VQModel"}')
    return folder
