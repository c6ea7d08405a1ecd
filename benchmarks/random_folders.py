"""Models of the published size with random weights, which cost as much to run: for benchmarks, and one slow test.

Configs and tensor names are those of tests/nets/published_keys. Matrices are small random numbers and norms leave all
as it is, so that nothing overflows and a picture is not one grey. Every letter is a token.
"""

import json
import math
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import pre_tokenizers

from dallecli.weights.adm import CHECKPOINTS as ADM
from dallecli.weights.adm import SCHEDULES, WEIGHTS, imagenet, network_of
from dallecli.weights.glide import CHECKPOINTS, SCHEDULERS, parts_of

KEYS = Path(__file__).parents[1] / "tests" / "nets" / "published_keys"
STORED = {"fp32": ("F32", 4), "bf16": ("BF16", 2)}
"""What safetensors calls a type, and the bytes of a number in it."""

Levels = npt.NDArray[np.float32]

KARLO = ("text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last")
KANDINSKY = {"text_encoder": "prior", "image_encoder": "prior", "prior": "prior", "unet": "decoder", "movq": "decoder"}
"""Kandinsky's networks, and which of its repositories each is in."""

CLASSES = {
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "image_processor": ["transformers", "CLIPImageProcessor"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "text_proj": ["unclip", "UnCLIPTextProjModel"],
    "prior": ["diffusers", "PriorTransformer"],
    "decoder": ["diffusers", "UNet2DConditionModel"],
    "super_res_first": ["diffusers", "UNet2DModel"],
    "super_res_last": ["diffusers", "UNet2DModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "movq": ["diffusers", "VQModel"],
}

UNCLIP = {
    "_class_name": "UnCLIPScheduler",
    "num_train_timesteps": 1000,
    "variance_type": "fixed_small_log",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "prediction_type": "epsilon",
    "beta_schedule": "squaredcos_cap_v2",
}
DDPM = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": True,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "set_alpha_to_one": False,
}


IF = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "prediction_type": "epsilon",
    "timestep_spacing": "leading",
}


def find_or_write(model: str, folder: Path, dtype: str) -> Path:
    """The folder, written first if it is not there; `dtype` only matters then.

    It has its name when it is whole, so one that an interrupted run left behind is not taken for one.
    """
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        WRITERS[model](unfinished, dtype)
        unfinished.rename(folder)
    return folder


def write_karlo(folder: Path, dtype: str, weights: Collection[str] = KARLO) -> None:
    """Write kakaobrain/karlo-v1-alpha in small print: all configs, and the weights of the parts that are named."""
    folder.mkdir(parents=True)
    write_tokenizer(folder / "tokenizer", "!")
    for part in KARLO:
        name = part.replace("super_res_last", "super_res_first")  # these two are laid out alike
        write_part(folder / part, name, dtype if part in weights else None)
    schedulers = {
        "prior_scheduler": UNCLIP | {"prediction_type": "sample", "clip_sample_range": 5.0},
        "decoder_scheduler": UNCLIP | {"variance_type": "learned_range"},
        "super_res_scheduler": UNCLIP,
    }
    for part, config in schedulers.items():
        write_json(folder / part / "scheduler_config.json", config)
    kinds = {part: CLASSES[part] for part in (*KARLO, "tokenizer")}
    kinds |= {part: ["diffusers", "UnCLIPScheduler"] for part in schedulers}
    write_json(folder / "model_index.json", {"_class_name": "UnCLIPPipeline", **kinds})


def write_kandinsky(folder: Path, dtype: str) -> None:
    """Write two of the three repositories of Kandinsky 2.2, with the weights of those parts that paint."""
    folder.mkdir(parents=True)
    places = {repository: folder / f"kandinsky-2-2-{repository}" for repository in ("prior", "decoder")}
    for part, repository in KANDINSKY.items():
        write_part(places[repository] / part, f"kandinsky_{part}", dtype if repository == "decoder" else None)
    write_tokenizer(places["prior"] / "tokenizer", "<|endoftext|>")
    sides = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    write_json(places["prior"] / "image_processor" / "preprocessor_config.json", sides)
    prior = UNCLIP | {"prediction_type": "sample", "clip_sample_range": 10.0}
    for repository, pipeline, scheduler in (
        ("prior", "KandinskyV22PriorPipeline", prior),
        ("decoder", "KandinskyV22Pipeline", DDPM),
    ):
        place = places[repository]
        write_json(place / "scheduler" / "scheduler_config.json", scheduler)
        kinds = {part.name: CLASSES.get(part.name, ["diffusers", scheduler["_class_name"]]) for part in place.iterdir()}
        write_json(place / "model_index.json", {"_class_name": pipeline, **kinds})


def write_glide(folder: Path, dtype: str) -> None:
    """Write GLIDE's base and upsampler, named and configured as a conversion does it."""
    folder.mkdir(parents=True)
    for name in ("base", "upsample"):
        published = json.loads((KEYS / f"glide_{name}.json").read_text(encoding="utf-8"))
        for part, config, moves in parts_of(published["state_dict"], CHECKPOINTS[f"{name}.pt"]):
            write_json(folder / part / "config.json", config)
            stem = "model" if part.endswith("encoder") else "diffusion_pytorch_model"
            shapes = {target: list(shape) for move in moves for target, shape in move.shapes(published["state_dict"])}
            write_weights(folder / part / f"{stem}.safetensors", shapes, dtype)
    for part, scheduler in SCHEDULERS.items():
        write_json(folder / part / "scheduler_config.json", scheduler)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    write_json(folder / "tokenizer" / "vocab.json", {token: k for k, token in enumerate([*tokens, "<|endoftext|>"])})
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    write_json(folder / "tokenizer" / "tokenizer_config.json", {"model_max_length": 128})
    write_json(folder / "model_index.json", {"_class_name": "GlidePipeline"})


def write_adm(folder: Path, dtype: str) -> None:
    """Write the painter of 64 pixels with its classifier and its upsampler, as a conversion does it."""
    published = json.loads((KEYS / "adm.json").read_text(encoding="utf-8"))
    folder.mkdir(parents=True)
    for name in ("64x64_diffusion.pt", *ADM["64x64_diffusion.pt"].beside):
        shapes, checkpoint = published[name]["state_dict"], ADM[name]
        net = network_of(shapes, name)
        write_json(folder / checkpoint.part / "config.json", {**net.config, "sample_size": checkpoint.side})
        targets = {target: list(shape) for move in net.moves for target, shape in move.shapes(shapes)}
        write_weights(folder / checkpoint.part / WEIGHTS, targets, dtype)
        write_json(folder / f"{checkpoint.part}_scheduler" / "scheduler_config.json", SCHEDULES[checkpoint.schedule])
    write_json(folder / "classes.json", {"classes": list(imagenet().lines)})
    write_json(folder / "model_index.json", {"_class_name": "AdmPipeline"})


def write_if(folder: Path, dtype: str) -> None:
    """Write IF-I-M and IF-II-M as a pull lays them out, with their T5."""
    folder.mkdir(parents=True)
    write_part(folder / "text_encoder", "if_text_encoder", dtype)
    write_part(folder / "unet", "if_I_M", dtype)
    write_part(folder / "super_res" / "unet", "if_II_M", dtype)
    for place, most in (("scheduler", 1.5), ("super_res/scheduler", 1.0)):
        write_json(folder / place / "scheduler_config.json", IF | {"sample_max_value": most})
    write_json(folder / "super_res/image_noising_scheduler/scheduler_config.json", DDPM | {"steps_offset": 0})
    letters = [f"▁{chr(code)}" for code in range(ord("a"), ord("z") + 1)] + [chr(code) for code in range(33, 127)]
    vocabulary = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], *([letter, -3.0] for letter in letters)]
    model = {"type": "Unigram", "unk_id": 2, "vocab": vocabulary}
    write_json(folder / "tokenizer" / "tokenizer.json", {"version": "1.0", "model": model})
    write_json(folder / "model_index.json", {"_class_name": "IFPipeline"})


WRITERS: dict[str, Callable[[Path, str], None]] = {
    "karlo": write_karlo,
    "karlo-decoder": lambda folder, dtype: write_karlo(folder, dtype, ("decoder",)),
    "kandinsky": write_kandinsky,
    "glide": write_glide,
    "adm-64": write_adm,
    "if-m": write_if,
}


def write_part(folder: Path, name: str, dtype: str | None) -> None:
    """Write a network as a list of published keys describes it: its config and, unless `dtype` is None, its weights."""
    published = json.loads((KEYS / f"{name}.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in published["config"].items() if not key.startswith("_")}
    write_json(folder / "config.json", config)
    if dtype is not None:
        stem = "model" if name.endswith("encoder") else "diffusion_pytorch_model"
        write_weights(folder / f"{stem}.safetensors", published["state_dict"], dtype)


def write_weights(file: Path, shapes: Mapping[str, list[int]], dtype: str) -> None:
    """Write a safetensors file of random numbers, without ever holding much of it."""
    stored, size = STORED[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + size * math.prod(shape)
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    block = np.random.default_rng(len(text)).standard_normal(2**20, dtype=np.float32)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            count = math.prod(shape)
            if (len(shape) == 1 and "norm" in name and name.endswith("weight")) or name == "clip_std":
                _stored(np.ones(count, np.float32), dtype).tofile(out)
                continue
            scaled = _stored(block * np.float32(math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.01), dtype)
            for first in range(0, count, len(block)):
                scaled[: count - first].tofile(out)


def _stored(numbers: Levels, dtype: str) -> npt.NDArray[Any]:
    """The numbers as they lie in a file: bf16 is the upper half of float32, here without rounding."""
    return numbers if dtype == "fp32" else (numbers.view(np.uint32) >> 16).astype(np.uint16)


def write_tokenizer(folder: Path, pad: str) -> None:
    """Write CLIP's tokenizer without a single merge: its first tokens are the printable signs, so "!" is 0."""
    signs = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    write_json(folder / "vocab.json", {token: k for k, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json", {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    )


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file of JSON, and the folder around it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
