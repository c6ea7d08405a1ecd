"""DALL·E 1's published autoencoder becomes a model folder: encoder.pkl and decoder.pkl, two modules pickled whole.

They are opened as every pickle is (convert.py), as tensors without code. Names stay.
"""

import re
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder
from dallecli.weights.checkpoints import make_folder, write_json
from dallecli.weights.convert import check_checkpoint, convert
from dallecli.weights.header import read_header

PARTS: Final = {"encoder.pkl": "encoder", "decoder.pkl": "decoder"}
"""The published files, and the parts that they become."""

FILES: Final = ("config.json", "model.safetensors")
SIDE: Final = 256
"""The pixels on a side of the pictures that it was trained with."""

HINT: Final = "fetch it again; see docs/guides/codes.md"

_GROUP: Final = re.compile(r"blocks\.group_(\d+)\.block_(\d+)\.res_path\.conv_4\.b")


def convert_dvae(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Make a model folder of a folder with the published files; `target` appears when it is complete.

    Returns, for each file, the one that its tensors are in now. dtypes stay.

    Raises: as `convert.convert`; BadFolder if a file is missing; BadFile if one is not what its name says;
    LayoutMismatch if tensors are missing or misshaped; BadOutput if `target` cannot be written.
    """
    for name in PARTS:
        if not (source / name).is_file():
            raise BadFolder(f"{name} of DALL-E's autoencoder is missing", str(source), "put it there, beside the other")
    make_folder(target, partial(write_dvae, source))
    return [(source / name, target / part / FILES[1]) for name, part in PARTS.items()]


def write_dvae(source: Path, draft: Path) -> dict[str, str]:
    """Write what the published files in a folder become into a new one, as far as they are there.

    Returns the written files, by their paths in the new folder, and the published file that each is made of.
    """
    here = {name: part for name, part in PARTS.items() if (source / name).is_file()}
    for name in here:
        _check_container(source / name)
    for part in here.values():
        (draft / part).mkdir(parents=True)
    convert({source / name: draft / part / FILES[1] for name, part in here.items()})
    made: dict[str, str] = {}
    for name, part in here.items():
        shapes = {tensor: entry.shape for tensor, entry in read_header(draft / part / FILES[1]).items()}
        try:
            config = config_of(shapes, part)
        except ValueError as problem:
            raise BadFile(f"this is not DALL-E's {name}: {problem}", str(source / name), HINT) from problem
        write_json(draft / part / FILES[0], config)
        made |= {f"{part}/{file}": name for file in FILES}
    if "encoder.pkl" in here:
        write_json(draft / "model_index.json", {"_class_name": "DiscreteVAE"})
        made["model_index.json"] = "encoder.pkl"
    return made


def config_of(shapes: Mapping[str, tuple[int, ...]], part: str) -> dict[str, Any]:
    """The config of the network with these tensors. Raises ValueError, in words, if it is not this part."""
    widths, layers = {}, 0
    for name, shape in shapes.items():
        match = _GROUP.fullmatch(name)
        if match is not None:
            widths[int(match[1])] = shape[0]
            layers = max(layers, int(match[2]))
    entrance = shapes.get("blocks.input.w", ())
    outputs = shapes.get("blocks.output.conv.w", ())
    if not widths or len(entrance) != 4 or len(outputs) != 4:
        raise ValueError("it has other tensors")
    looks = "encoder" if entrance[1] == 3 else "decoder"
    if looks != part:
        raise ValueError(f"it looks like the {looks}")
    ordered = [widths[group] for group in sorted(widths)]
    config: dict[str, Any] = {
        "_class_name": f"Dvae{part.capitalize()}",
        "sample_size": SIDE,
        "layers_per_block": layers,
    }
    if part == "encoder":
        return config | {"vocab_size": outputs[0], "block_out_channels": ordered}
    return config | {"vocab_size": entrance[1], "block_out_channels": ordered[::-1], "init_channels": entrance[0]}


def _check_container(file: Path) -> None:
    """Refuse torch's form from before 2020, which holds the source code of a module. Raises BadFile."""
    check_checkpoint(file)
    if not zipfile.is_zipfile(file):
        what = f"{file.name} is damaged, or in torch's form from before 2020, which cannot be opened without its code"
        raise BadFile(what, str(file), HINT)
