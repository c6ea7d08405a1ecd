"""minDALL-E's published files become a model folder.

    stage2_last.ckpt                                         the transformer
    stage1_last.ckpt                                         the VQGAN
    tokenizer/bpe-16k-vocab.json, tokenizer/bpe-16k-merges.txt
    config.yaml                                              may be missing

The checkpoints are opened as every pickle is (convert.py). Names in the transformer stay. What its shapes do not tell
is how many heads it has; that is in config.yaml, of which a few keys are read, and nothing else.
"""

import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder, reason
from dallecli.limits import MODEL_JSON_BYTES, read_file
from dallecli.weights.checkpoints import make_folder, write_json
from dallecli.weights.convert import convert
from dallecli.weights.guided_diffusion import Shapes
from dallecli.weights.header import read_header
from dallecli.weights.vqgan import SYMMETRIC, write_halves

TRANSFORMER: Final = "stage2_last.ckpt"
VQGAN: Final = "stage1_last.ckpt"
CONFIG: Final = "config.yaml"
VOCABULARY: Final[Mapping[str, str]] = {
    "tokenizer/bpe-16k-vocab.json": "vocab.json",
    "tokenizer/bpe-16k-merges.txt": "merges.txt",
}
"""The published names of the tokenizer's files, and their names in a model folder."""

WEIGHTS: Final = "model.safetensors"
HALVES: Final = {"encoder": "vqgan_encoder", "decoder": "vqgan"}
HEAD_WIDTH: Final = 64
"""Of every attention head, where config.yaml does not say."""
HINT: Final = "see docs/guides/mindalle.md"

_KEYS: Final = ("vocab_size_txt", "vocab_size_img", "embed_dim", "n_layers", "n_heads", "ctx_len_txt", "ctx_len_img")
_VARIANTS: Final[Mapping[str, str]] = {
    "type": "transformer1d",
    "mlp_bias": "True",
    "attn_bias": "True",
    "gelu_use_approx": "False",
    "use_cls_cond": "False",
}
"""Keys that choose a variant, and the one that was published."""
_ENTRY: Final = re.compile(r"(\s*)(\w+):\s*([^#]*?)\s*(?:#.*)?")
_LAYER: Final = re.compile(r"blocks\.(\d+)\.ln1\.weight")


def convert_mindalle(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Make a model folder of a folder with the published files; `target` appears when it is complete.

    Returns, for each checkpoint, the files that its tensors are in now. dtypes stay.

    Raises: as `convert.convert`; BadFolder if a file is missing; BadFile if one is not what its name says;
    LayoutMismatch if tensors are missing or misshaped; BadOutput if `target` cannot be written.
    """
    for name in (TRANSFORMER, VQGAN, *VOCABULARY):
        if not (source / name).is_file():
            raise BadFolder(f"{name} of minDALL-E is missing", str(source), f"put it there; {HINT}")
    made: dict[str, str] = {}
    make_folder(target, lambda draft: made.update(write_mindalle(source, draft)))
    return [(source / name, target / path) for path, name in made.items() if path.endswith(WEIGHTS)]


def write_mindalle(source: Path, draft: Path) -> dict[str, str]:
    """Write what the published files in a folder become into a new one.

    Returns the written files, by their paths in the new folder, and the published file that each is made of.
    """
    stated = read_yaml(source / CONFIG) if (source / CONFIG).is_file() else {}
    draft.mkdir(parents=True)
    raw, weights = draft / "vqgan.safetensors", draft / "decoder" / WEIGHTS
    weights.parent.mkdir()
    convert({source / VQGAN: raw, source / TRANSFORMER: weights})
    made = {
        f"{HALVES[half]}/{file}": VQGAN for half in _halves(source, raw, draft) for file in ("config.json", WEIGHTS)
    }
    raw.unlink()
    shapes = {name: entry.shape for name, entry in read_header(weights).items()}
    try:
        write_json(weights.parent / "config.json", config_of(shapes, stated))
    except ValueError as problem:
        raise BadFile(f"this is not minDALL-E's {TRANSFORMER}: {problem}", str(source / TRANSFORMER), HINT) from problem
    (draft / "tokenizer").mkdir()
    for name, own in VOCABULARY.items():
        shutil.copyfile(source / name, draft / "tokenizer" / own)
    write_json(draft / "tokenizer" / "tokenizer_config.json", {"model_max_length": shapes["pos_emb_txt.weight"][0]})
    write_json(draft / "model_index.json", {"_class_name": "MinDallePipeline"})
    made |= {f"decoder/{file}": TRANSFORMER for file in ("config.json", WEIGHTS)}
    made |= {f"tokenizer/{own}": name for name, own in VOCABULARY.items()}
    return made | dict.fromkeys(("tokenizer/tokenizer_config.json", "model_index.json"), TRANSFORMER)


def _halves(source: Path, raw: Path, draft: Path) -> list[str]:
    return write_halves(raw, SYMMETRIC, {half: draft / part for half, part in HALVES.items()}, source / VQGAN)


def config_of(shapes: Shapes, stated: Mapping[str, str]) -> dict[str, Any]:
    """The config of the transformer with these tensors.

    stated: the keys of config.yaml's section `stage2`. Raises ValueError, in words, if they are of another network.
    """
    try:
        texts, width = shapes["tok_emb_txt.weight"]
        config = {
            "vocab_size_txt": texts,
            "vocab_size_img": shapes["tok_emb_img.weight"][0],
            "embed_dim": width,
            "n_layers": len([name for name in shapes if _LAYER.fullmatch(name)]),
            "n_heads": _heads(stated, width),
            "ctx_len_txt": shapes["pos_emb_txt.weight"][0],
            "ctx_len_img": shapes["pos_emb_img.weight"][0],
            "sample_size": math.isqrt(shapes["pos_emb_img.weight"][0]),
        }
    except KeyError as missing:
        raise ValueError(f"it has no tensor {missing.args[0]}") from missing
    for key in _KEYS:
        if key in stated and stated[key] != str(config[key]):
            raise ValueError(f"{key} is {config[key]} there, and {stated[key]} in {CONFIG}")
    for key, value in _VARIANTS.items():
        if key in stated and stated[key].lower() != value.lower():
            raise ValueError(f"{key} is {stated[key]} in {CONFIG}, supported is {value}")
    return config


def _heads(stated: Mapping[str, str], width: int) -> int:
    heads = stated.get("n_heads", str(width // HEAD_WIDTH))
    if not re.fullmatch(r"[1-9]\d{0,3}", heads):
        raise ValueError(f"n_heads is {heads!r} in {CONFIG}, which is no number")
    return int(heads)


def read_yaml(file: Path) -> dict[str, str]:
    """The keys of the section `stage2` of a config.yaml, with their values as they are written.

    This is no reader of YAML: of that section, lines of the form `key: value` are read, and what is more is left.

    Raises BadFile: the file cannot be read.
    """
    try:
        text = read_file(file, MODEL_JSON_BYTES).decode("utf-8")
    except (OSError, ValueError) as problem:
        what = reason(problem) if isinstance(problem, OSError) else "it is not text"
        raise BadFile(f"this file cannot be read: {what}", str(file), HINT) from problem
    found: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            continue
        indent, key, value = entry.groups()
        inside = key == "stage2" if not indent else inside
        if inside and indent and value:
            found[key] = value.strip("'\"")
    return found
