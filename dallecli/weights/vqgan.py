"""A published VQGAN becomes a model folder: its tensors in the names of the network here. No torch.

    last.ckpt           of taming-transformers, with what it was trained with
    stage1_last.ckpt    of minDALL-E
    detoker.pt          of min-dalle: the decoder alone

The names inside are one way to write the same network, and flax has another (`decoder/up_4/block_0/…`, kernels with
their channels last). What it is built like is read from the shapes.

Source: the published code of Esser et al. 2021 (https://arxiv.org/abs/2012.09841) and its ports.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder
from dallecli.weights.checkpoints import make_folder, write_json, write_network
from dallecli.weights.convert import convert
from dallecli.weights.guided_diffusion import Move, Shapes
from dallecli.weights.header import read_header

SYMMETRIC: Final = "[-1, 1]"
LEVELS: Final = "[0, 1]"

FILES: Final[Mapping[str, str]] = {"last.ckpt": SYMMETRIC, "stage1_last.ckpt": SYMMETRIC, "detoker.pt": LEVELS}
"""The published files, and the range of the pixels that each is used with."""

PARTS: Final = ("encoder", "decoder")
WEIGHTS: Final = "model.safetensors"
HINT: Final = "fetch it again; see docs/guides/codes.md"

SIDE: Final = 256
"""The pixels on a side of the pictures that it was trained with."""

EPS: Final = 1e-6
"""The epsilon of its norms, and which groups they have: no shape tells. A port of it has another, by mistake."""
GROUPS: Final = 32

_AROUND: Final[Mapping[str, tuple[str, str]]] = {
    "quantize.embedding.weight": ("decoder", "quantize.embedding.weight"),
    "embedding.weight": ("decoder", "quantize.embedding.weight"),
    **{f"quant_conv.{kind}": ("encoder", f"quant_conv.{kind}") for kind in ("weight", "bias")},
    **{f"post_quant_conv.{kind}": ("decoder", f"post_quant_conv.{kind}") for kind in ("weight", "bias")},
}
"""What is beside the blocks: the part that it belongs to, and its name there."""

_BLOCK: Final = {"nin_shortcut": "conv_shortcut"}
_ATTENTION: Final = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_ENDS: Final = {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"}
_MIDDLE: Final = {"block_1": "resnets.0", "attn_1": "attentions.0", "block_2": "resnets.1"}
_IN_LEVEL: Final = re.compile(r"(?:down|up)\.(\d{1,2})\.(block|attn)\.(\d+)\.(\w+)")
_SAMPLER: Final = re.compile(r"(?:down|up)\.(\d{1,2})\.(down|up)sample\.conv")
_IN_MIDDLE: Final = re.compile(r"mid\.(block_1|attn_1|block_2)\.(\w+)")

_LEVEL: Final = re.compile(r"^(?:encoder|decoder)\.(?:up|down)\.(\d{1,2})\.")
_MATRIX: Final = re.compile(r"\.to_(?:q|k|v|out\.0)\.weight$")

_TRAINING: Final = "loss."
"""What the names of tensors begin with that are needed in training only."""

_KERNEL: Final = (3, 2, 0, 1)
"""The axes of flax's kernels, in torch's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """An encoder or a decoder of a checkpoint: the config of its network, and where all its tensors go."""

    config: dict[str, Any]
    moves: tuple[Move, ...]


def convert_vqgan(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Make a model folder of a folder with a published file; `target` appears when it is complete.

    Returns the published file for each that its tensors are in now. dtypes stay.

    Raises: as `convert.convert`; BadFolder if there are two such files; BadFile if it is not what its name says;
    LayoutMismatch if tensors are missing or misshaped; BadOutput if `target` cannot be written.
    """
    here = [name for name in FILES if (source / name).is_file()]
    if len(here) != 1:
        raise BadFolder(
            f"there are several models here: {', '.join(here)}", str(source), "put each into its own folder"
        )
    made: dict[str, str] = {}
    make_folder(target, lambda draft: made.update(write_vqgan(source, draft)))
    return [(source / name, target / path) for path, name in made.items() if path.endswith(WEIGHTS)]


def write_vqgan(source: Path, draft: Path) -> dict[str, str]:
    """Write what a published file in a folder becomes into a new one.

    Returns the written files, by their paths in the new folder, and the published file that each is made of.
    """
    name = next(name for name in FILES if (source / name).is_file())
    draft.mkdir(parents=True)
    raw = draft / f"{name}.safetensors"
    convert({source / name: raw})
    parts = write_halves(raw, FILES[name], {part: draft / part for part in PARTS}, source / name)
    raw.unlink()
    write_json(draft / "model_index.json", {"_class_name": "VQModel"})
    paths = [f"{part}/{file}" for part in parts for file in ("config.json", WEIGHTS)]
    return dict.fromkeys([*paths, "model_index.json"], name)


def write_halves(raw: Path, pixel_range: str, folders: Mapping[str, Path], origin: Path) -> list[str]:
    """Write the halves of a VQGAN, whose published tensors are in `raw`, into a folder each.

    folders: of those of the `PARTS` that are wanted. Returns those that were there. Raises BadFile, which names
    `origin`, for another network.
    """
    try:
        halves = read_vqgan({name: entry.shape for name, entry in read_header(raw).items()}, pixel_range)
    except ValueError as problem:
        raise BadFile(f"this is not a VQGAN: {problem}", str(origin), HINT) from problem
    written = [part for part in halves if part in folders]
    for part in written:
        write_network(raw, halves[part].config, halves[part].moves, folders[part] / WEIGHTS)
    return written


def read_vqgan(shapes: Shapes, pixel_range: str) -> dict[str, Half]:
    """The decoder with these tensors, by its part, and the encoder if there is one.

    shapes: of all tensors in a checkpoint, in the names of torch or of flax; those for training are left out.
    pixel_range: `SYMMETRIC` or `LEVELS`.

    Raises ValueError, in words, if it is another network.
    """
    plain = {source: _torch_name(source) for source in shapes if not source.startswith(_TRAINING)}
    levels = max((int(found[1]) for name in plain.values() if (found := _LEVEL.search(name))), default=-1) + 1
    moves: dict[str, list[Move]] = {part: [] for part in PARTS}
    for source, name in plain.items():
        part, target = _target(name, levels)
        flat = bool(_MATRIX.search(target))
        order = _KERNEL if source.endswith("/kernel") else None
        if len(shapes[source]) != 4 and (flat or order is not None):
            raise ValueError(f"{source} is {list(shapes[source])}, which is no kernel of a convolution")
        moves[part].append(Move(source=source, targets=(target,), flat=flat, order=order))
    own = dict(pair for move in moves["decoder"] for pair in move.shapes(shapes))
    config = _config(own, levels) | {"pixel_range": pixel_range}
    return {part: Half(config=config, moves=tuple(moves[part])) for part in PARTS if moves[part]}


def _torch_name(source: str) -> str:
    """The name of a tensor in torch's checkpoints, also of one from flax."""
    if "/" not in source:
        return source
    *path, kind = source.split("/")
    kind = "bias" if kind == "bias" else "weight"
    if "mid" in path:
        return ".".join([*path, kind])
    return ".".join([re.sub(r"^(up|down|block|attn)_(\d+)$", r"\1.\2", name) for name in path] + [kind])


def _target(name: str, levels: int) -> tuple[str, str]:
    """The part that a tensor belongs to, and its name there. Raises ValueError if no VQGAN has it."""
    if name in _AROUND:
        return _AROUND[name]
    part, _, rest = name.partition(".")
    module, _, kind = rest.rpartition(".")
    if part not in PARTS or kind not in ("weight", "bias"):
        raise ValueError(f"it has a tensor {name}")
    return part, f"{part}.{_module(module, part, levels)}.{kind}"


def _module(module: str, part: str, levels: int) -> str:
    """The name here of a module in the blocks of a part."""
    blocks = "down_blocks" if part == "encoder" else "up_blocks"

    def level(number: str) -> str:  # the decoder's are counted from the codes up
        return f"{blocks}.{number if part == 'encoder' else levels - 1 - int(number)}"

    if module in _ENDS:
        return _ENDS[module]
    if (found := _IN_MIDDLE.fullmatch(module)) is not None:
        return f"mid_block.{_MIDDLE[found[1]]}.{_within(found[2], found[1])}"
    if (found := _IN_LEVEL.fullmatch(module)) is not None:
        kind = "resnets" if found[2] == "block" else "attentions"
        return f"{level(found[1])}.{kind}.{found[3]}.{_within(found[4], found[2])}"
    if (found := _SAMPLER.fullmatch(module)) is not None:
        return f"{level(found[1])}.{found[2]}samplers.0.conv"
    raise ValueError(f"it has a tensor {part}.{module}")


def _within(name: str, kind: str) -> str:
    return (_ATTENTION if kind.startswith("attn") else _BLOCK).get(name, name)


def _config(own: Shapes, levels: int) -> dict[str, Any]:
    """The config of both halves, from the decoder's shapes. Raises ValueError if it is none."""
    layers = sum(f"decoder.up_blocks.0.resnets.{layer}.conv1.bias" in own for layer in range(len(own))) - 1
    attends = [f"decoder.up_blocks.{level}.attentions.0.group_norm.bias" in own for level in range(levels)]
    try:
        (codes, width), latent = own["quantize.embedding.weight"], own["decoder.conv_in.weight"][1]
        widths = [own[f"decoder.up_blocks.{level}.resnets.0.conv1.bias"][0] for level in range(levels)]
    except KeyError as missing:
        raise ValueError(f"it has no tensor that becomes {missing.args[0]}") from missing
    return {
        "_class_name": "VQModel",
        "sample_size": SIDE,
        "block_out_channels": widths[::-1],
        "layers_per_block": layers,
        "down_block_types": ["AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends[::-1]],
        "up_block_types": ["AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in attends],
        "latent_channels": latent,
        "vq_embed_dim": width,
        "num_vq_embeddings": codes,
        "norm_num_groups": GROUPS,
        "norm_eps": EPS,
    }
