"""The networks of OpenAI's guided-diffusion checkpoints, and of GLIDE's, in the names of those here. No torch.

A checkpoint numbers its blocks in the order in which they run (`input_blocks.7.1.qkv.weight`); here they are named by
level, as in diffusers. What is projected together there is split: queries, keys and values. What such a UNet is built
like is read from the shapes of its tensors.

Source: the published code of Dhariwal & Nichol 2021 (https://arxiv.org/abs/2105.05233) and Nichol et al. 2022.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of tensors by name."""

GROUPS: Final = 32
"""Of all group norms; no shape tells it."""

GAUSSIAN: Final[Mapping[str, Any]] = {
    "_class_name": "GaussianDiffusion",
    "num_train_timesteps": 1000,
    "variance_type": "learned_range",
    "prediction_type": "epsilon",
    "timestep_spacing": "sections",
    "clip_sample": True,
    "clip_sample_range": 1.0,
}
"""What the schedules of all these checkpoints share; the published code has it as arguments."""

_RESNET: Final = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION: Final = {
    "norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "encoder_kv": ("add_k_proj", "add_v_proj"),
    "proj_out": ("to_out.0",),
}
_POOL: Final = "out.2"
"""The last attention of a classifier; of a UNet it is a convolution."""
_OF_UNETS: Final = ("upsample_type", "num_class_embeds")
"""The fields of a config that a classifier has no use for."""
_ENDS: Final = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


class Numbers(Protocol):
    """What `Move.split` needs of a tensor."""

    @property
    def shape(self) -> Any: ...
    def permute(self, order: tuple[int, ...], /) -> Any: ...
    def reshape(self, shape: tuple[int, ...], /) -> Any: ...
    def __getitem__(self, index: Any, /) -> Any: ...


T = TypeVar("T", bound=Numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Where the numbers of a published tensor go."""

    source: str
    targets: tuple[str, ...]
    """The names of the tensors that it becomes, all of one shape."""
    heads: int | None = None
    """Of an attention whose projections stand in the order of its heads, each with its own query, key and value; None
    where all queries come first."""
    flat: bool = False
    """Whether it is the kernel of a convolution of width 1, which is a matrix here."""
    order: tuple[int, ...] | None = None
    """The axes of the published tensor in the order that they have here; None where it is the same."""

    def split(self, tensor: T) -> list[T]:
        """The tensors of `targets`, in their order, which may share memory with `tensor`."""
        tensor = tensor if self.order is None else tensor.permute(self.order)
        shape = self._flattened(tuple(tensor.shape))
        parts = len(self.targets)
        if parts == 1:
            return [tensor.reshape(shape)]
        rest = shape[1:]
        if self.heads is None:
            rows = tensor.reshape((parts, shape[0] // parts, *rest))
            return [rows[part] for part in range(parts)]
        width = shape[0] // (parts * self.heads)
        rows = tensor.reshape((self.heads, parts, width, *rest))
        return [rows[:, part].reshape((self.heads * width, *rest)) for part in range(parts)]

    def shapes(self, published: Shapes) -> list[tuple[str, tuple[int, ...]]]:
        """The names and shapes of the tensors that it becomes."""
        shape = published[self.source]
        shape = self._flattened(shape if self.order is None else tuple(shape[axis] for axis in self.order))
        return [(target, (shape[0] // len(self.targets), *shape[1:])) for target in self.targets]

    def _flattened(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[:2] if self.flat else shape


@dataclass(frozen=True, slots=True, kw_only=True)
class GuidedUNet:
    """A UNet of a checkpoint, as its shapes tell.

    config: the fields of `UNetConfig` that shapes tell, or without a context those of `GuidedUNetConfig`; not
    `sample_size`. moves: of all its tensors. A classifier has the first half of a UNet, and the fields of
    `NoisedClassifierConfig`.
    """

    config: dict[str, Any]
    moves: tuple[Move, ...]

    @property
    def in_channels(self) -> int:
        """The channels of what it sees."""
        return int(self.config["in_channels"])


def read_unet(shapes: Shapes, *, head_width: int | None, heads: int = 1, by_heads: bool = True) -> GuidedUNet:
    """The UNet with these tensors, of which there may be no others.

    head_width: of each attention head; None where the number of `heads` is fixed. by_heads: the order of projections
    (`use_new_attention_order` is the other one); those of a context are always by heads.

    Raises ValueError, in words, if it is not such a UNet.
    """
    levels, layers = _levels(shapes)
    names = {**_ENDS, **_places(shapes, levels, layers)}
    order = _Order(head_width=head_width, heads=heads, by_heads=by_heads)
    config = _config(shapes, levels, layers)
    own = _crossed(config) if config["cross_attention_dim"] is not None else _self_attending(config, shapes, order)
    return GuidedUNet(config={**own, **order.stated}, moves=tuple(_moves(shapes, names, order)))


def read_classifier(shapes: Shapes, *, layers: int, head_width: int) -> GuidedUNet:
    """The classifier with these tensors: the way down of a UNet, and an attention that reads what is left.

    layers: residual blocks of each level; a downsampler has the same tensors as one. Its projections are by heads, but
    for those of the last attention.

    Raises ValueError, in words, if it is not such a classifier.
    """
    blocks = _count(shapes, r"input_blocks\.(\d+)\.")
    if blocks == 0 or blocks % (layers + 1) or f"{_POOL}.c_proj.weight" not in shapes:
        raise ValueError("it does not have the blocks of a classifier")
    levels = blocks // (layers + 1)
    names = {**_ENDS, **_places(shapes, levels, layers)}
    pool = {name: shape for name, shape in shapes.items() if name.startswith(f"{_POOL}.")}
    rest = {name: shape for name, shape in shapes.items() if name not in pool}
    order = _Order(head_width=head_width, heads=1, by_heads=True)
    config = _self_attending(_config(shapes, levels, layers), shapes, order)
    own = {name: config[name] for name in config if name not in ("out_channels", "up_block_types", *_OF_UNETS)}
    own["num_classes"] = shapes[f"{_POOL}.c_proj.weight"][0]
    return GuidedUNet(config={**own, **order.stated}, moves=(*_moves(rest, names, order), *_pool_moves(pool)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """How the projections of attentions are parted; see `read_unet`."""

    head_width: int | None
    heads: int
    by_heads: bool

    @property
    def stated(self) -> dict[str, Any]:
        """What a config says of it."""
        count = {} if self.head_width is not None else {"num_attention_heads": self.heads}
        return {"attention_head_dim": self.head_width, **count}


def _moves(shapes: Shapes, names: Mapping[str, str], order: _Order) -> list[Move]:
    """Where the tensors of blocks go."""
    moves = []
    for source, shape in shapes.items():
        place, within = _placed(source, names)
        if within in _ATTENTION:
            moves.append(_attention(source, shape, place, within, order))
        elif within in ("", *_RESNET):
            name = ".".join(part for part in (place, _RESNET.get(within, ""), source.rpartition(".")[2]) if part)
            moves.append(Move(source=source, targets=(name,)))
        else:
            raise ValueError(f"it has a tensor {source}")
    return moves


def _pool_moves(shapes: Shapes) -> list[Move]:
    """Where the tensors of a classifier's last attention go, whose queries, keys and values stand whole."""
    moves = []
    for source in shapes:
        name, _, kind = source.removeprefix(f"{_POOL}.").rpartition(".")
        targets = [f"pool.{own}" for own in ("to_q", "to_k", "to_v") if name == "qkv_proj"]
        targets += ["pool.to_out"] if name == "c_proj" else []
        if source == f"{_POOL}.positional_embedding":
            moves.append(Move(source=source, targets=("pool.positional_embedding",)))
        elif targets:
            named = tuple(f"{target}.{kind}" for target in targets)
            moves.append(Move(source=source, targets=named, flat=kind == "weight"))
        else:
            raise ValueError(f"it has a tensor {source}")
    return moves


def _levels(shapes: Shapes) -> tuple[int, int]:
    """The number of levels, and of layers in each on the way down."""
    down, up = (_count(shapes, rf"{way}_blocks\.(\d+)\.") for way in ("input", "output"))
    # On the way up each level but the last ends with a residual block that is not the first of its block: it enlarges.
    ends = {match[1] for name in shapes if (match := re.match(r"output_blocks\.(\d+)\.[12]\.in_layers\.", name))}
    levels = len(ends) + 1
    if down == 0 or down != up or down % levels or down // levels < 2:
        raise ValueError("it does not have the blocks of a UNet")
    return levels, down // levels - 1


def _count(shapes: Shapes, pattern: str) -> int:
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def _places(shapes: Shapes, levels: int, layers: int) -> dict[str, str]:
    """The modules of a checkpoint that are blocks, and their names here."""
    places = {
        f"middle_block.{i}": f"mid_block.{name}" for i, name in enumerate(("resnets.0", "attentions.0", "resnets.1"))
    }
    for level in range(levels):
        for layer in range(layers + 1):
            down, up = (
                f"input_blocks.{1 + level * (layers + 1) + layer}",
                f"output_blocks.{level * (layers + 1) + layer}",
            )
            here = "downsamplers.0" if layer == layers else f"resnets.{layer}"
            places[f"{down}.0"] = f"down_blocks.{level}.{here}"
            places[f"{down}.1"] = f"down_blocks.{level}.attentions.{layer}"
            attends = f"{up}.1.qkv.weight" in shapes
            places[f"{up}.0"] = f"up_blocks.{level}.resnets.{layer}"
            places[f"{up}.{2 if attends else 1}"] = f"up_blocks.{level}.upsamplers.0"
            if attends:
                places[f"{up}.1"] = f"up_blocks.{level}.attentions.{layer}"
    return places


def _placed(source: str, names: Mapping[str, str]) -> tuple[str, str]:
    """The name here of the module that a tensor is in, and where in that module it is."""
    module = source.rpartition(".")[0]
    for depth in range(module.count(".") + 1):
        parts = module.split(".")
        head, rest = ".".join(parts[: len(parts) - depth]), ".".join(parts[len(parts) - depth :])
        if head in names:
            return names[head], rest
    raise ValueError(f"it has a tensor {source}")


def _attention(source: str, shape: tuple[int, ...], place: str, within: str, order: _Order) -> Move:
    kind = source.rpartition(".")[2]
    targets = tuple(f"{place}.{name}.{kind}" for name in _ATTENTION[within])
    channels = shape[0] // len(targets)
    heads = order.heads if order.head_width is None else channels // order.head_width
    if shape[0] != channels * len(targets) or heads < 1 or channels % heads:
        raise ValueError(f"{source} is {list(shape)}, which its heads cannot share")
    in_order = len(targets) > 1 and (order.by_heads or within == "encoder_kv")
    flat = kind == "weight" and within != "norm"
    return Move(source=source, targets=targets, heads=heads if in_order else None, flat=flat)


def _config(shapes: Shapes, levels: int, layers: int) -> dict[str, Any]:
    """What shapes tell of any of these networks; which levels attend is in `attends`."""
    firsts = [f"input_blocks.{1 + level * (layers + 1)}" for level in range(levels)]
    try:
        widths = [shapes[f"{first}.0.out_layers.3.weight"][0] for first in firsts]
        channels = [shapes["input_blocks.0.0.weight"][1], shapes["out.2.weight"][0] if _is_unet(shapes) else None]
        time = shapes["time_embed.2.weight"][0]
        scale_shift = shapes[f"{firsts[0]}.0.emb_layers.1.weight"][0] == 2 * widths[0]
    except KeyError as missing:
        raise ValueError(f"it has no tensor {missing.args[0]}") from missing
    return {
        "in_channels": channels[0],
        "out_channels": channels[1],
        "attends": [f"{first}.1.qkv.weight" in shapes for first in firsts],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "cross_attention_dim": next(
            (shape[1] for name, shape in shapes.items() if name.endswith("encoder_kv.weight")), None
        ),
        "time_embedding_dim": time,
        "norm_num_groups": GROUPS,
        "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
    }


def _is_unet(shapes: Shapes) -> bool:
    return f"{_POOL}.c_proj.weight" not in shapes


def _named(config: Mapping[str, Any], attending: str) -> dict[str, Any]:
    """The same with the published names of its blocks, where those that attend are called so."""
    kinds = {True: attending, False: "Resnet{}sampleBlock2D"}
    own = {name: value for name, value in config.items() if name != "attends"}
    names = {
        way: [kinds[attends].format("Up" if way == "up" else "Down") for attends in levels]
        for way, levels in (("down", config["attends"]), ("up", config["attends"][::-1]))
    }
    return {**own, "down_block_types": names["down"], "up_block_types": names["up"]}


def _crossed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `UNetConfig`, for a UNet that attends to a context."""
    named = _named(config, "SimpleCrossAttn{}Block2D")
    return {**named, "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "class_embed_type": "identity"}


def _self_attending(config: Mapping[str, Any], shapes: Shapes, order: _Order) -> dict[str, Any]:
    """The fields of `GuidedUNetConfig`, for a UNet without a context."""
    named = _named(config, "Attn{}Block2D")
    del named["cross_attention_dim"]
    classes, features = shapes.get("label_emb.weight"), shapes.get("time_embed.0.weight")
    if features is None:
        raise ValueError("it has no tensor time_embed.0.weight")
    return {
        **named,
        "sinusoid_dim": features[1],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "attn_norm_num_groups": GROUPS,
        "num_class_embeds": None if classes is None else classes[0],
    }
