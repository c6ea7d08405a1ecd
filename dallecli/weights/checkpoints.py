"""Model folders that are made of published checkpoints: what is alike, whatever the family."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dallecli.errors import BadOutput, reason
from dallecli.weights.folder import Folder
from dallecli.weights.guided_diffusion import Move
from dallecli.weights.layouts import imported


def make_folder(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a model folder under another name, check its tensors, and only then give it its own.

    Raises: what `write` raises; BadFile, BadFolder, LayoutMismatch for what is no whole model; BadOutput if `target`
    cannot be written.
    """
    draft = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        write(draft)
        folder = Folder(draft)
        if folder.family.published is not None:
            imported(folder.family.published.check)(folder)
        draft.replace(target)
    except OSError as error:
        raise BadOutput(f"the folder cannot be written: {reason(error)}", str(target)) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_network(raw: Path, config: Mapping[str, Any], moves: Sequence[Move], file: Path) -> None:
    """Write the tensors of `raw` under their new names into a safetensors file, and the config beside it."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    write_json(file.parent / "config.json", config)
    tensors = {}
    with safe_open(raw, framework="pt") as opened:
        for move in moves:
            for name, tensor in zip(move.targets, move.split(opened.get_tensor(move.source)), strict=True):
                tensors[name] = tensor.clone() if len(move.targets) > 1 else tensor.contiguous()
    save_file(tensors, file, metadata={"format": "pt"})


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, and the folder that it is in."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
