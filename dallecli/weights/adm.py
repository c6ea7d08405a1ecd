"""The published files of guided-diffusion ("ADM") become a model folder.

    SxS_diffusion.pt, or 256x256_diffusion_uncond.pt    needed: one of them, which paints S pixels
    SxS_classifier.pt                                   for guidance
    S_L_upsampler.pt                                    for pictures of L pixels

They are opened as every pickle is (convert.py), and renamed. What no shape tells, such as the order in which the
projections of an attention stand, is told by the name of the file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dallecli.classes import Classes
from dallecli.errors import BadFile, BadFolder
from dallecli.weights.checkpoints import make_folder, write_json, write_network
from dallecli.weights.convert import convert
from dallecli.weights.folder import DIALS
from dallecli.weights.guided_diffusion import GAUSSIAN, GuidedUNet, Shapes, read_classifier, read_unet
from dallecli.weights.header import read_header
from dallecli.weights.known import CLASSES

WEIGHTS: Final = "diffusion_pytorch_model.safetensors"

SCHEDULER: Final = {**GAUSSIAN, "ddim_strides": True}
SCHEDULES: Final[Mapping[str, dict[str, Any]]] = {
    "cosine": {**SCHEDULER, "beta_schedule": "squaredcos_cap_v2"},
    "linear": {**SCHEDULER, "beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
}
"""As in the published code, which has them as arguments."""

STEPS: Final = 250
"""Of every stage, as in the published commands."""

IMAGENET: Final = 1000
"""The classes of the published networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published checkpoint, and what its tensors do not tell.

    part: what it becomes. side: the pixels that it paints or looks at. low: those from which it enlarges. beside: the
    files that belong to it, if it is one that paints by itself; of them the classifier leads by `guidance`. levels: of
    its UNet, of which the last `attends` attend. layers: of a classifier. head_width, heads, by_heads: see `read_unet`.
    """

    part: str
    side: int
    levels: int
    attends: int = 3
    low: int | None = None
    schedule: str = "linear"
    guidance: float = 0.0
    beside: tuple[str, ...] = ()
    layers: int = 2
    head_width: int | None = 64
    heads: int = 1
    by_heads: bool = True

    @property
    def paints(self) -> bool:
        """Whether it paints by itself."""
        return self.part == "decoder"


CHECKPOINTS: Final[Mapping[str, Checkpoint]] = {
    "64x64_diffusion.pt": Checkpoint(
        part="decoder",
        side=64,
        levels=4,
        schedule="cosine",
        guidance=1.0,
        beside=("64x64_classifier.pt", "64_256_upsampler.pt"),
        by_heads=False,
    ),
    "128x128_diffusion.pt": Checkpoint(
        part="decoder",
        side=128,
        levels=5,
        guidance=0.5,
        beside=("128x128_classifier.pt", "128_512_upsampler.pt"),
        head_width=None,
        heads=4,
    ),
    "256x256_diffusion.pt": Checkpoint(
        part="decoder", side=256, levels=6, guidance=1.0, beside=("256x256_classifier.pt",)
    ),
    "256x256_diffusion_uncond.pt": Checkpoint(
        part="decoder", side=256, levels=6, guidance=10.0, beside=("256x256_classifier.pt",)
    ),
    "512x512_diffusion.pt": Checkpoint(
        part="decoder", side=512, levels=7, guidance=4.0, beside=("512x512_classifier.pt",)
    ),
    "64x64_classifier.pt": Checkpoint(part="classifier", side=64, levels=4, layers=4),
    "128x128_classifier.pt": Checkpoint(part="classifier", side=128, levels=5),
    "256x256_classifier.pt": Checkpoint(part="classifier", side=256, levels=6),
    "512x512_classifier.pt": Checkpoint(part="classifier", side=512, levels=7),
    "64_256_upsampler.pt": Checkpoint(part="super_res", side=256, levels=6, low=64, head_width=None, heads=4),
    "128_512_upsampler.pt": Checkpoint(part="super_res", side=512, levels=6, attends=2, low=128),
}
"""By their names."""


def imagenet() -> Classes:
    """The classes of ImageNet's challenge of 2012, in the order in which networks know them."""
    file = Path(str(resources.files("dallecli.weights") / "imagenet.json"))
    return Classes(tuple(json.loads(file.read_text(encoding="utf-8"))["classes"]))


def convert_adm(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Make a model folder of a folder with the published files; `target` appears when it is complete.

    Returns, for each checkpoint, the file that its tensors are in now. dtypes stay.

    Raises: as `convert.convert`; BadFolder if files are missing, or are of several models; BadFile if one is not what
    its name says; LayoutMismatch if tensors are missing or misshaped; BadOutput if `target` cannot be written.
    """
    here = _present(source)
    make_folder(target, lambda draft: write_adm(source, draft))
    return [(source / name, target / CHECKPOINTS[name].part / WEIGHTS) for name in here]


def write_adm(source: Path, draft: Path) -> dict[str, str]:
    """Write what the published files in a folder become into a new one, as far as they are there.

    Returns the written files, by their paths in the new folder, and the published file that each is made of.
    """
    draft.mkdir(parents=True)
    made: dict[str, str] = {}
    raws = {name: draft / f"{name}.safetensors" for name in CHECKPOINTS if (source / name).is_file()}
    convert({source / name: raw for name, raw in raws.items()})  # in one process: it takes seconds to start
    for name, raw in raws.items():
        checkpoint = CHECKPOINTS[name]
        part = draft / checkpoint.part
        net = _read(source / name, raw, checkpoint)
        write_network(raw, {**net.config, "sample_size": checkpoint.side}, net.moves, part / WEIGHTS)
        raw.unlink()
        files = [f"{checkpoint.part}/{file}" for file in ("config.json", WEIGHTS)]
        if checkpoint.part != "classifier":
            schedule = f"{checkpoint.part}_scheduler/scheduler_config.json"
            write_json(draft / schedule, SCHEDULES[checkpoint.schedule])
            files.append(schedule)
        if checkpoint.paints:
            files += _write_about(draft, checkpoint)
        made |= dict.fromkeys(files, name)
    return made


def _write_about(draft: Path, checkpoint: Checkpoint) -> list[str]:
    """Write what a model is, its dials and the names of its classes; returns the files."""
    dials = {"sampler": "ancestral", "steps": STEPS, "guidance": checkpoint.guidance}
    write_json(draft / "model_index.json", {"_class_name": "AdmPipeline"})
    write_json(draft / DIALS, {"stages": {"decoder": dials}})
    write_json(draft / CLASSES, {"classes": list(imagenet().lines)})
    return ["model_index.json", DIALS, CLASSES]


def _present(source: Path) -> list[str]:
    """The checkpoints that are here, which are one model. Raises BadFolder if they are not."""
    here = [name for name in CHECKPOINTS if (source / name).is_file()]
    painting = [name for name in here if CHECKPOINTS[name].paints]
    hint = "put each into a folder of its own, with what belongs to it; see docs/guides/adm.md"
    if len(painting) > 1:
        raise BadFolder(f"these are several models: {', '.join(painting)}", str(source), hint)
    if not painting:
        needed = [name for name, other in CHECKPOINTS.items() if here[0] in other.beside]
        what = f"{here[0]} does not paint by itself: {' or '.join(needed)} is missing"
        raise BadFolder(what, str(source), f"put it there, beside {', '.join(here)}")
    foreign = [name for name in here if name not in (*painting, *CHECKPOINTS[painting[0]].beside)]
    if foreign:
        raise BadFolder(f"{foreign[0]} does not belong to {painting[0]}", str(source), hint)
    return here


def _read(file: Path, raw: Path, checkpoint: Checkpoint) -> GuidedUNet:
    """The network whose tensors are in `raw`. Raises BadFile if it is not what the name of `file` says."""
    shapes = {name: entry.shape for name, entry in read_header(raw).items()}
    try:
        return network_of(shapes, file.name)
    except ValueError as problem:
        hint = "fetch it again; see docs/guides/adm.md"
        raise BadFile(f"this is not guided-diffusion's {file.name}: {problem}", str(file), hint) from problem


def network_of(shapes: Shapes, name: str) -> GuidedUNet:
    """The network with these tensors, as the checkpoint of this name has it.

    Raises ValueError, in words, if it is not such a checkpoint.
    """
    checkpoint = CHECKPOINTS[name]
    if checkpoint.part == "classifier":
        net = read_classifier(shapes, layers=checkpoint.layers, head_width=64)
    else:
        net = _painter(shapes, name, checkpoint)
    classes = net.config.get("num_classes", net.config.get("num_class_embeds"))
    if classes not in (None, IMAGENET):
        raise ValueError(f"it knows {classes} classes, not {IMAGENET}")
    attends = [kind.startswith("Attn") for kind in net.config["down_block_types"]]
    wanted = [level >= checkpoint.levels - checkpoint.attends for level in range(checkpoint.levels)]
    if attends != wanted:
        raise ValueError(f"it has {len(attends)} levels, {sum(attends)} with attention: it is one of another size")
    return net


def _painter(shapes: Shapes, name: str, checkpoint: Checkpoint) -> GuidedUNet:
    if "out.2.qkv_proj.weight" in shapes:
        raise ValueError("it is a classifier")
    head_width, heads, by_heads = checkpoint.head_width, checkpoint.heads, checkpoint.by_heads
    net = read_unet(shapes, head_width=head_width, heads=heads, by_heads=by_heads)
    if "cross_attention_dim" in net.config:
        raise ValueError("it reads words, as GLIDE does")
    sees = 3 if checkpoint.low is None else 6
    if net.in_channels != sees:
        raise ValueError(f"it sees {net.in_channels} channels, not {sees}")
    knows = net.config["num_class_embeds"] is not None
    if knows != ("uncond" not in name):
        raise ValueError("it knows classes" if knows else "it knows no classes")
    return net
