"""A reference of DALL·E 1's autoencoder, from the formulas of its paper and published code, on tensors by their names.

It shares nothing with dallecli: networks are functions of a table of tensors. `pickled` writes such a table as OpenAI
published it, a module pickled whole with classes that nobody has here.
"""

import json
import math
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

Table = dict[str, Tensor]

VOCABULARY, HIDDEN, INIT, BLOCKS, GROUPS = 24, 8, 6, 2, 4
KERNELS = {"encoder": (3, 3, 3, 1), "decoder": (1, 3, 3, 3)}


def widths(part: str) -> list[int]:
    """The widths of a tiny network's groups, in the order in which they run."""
    rising = [HIDDEN * 2**group for group in range(GROUPS)]
    return rising if part == "encoder" else rising[::-1]


def table(part: str, seed: int = 0) -> Table:
    """Random tensors in the published names."""
    generator, made = torch.Generator().manual_seed(seed), Table()

    def conv(name: str, channels: int, out: int, kernel: int) -> None:
        scale = 1.4 / math.sqrt(channels * kernel**2)
        made[f"{name}.w"] = torch.randn(out, channels, kernel, kernel, generator=generator) * scale
        made[f"{name}.b"] = torch.randn(out, generator=generator) * 0.1

    groups = widths(part)
    width = groups[0] if part == "encoder" else INIT
    conv("blocks.input", 3 if part == "encoder" else VOCABULARY, width, 7 if part == "encoder" else 1)
    for group, out in enumerate(groups, start=1):
        for block in range(1, BLOCKS + 1):
            name, inside = f"blocks.group_{group}.block_{block}", out // 4
            if width != out:
                conv(f"{name}.id_path", width, out, 1)
            ends = [width, inside, inside, inside, out]
            for number, kernel in enumerate(KERNELS[part], start=1):
                conv(f"{name}.res_path.conv_{number}", ends[number - 1], ends[number], kernel)
            width = out
    conv("blocks.output.conv", width, VOCABULARY if part == "encoder" else 6, 1)
    for name in made:  # the residual paths are small beside the identity: let them be seen
        if "res_path.conv_4" in name:
            made[name] *= 64
    return made


# The formulas.


def conv(table: Table, name: str, x: Tensor) -> Tensor:
    w = table[f"{name}.w"]
    return F.conv2d(x, w, table[f"{name}.b"], padding=(w.shape[-1] - 1) // 2)


def groups(table: Table, x: Tensor, part: str) -> Tensor:
    for group in range(1, GROUPS + 1):
        for block in range(1, BLOCKS + 1):
            name = f"blocks.group_{group}.block_{block}"
            inner = x
            for number in (1, 2, 3, 4):
                inner = conv(table, f"{name}.res_path.conv_{number}", inner.clamp(min=0))
            straight = conv(table, f"{name}.id_path", x) if f"{name}.id_path.w" in table else x
            x = straight + inner / (GROUPS * BLOCKS) ** 2
        if group < GROUPS:
            x = F.max_pool2d(x, 2) if part == "encoder" else x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return conv(table, "blocks.output.conv", x.clamp(min=0))


def logits(table: Table, pixels: Tensor) -> Tensor:
    return groups(table, conv(table, "blocks.input", pixels), "encoder")


def statistics(table: Table, codes: Tensor) -> Tensor:
    one_hot = F.one_hot(codes.long(), table["blocks.input.w"].shape[1]).permute(0, 3, 1, 2).float()
    return groups(table, conv(table, "blocks.input", one_hot), "decoder")


def prepared(image: Image.Image, size: int) -> Tensor:
    """A picture as the notebook prepares it: its shorter side scaled, the middle, [0, 1], squeezed."""
    ratio = size / min(image.size)
    scaled = image.resize((round(ratio * image.width), round(ratio * image.height)), Image.Resampling.LANCZOS)
    top, left = round((scaled.height - size) / 2.0), round((scaled.width - size) / 2.0)
    array = np.asarray(scaled)[top : top + size, left : left + size]
    return 0.8 * (torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255) + 0.1


def codes_of(image: Image.Image, size: int, seed: int = 0) -> Tensor:
    return logits(table("encoder", seed), prepared(image, size)).argmax(dim=1)


def picture_of(codes: Tensor, seed: int = 0) -> np.ndarray[Any, Any]:
    """Levels [h w 3] from 0 to 255, before rounding."""
    means = statistics(table("decoder", seed), codes)[0, :3].sigmoid()
    return (((means - 0.1) / 0.8).clamp(0, 1) * 255).permute(1, 2, 0).numpy()


# The files.


@contextmanager
def foreign_classes() -> Iterator[dict[str, type[nn.Module]]]:
    """The classes of the published pickles, which can be imported while they are written, and not afterwards."""
    homes = {"dall_e.encoder": ("Encoder", "EncoderBlock"), "dall_e.decoder": ("Decoder", "DecoderBlock")}
    homes["dall_e.utils"] = ("Conv2d",)
    modules = {name: types.ModuleType(name) for name in ("dall_e", *homes)}
    classes = {}
    for home, names in homes.items():
        for name in names:
            classes[name] = type(name, (nn.Module,), {"__module__": home})
            setattr(modules[home], name, classes[name])
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for name in modules:
            del sys.modules[name]


def module_of(table: Table, part: str, classes: dict[str, type[nn.Module]]) -> nn.Module:
    """A table as the tree of modules that the published files hold."""
    whole = classes[part.capitalize()]()
    whole.device, whole.requires_grad, whole.use_mixed_precision = torch.device("cpu"), False, True
    for key, tensor in table.items():
        *path, leaf = key.split(".")
        here: nn.Module = whole
        for name in path:
            if name not in here._modules:
                here.add_module(name, _container(name, part, classes))
            here = here._modules[name]  # type: ignore[assignment]
        here.register_parameter(leaf, nn.Parameter(tensor))
    for group in list(whole.blocks._modules)[1:4]:  # type: ignore[union-attr]
        last = nn.MaxPool2d(2) if part == "encoder" else nn.Upsample(scale_factor=2, mode="nearest")
        whole.blocks.get_submodule(group).add_module("pool" if part == "encoder" else "upsample", last)  # type: ignore[union-attr]
    return whole


def _container(name: str, part: str, classes: dict[str, type[nn.Module]]) -> nn.Module:
    if name in ("input", "id_path", "conv") or name.startswith("conv_"):
        return classes["Conv2d"]()
    if name.startswith("block_"):
        block = classes[f"{part.capitalize()}Block"]()
        block.add_module("id_path", nn.Identity())
        return block
    return nn.Sequential(*([nn.ReLU()] if name == "res_path" else []))


def write_published(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Write encoder.pkl and decoder.pkl of a tiny model."""
    folder.mkdir(parents=True, exist_ok=True)
    with foreign_classes() as classes:
        for part in KERNELS:
            torch.save(module_of(table(part, seed), part, classes), folder / f"{part}.pkl", **options)
    return folder


def write(folder: Path, seed: int = 0, **tables: Table) -> Path:
    """Write a model folder as a conversion makes it, with other tables for its parts if any are given."""
    for part in KERNELS:
        (folder / part).mkdir(parents=True)
        save_file(tables.get(part, table(part, seed)), folder / part / "model.safetensors")
        config = {"vocab_size": VOCABULARY, "block_out_channels": widths("encoder"), "layers_per_block": BLOCKS}
        config |= {"sample_size": 256, "init_channels": INIT}
        (folder / part / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "DiscreteVAE"}))
    return folder
