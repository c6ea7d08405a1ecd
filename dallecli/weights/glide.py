"""GLIDE's published files become a model folder: four checkpoints and GPT-2's vocabulary.

    base.pt, upsample.pt                      needed
    base_inpaint.pt, upsample_inpaint.pt      for inpainting, both or neither
    encoder.json, vocab.bpe                   or vocab.json and merges.txt, which are the same

Each checkpoint is a UNet with its text tower in one table of tensors. They are opened as every pickle is (convert.py),
parted, and renamed.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder
from dallecli.weights.checkpoints import make_folder, write_json, write_network
from dallecli.weights.convert import convert
from dallecli.weights.guided_diffusion import GAUSSIAN, Move, Shapes, read_unet
from dallecli.weights.header import read_header

HEAD_WIDTH: Final = 64
"""Of every attention head, in UNets and text towers; no shape tells it."""

CONTEXT: Final = 128
"""The tokens that every text tower reads."""

SCHEDULERS: Final[Mapping[str, dict[str, Any]]] = {
    "decoder_scheduler": {**GAUSSIAN, "beta_schedule": "squaredcos_cap_v2"},
    "super_res_scheduler": {
        **GAUSSIAN, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "respacings": ["fast27"]
    },
}  # fmt: skip
"""As in the published code, which has them as arguments."""

VOCABULARIES: Final = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""The names of GPT-2's two files: those of the Hub, and OpenAI's own."""

_BLOCK: Final = {
    "attn.c_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.c_proj": ("self_attn.out_proj",),
    "ln_1": ("layer_norm1",),
    "ln_2": ("layer_norm2",),
    "mlp.c_fc": ("mlp.fc1",),
    "mlp.c_proj": ("mlp.fc2",),
}
_TOWER: Final = {
    "token_embedding.weight": "token_embedding.weight",
    "positional_embedding": "position_embedding.weight",
    "padding_embedding": "padding_embedding.weight",
    **{f"final_ln.{kind}": f"final_layer_norm.{kind}" for kind in ("weight", "bias")},
    **{f"transformer_proj.{kind}": f"time_projection.{kind}" for kind in ("weight", "bias")},
}
_IN_TOWER: Final = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published checkpoint: the parts that it becomes, the channels that its UNet sees, and the side it paints."""

    tower: str
    unet: str
    channels: int
    side: int


CHECKPOINTS: Final[Mapping[str, Checkpoint]] = {
    "base.pt": Checkpoint(tower="text_encoder", unet="decoder", channels=3, side=64),
    "upsample.pt": Checkpoint(tower="super_res_text_encoder", unet="super_res", channels=6, side=256),
    "base_inpaint.pt": Checkpoint(tower="inpaint_text_encoder", unet="inpaint_decoder", channels=7, side=64),
    "upsample_inpaint.pt": Checkpoint(
        tower="inpaint_super_res_text_encoder", unet="inpaint_super_res", channels=10, side=256
    ),
}
"""By their names; the first two are needed."""


def convert_glide(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Make a model folder of a folder with the published files; `target` appears when it is complete.

    Returns, for each checkpoint, the files that its tensors are in now. dtypes stay.

    Raises: as `convert.convert`; BadFolder if a file is missing; BadFile if one is not what its name says;
    LayoutMismatch if tensors are missing or misshaped; BadOutput if `target` cannot be written.
    """
    here = _present(source)
    make_folder(target, lambda draft: write_glide(source, draft))
    return [(source / name, target / part / file) for name in here for part, file in _files(CHECKPOINTS[name])]


def write_glide(source: Path, draft: Path) -> dict[str, str]:
    """Write what the published files in a folder become into a new one, as far as they are there.

    Returns the written files, by their paths in the new folder, and the published file that each is made of.
    """
    draft.mkdir(parents=True)
    made = _write_tokenizer(source, draft / "tokenizer")
    raws = {name: draft / f"{name}.safetensors" for name in CHECKPOINTS if (source / name).is_file()}
    convert({source / name: raw for name, raw in raws.items()})  # in one process: it takes seconds to start
    for name, raw in raws.items():
        _write_networks(source / name, raw, CHECKPOINTS[name], draft)
        raw.unlink()
        made |= {f"{part}/{file}": name for part, own in _files(CHECKPOINTS[name]) for file in ("config.json", own)}
        if name == "base.pt":
            for part, config in SCHEDULERS.items():
                write_json(draft / part / "scheduler_config.json", config)
            write_json(draft / "model_index.json", {"_class_name": "GlidePipeline"})
            made |= dict.fromkeys((*(f"{part}/scheduler_config.json" for part in SCHEDULERS), "model_index.json"), name)
    return made


def _files(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The parts of a checkpoint, and the names of their weights."""
    return [(checkpoint.tower, "model.safetensors"), (checkpoint.unet, "diffusion_pytorch_model.safetensors")]


def _present(source: Path) -> list[str]:
    """The checkpoints that are here. Raises BadFolder if one is missing."""
    here = [name for name in CHECKPOINTS if (source / name).is_file()]
    needed, painters = list(CHECKPOINTS)[:2], list(CHECKPOINTS)[2:]
    needed += painters if any(name in here for name in painters) else []
    for name in needed:
        if name not in here:
            raise BadFolder(f"{name} of GLIDE is missing", str(source), f"put it there, beside {', '.join(here)}")
    if _vocabulary(source) is None:
        hint = "put GPT-2's encoder.json and vocab.bpe there; see docs/guides/glide.md"
        raise BadFolder("GPT-2's vocabulary, which GLIDE reads with, is missing", str(source), hint)
    return here


def _vocabulary(source: Path) -> tuple[str, str] | None:
    """The names of GPT-2's two files in a folder; None if they are not there."""
    return next((names for names in VOCABULARIES if all((source / name).is_file() for name in names)), None)


def _write_tokenizer(source: Path, folder: Path) -> dict[str, str]:
    """Copy GPT-2's vocabulary, if it is there."""
    names = _vocabulary(source)
    if names is None:
        return {}
    for name, own in zip(names, VOCABULARIES[0], strict=True):
        _copy(source / name, folder / own)
    write_json(folder / "tokenizer_config.json", {"model_max_length": CONTEXT})
    vocab, merges = (f"{folder.name}/{own}" for own in VOCABULARIES[0])
    return {vocab: names[0], merges: names[1], f"{folder.name}/tokenizer_config.json": names[0]}


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(file, target)


def _write_networks(file: Path, raw: Path, checkpoint: Checkpoint, draft: Path) -> None:
    """Part the tensors of a checkpoint, which are in `raw`, into the folders of its text tower and its UNet."""
    shapes = {name: entry.shape for name, entry in read_header(raw).items()}
    try:
        parts = parts_of(shapes, checkpoint)
    except ValueError as problem:
        hint = "fetch it again; see docs/guides/glide.md"
        raise BadFile(f"this is not GLIDE's {file.name}: {problem}", str(file), hint) from problem
    for (part, config, moves), (_, name) in zip(parts, _files(checkpoint), strict=True):
        write_network(raw, config, moves, draft / part / name)


def tower_of(shapes: Shapes, *, head_width: int = HEAD_WIDTH) -> tuple[dict[str, Any], list[Move]]:
    """The config of the text tower in a checkpoint, and where its tensors go. Raises ValueError if there is none."""
    moves = [Move(source=source, targets=(name,)) for source, name in _TOWER.items() if source in shapes]
    layers = set()
    for source in shapes:
        match = _IN_TOWER.fullmatch(source)
        if match is None or match[2] not in _BLOCK:
            continue
        layers.add(match[1])
        targets = tuple(f"encoder.layers.{match[1]}.{name}.{match[3]}" for name in _BLOCK[match[2]])
        heads = shapes[source][0] // (len(targets) * head_width)
        moves.append(Move(source=source, targets=targets, heads=heads if len(targets) > 1 else None))
    try:
        vocab, width = shapes["token_embedding.weight"]
        config = {
            "vocab_size": vocab,
            "hidden_size": width,
            "intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
            "num_hidden_layers": len(layers),
            "num_attention_heads": width // head_width,
            "max_position_embeddings": shapes["padding_embedding"][0],
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "projection_dim": shapes["transformer_proj.weight"][0],
        }
    except KeyError as missing:
        raise ValueError(f"it has no tensor {missing.args[0]}") from missing
    if width < head_width or width % head_width:
        raise ValueError(f"its text tower is {width} wide, which heads of {head_width} cannot share")
    return config, moves


def parts_of(shapes: Shapes, checkpoint: Checkpoint) -> list[tuple[str, dict[str, Any], Sequence[Move]]]:
    """The text tower and the UNet of a checkpoint with these tensors: the part, its config, and where its tensors go.

    Raises ValueError, in words, if it is not such a checkpoint.
    """
    tower, moves = tower_of(shapes)
    read = {move.source for move in moves}
    unet = read_unet({name: shape for name, shape in shapes.items() if name not in read}, head_width=HEAD_WIDTH)
    if unet.in_channels != checkpoint.channels:
        looks = next((name for name, other in CHECKPOINTS.items() if other.channels == unet.in_channels), None)
        what = f"its UNet sees {unet.in_channels} channels, not {checkpoint.channels}"
        raise ValueError(f"{what}: it looks like {looks}" if looks is not None else what)
    config = {**unet.config, "sample_size": checkpoint.side}
    return [(checkpoint.tower, tower, moves), (checkpoint.unet, config, unet.moves)]
