"""DALL·E Mini's or Mega's published files become a model folder.

    encoder_mini.pt, decoder_mini.pt, vocab_mini.json, merges_mini.txt     of min-dalle: DALL·E Mini
    encoder.pt, decoder.pt, vocab.json, merges.txt                         of min-dalle: DALL·E Mega
    flax_model.msgpack, vocab.json, merges.txt                             of dalle-mini, either
    detoker.pt, or vqgan/flax_model.msgpack                                the VQGAN, of all of them

A `config.json` beside them (`config_mini.json` of DALL·E Mini) may state another start token. The `.pt` files are
opened as every pickle is (convert.py); their names are those of the networks here. flax stacks the layers of a half.
"""

import math
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dallecli.errors import BadFile, BadFolder
from dallecli.weights.checkpoints import make_folder, write_json
from dallecli.weights.convert import convert
from dallecli.weights.flax import Array, Copy, copy_flax, read_flax
from dallecli.weights.folder import read_object
from dallecli.weights.guided_diffusion import Shapes
from dallecli.weights.header import read_header
from dallecli.weights.vqgan import LEVELS, write_halves

HEAD_WIDTH: Final = 64
"""Of every attention head; no shape tells it."""
START: Final = 16384
"""The token before the first code. The configs of both models say so; min-dalle begins with others."""
CONTEXT: Final = 64
"""The tokens that both read."""

WEIGHTS: Final = "model.safetensors"
FLAX: Final = "flax_model.msgpack"
DETOKER: Final = "detoker.pt"
FLAX_VQGAN: Final = f"vqgan/{FLAX}"
RAW: Final = "vqgan.safetensors"
"""The VQGAN on its way."""
VQGAN_PARTS: Final = {"encoder": "vqgan_encoder", "decoder": "vqgan"}
HALVES: Final = {"encoder": "text_encoder", "decoder": "decoder"}
"""The halves of the transformer, and the parts that they become."""
HINT: Final = "fetch it again; see docs/guides/dalle-mini.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """How the files of one release are called."""

    name: str
    halves: Mapping[str, str]
    """The file of each half; both may be in one."""
    vocabulary: tuple[str, str]
    config: str


RELEASES: Final = (
    Release(
        name="DALL-E Mini",
        halves={"encoder": "encoder_mini.pt", "decoder": "decoder_mini.pt"},
        vocabulary=("vocab_mini.json", "merges_mini.txt"),
        config="config_mini.json",
    ),
    Release(
        name="DALL-E Mega",
        halves={"encoder": "encoder.pt", "decoder": "decoder.pt"},
        vocabulary=("vocab.json", "merges.txt"),
        config="config.json",
    ),
    Release(
        name="DALL-E Mini or Mega of flax",
        halves={"encoder": FLAX, "decoder": FLAX},
        vocabulary=("vocab.json", "merges.txt"),
        config="config.json",
    ),
)

_ATTENTIONS: Final = {"FlaxBartAttention_0": "self_attn", "FlaxBartAttention_1": "encoder_attn"}
_NORMS: Final = {
    "LayerNorm_0": "pre_self_attn_layer_norm",
    "LayerNorm_1": "self_attn_layer_norm",
    "LayerNorm_2": "pre_encoder_attn_layer_norm",
    "LayerNorm_3": "encoder_attn_layer_norm",
}
_GLU: Final = {"LayerNorm_0": "ln0", "LayerNorm_1": "ln1", "Dense_0": "fc0", "Dense_1": "fc1", "Dense_2": "fc2"}
_KINDS: Final = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
_STACK: Final = re.compile(r"model/(encoder|decoder)/layers/FlaxBart(?:En|De)coderLayers/(.+)/(kernel|scale|bias)")
_SINGLE: Final = re.compile(r"model/(encoder|decoder)/(\w+)/(embedding|scale|bias)")
_LAYER: Final = re.compile(r"layers\.(\d+)\.")


def convert_dalle_mini(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Make a model folder of a folder with the published files; `target` appears when it is complete.

    Returns each published file with one that its tensors are in now. dtypes stay.

    Raises: as `convert.convert`; BadFolder if a file is missing, or there are two models; BadFile if one is not what
    its name says; LayoutMismatch if tensors are missing or misshaped; BadOutput if `target` cannot be written.
    """
    _check_present(source)
    made: dict[str, str] = {}
    make_folder(target, lambda draft: made.update(write_dalle_mini(source, draft)))
    return [(source / name, target / path) for path, name in made.items() if path.endswith(WEIGHTS)]


def write_dalle_mini(source: Path, draft: Path) -> dict[str, str]:
    """Write what the published files in a folder become into a new one, as far as they are there.

    Returns the written files, by their paths in the new folder, and the published file that each is made of.
    """
    draft.mkdir(parents=True)
    made: dict[str, str] = {}
    releases, vqgan = _here(source), _vqgan_here(source)
    pickles = _pickles(source, releases, draft)
    if vqgan == DETOKER:
        pickles[source / vqgan] = draft / RAW
    if pickles:
        convert(pickles)  # in one process: it takes seconds to start
    for release in releases:
        made |= _write_tokenizer(source, release, draft / "tokenizer")
        made |= _write_flax(source, release, draft) if FLAX in release.halves.values() else {}
        made |= _describe_pickles(source, release, draft) if FLAX not in release.halves.values() else {}
    made |= _write_vqgan(source, vqgan, draft) if vqgan is not None else {}
    writer = made.get(f"{HALVES['decoder']}/{WEIGHTS}")
    if writer is not None:
        write_json(draft / "model_index.json", {"_class_name": "DalleMiniPipeline"})
        made["model_index.json"] = writer
    return made


def _here(source: Path) -> list[Release]:
    """The releases of which a file is here. The vocabulary of DALL·E Mega's name is that of flax's, too."""
    found = [one for one in RELEASES if any((source / name).is_file() for name in one.halves.values())]
    if found:
        return found
    return [one for one in RELEASES[:2] if any((source / name).is_file() for name in one.vocabulary)]


def _check_present(source: Path) -> None:
    """Raises BadFolder if a file is missing, or there are several models."""
    found = _here(source)
    if len(found) > 1:
        names = " and ".join(release.name for release in found)
        raise BadFolder(f"there are two models here: {names}", str(source), "put each into its own folder")
    (release,) = found
    for name in (*release.halves.values(), *release.vocabulary):
        if not (source / name).is_file():
            hint = "put it there; see docs/guides/dalle-mini.md"
            raise BadFolder(f"{name} of {release.name} is missing", str(source), hint)
    if _vqgan_here(source) is None:
        hint = f"put {DETOKER} of min-dalle there, or dalle-mini's VQGAN as {FLAX_VQGAN}"
        raise BadFolder(f"the VQGAN of {release.name} is missing", str(source), hint)


def _write_tokenizer(source: Path, release: Release, folder: Path) -> dict[str, str]:
    """Copy the vocabulary, if it is there."""
    if not all((source / name).is_file() for name in release.vocabulary):
        return {}
    folder.mkdir()
    made = {}
    for name, own in zip(release.vocabulary, ("vocab.json", "merges.txt"), strict=True):
        shutil.copyfile(source / name, folder / own)
        made[f"{folder.name}/{own}"] = name
    write_json(folder / "tokenizer_config.json", {"model_max_length": CONTEXT})
    return made | {f"{folder.name}/tokenizer_config.json": release.vocabulary[0]}


def _pickles(source: Path, releases: Sequence[Release], draft: Path) -> dict[Path, Path]:
    """The halves in min-dalle's files, as far as they are there, and where the tensors of each go."""
    targets = {}
    for release in releases:
        for half, name in release.halves.items():
            if name != FLAX and (source / name).is_file():
                targets[source / name] = draft / HALVES[half] / WEIGHTS
    for target in targets.values():
        target.parent.mkdir(exist_ok=True)
    return targets


def _describe_pickles(source: Path, release: Release, draft: Path) -> dict[str, str]:
    """Write the configs of the halves that were converted."""
    made: dict[str, str] = {}
    for half, name in release.halves.items():
        file = draft / HALVES[half] / WEIGHTS
        if (source / name).is_file():
            shapes = {tensor: entry.shape for tensor, entry in read_header(file).items()}
            made |= _describe(source / name, half, shapes, _start(source, release), file.parent)
    return made


def _write_flax(source: Path, release: Release, draft: Path) -> dict[str, str]:
    """Write both halves of flax's file."""
    file, made = source / FLAX, dict[str, str]()
    arrays = read_flax(file)
    copies = _copies(arrays, file)
    for half, part in HALVES.items():
        (draft / part).mkdir()
        copy_flax(file, arrays, copies[half], draft / part / WEIGHTS)
        shapes = {copy.target: copy.shape(arrays[copy.source]) for copy in copies[half]}
        made |= _describe(file, half, shapes, _start(source, release), draft / part)
    return made


def _describe(file: Path, half: str, shapes: Shapes, start: int, folder: Path) -> dict[str, str]:
    """Write the config of a half beside its weights, and return what both are made of. Raises BadFile."""
    try:
        config = config_of(shapes, half)
    except ValueError as problem:
        raise BadFile(f"this is no {half} of DALL-E Mini: {problem}", str(file), HINT) from problem
    write_json(folder / "config.json", config if half == "encoder" else config | {"decoder_start_token_id": start})
    return {f"{folder.name}/{name}": file.name for name in ("config.json", WEIGHTS)}


def config_of(shapes: Shapes, half: str) -> dict[str, Any]:
    """The config of the half with these tensors. Raises ValueError, in words, if it is another network."""
    looks = "decoder" if "lm_head.weight" in shapes else "encoder"
    try:
        (tokens, width), (length, _) = shapes["embed_tokens.weight"], shapes["embed_positions.weight"]
        inside = shapes["layers.0.glu.fc0.weight"][0]
    except (KeyError, ValueError) as missing:
        raise ValueError("it has other tensors") from missing
    if looks != half:
        raise ValueError(f"it looks like the {looks}")
    if width < HEAD_WIDTH or width % HEAD_WIDTH:
        raise ValueError(f"it is {width} wide, which heads of {HEAD_WIDTH} cannot share")
    layers = {match[1] for name in shapes if (match := _LAYER.match(name)) is not None}
    config = {
        "d_model": width,
        f"{half}_layers": len(layers),
        f"{half}_ffn_dim": inside,
        **{f"{each}_attention_heads": width // HEAD_WIDTH for each in HALVES},
    }
    if half == "encoder":
        return config | {"encoder_vocab_size": tokens, "max_text_length": length}
    side = math.isqrt(length)
    if side**2 != length:
        raise ValueError(f"{length} codes are no square")
    return config | {"image_vocab_size": tokens - 1, "image_length": length, "sample_size": side}


def _start(source: Path, release: Release) -> int:
    """The start token: what a config beside the files says, or else the published one."""
    file = source / release.config
    stated = read_object(file).get("decoder_start_token_id", START) if file.is_file() else START
    if type(stated) is not int or stated < 0:
        raise BadFile(f"decoder_start_token_id is {stated!r}, which is no token", str(file), HINT)
    return stated


def _copies(arrays: Mapping[str, Array], file: Path) -> dict[str, list[Copy]]:
    """What becomes of flax's arrays, by half. Raises BadFile for another model."""
    copies: dict[str, list[Copy]] = {half: [] for half in HALVES}
    for source, array in arrays.items():
        stack, single = _STACK.fullmatch(source), _SINGLE.fullmatch(source)
        if source == "lm_head/kernel":
            copies["decoder"].append(Copy(source=source, target="lm_head.weight", turned=True))
        elif stack is not None and (target := _in_layer(stack[2].split("/"))) is not None and array.shape:
            turned = stack[3] == "kernel"
            copies[stack[1]] += [
                Copy(source=source, target=f"layers.{k}.{target}.{_KINDS[stack[3]]}", layer=k, turned=turned)
                for k in range(array.shape[0])
            ]
        elif single is not None:
            copies[single[1]].append(Copy(source=source, target=f"{single[2]}.{_KINDS[single[3]]}"))
        else:
            looks = ": it looks like the VQGAN's" if source.startswith(("decoder/", "encoder/", "quantize/")) else ""
            raise BadFile(f"this is not DALL-E Mini's {file.name}{looks}", str(file), f"it holds {source[:80]}")
    return copies


def _in_layer(path: Sequence[str]) -> str | None:
    """The name of a module in a layer; None if there is no such module."""
    match path:
        case [name] if name in _NORMS:
            return _NORMS[name]
        case [name, ("q_proj" | "k_proj" | "v_proj" | "out_proj") as which] if name in _ATTENTIONS:
            return f"{_ATTENTIONS[name]}.{which}"
        case ["GLU_0", name] if name in _GLU:
            return f"glu.{_GLU[name]}"
    return None


def _vqgan_here(source: Path) -> str | None:
    """The file of the VQGAN that is here: flax's, which has both halves, or else min-dalle's."""
    return next((name for name in (FLAX_VQGAN, DETOKER) if (source / name).is_file()), None)


def _write_vqgan(source: Path, name: str, draft: Path) -> dict[str, str]:
    """Write the halves of the VQGAN; min-dalle's is converted already."""
    raw = draft / RAW
    if name == FLAX_VQGAN:
        arrays = read_flax(source / name)
        copy_flax(source / name, arrays, [Copy(source=own, target=own) for own in arrays], raw)
    folders = {half: draft / part for half, part in VQGAN_PARTS.items()}
    halves = write_halves(raw, LEVELS, folders, source / name)
    raw.unlink()
    return {f"{VQGAN_PARTS[half]}/{file}": name for half in halves for file in ("config.json", WEIGHTS)}
