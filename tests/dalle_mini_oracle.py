"""A reference of DALL·E Mini, from its formulas, on tensors by their published names; and its published files, tiny.

Nothing is shared with dallecli, and nothing is remembered from one code to the next. Codes are drawn as min-dalle draws
them on a CPU, by `torch.multinomial`. What min-dalle gets wrong can be asked for: its start token.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
import vqgan_oracle
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import Tensor

from dallecli.weights.dalle_mini import HALVES, WEIGHTS, config_of
from dallecli.weights.vqgan import LEVELS, write_halves

Table = dict[str, Tensor]

WIDTH, HEADS, INSIDE, LAYERS = 128, 2, 88, 2
TEXT, SIDE, CODES = 64, 4, vqgan_oracle.CODES
CELL = 2 ** (len(vqgan_oracle.CHANNELS) - 1)
START, PAD, END, UNKNOWN = range(4)
VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġc", "Ġca", "Ġcat", "Ġa"]
MERGES = "#version: 0.2\nĠ c\nĠc a\nĠca t\nĠ a\n"


def tables(seed: int = 0, *, spare: int = 0) -> dict[str, Table]:
    """Random tensors of both halves, in float16 numbers; `spare` are embeddings beyond those of codes and start."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(rows, columns, generator=generator) * scale / math.sqrt(columns)
        return drawn.half().float()

    def vector(width: int, around: float) -> Tensor:
        return (around + 0.2 * torch.randn(width, generator=generator)).half().float()

    halves = {"encoder": (len(VOCABULARY), TEXT), "decoder": (CODES + 1 + spare, SIDE**2)}
    made: dict[str, Table] = {}
    for half, (tokens, places) in halves.items():
        table = Table()
        table["embed_tokens.weight"] = matrix(tokens, WIDTH, 8)
        table["embed_positions.weight"] = matrix(places, WIDTH, 4)
        for k in range(LAYERS):
            for attention in ("self_attn", *(["encoder_attn"] if half == "decoder" else [])):
                table[f"layers.{k}.pre_{attention}_layer_norm.bias"] = vector(WIDTH, 0)
                for which in "kvq":
                    table[f"layers.{k}.{attention}.{which}_proj.weight"] = matrix(WIDTH, WIDTH, 1.5)
                table[f"layers.{k}.{attention}.out_proj.weight"] = matrix(WIDTH, WIDTH)
                table[f"layers.{k}.{attention}_layer_norm.weight"] = vector(WIDTH, 1)
                table[f"layers.{k}.{attention}_layer_norm.bias"] = vector(WIDTH, 0)
            table[f"layers.{k}.glu.ln0.bias"] = vector(WIDTH, 0)
            table[f"layers.{k}.glu.ln1.bias"] = vector(INSIDE, 0)
            for name, shape in (("fc0", (INSIDE, WIDTH)), ("fc1", (INSIDE, WIDTH)), ("fc2", (WIDTH, INSIDE))):
                table[f"layers.{k}.glu.{name}.weight"] = matrix(*shape)
        table["layernorm_embedding.weight"] = vector(WIDTH, 1)
        table["layernorm_embedding.bias"] = vector(WIDTH, 0)
        table["final_ln.bias"] = vector(WIDTH, 0)
        if half == "decoder":
            table["lm_head.weight"] = matrix(tokens, WIDTH, 2)
        made[half] = table
    return made


class Reference:
    """The model by its formulas, in float64."""

    def __init__(self, halves: dict[str, Table], heads: int = HEADS) -> None:
        self.t = {half: {name: tensor.double() for name, tensor in table.items()} for half, table in halves.items()}
        self.heads = heads

    def norm(self, x: Tensor, half: str, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * self.t[half].get(f"{name}.weight", torch.ones(())) + self.t[half][f"{name}.bias"]

    def attend(self, x: Tensor, seen: Tensor, half: str, name: str) -> Tensor:
        q, k, v = (
            (of @ self.t[half][f"{name}.{which}_proj.weight"].T).unflatten(-1, (self.heads, -1)).transpose(0, 1)
            for of, which in ((x, "q"), (seen, "k"), (seen, "v"))
        )
        logits = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if half == "decoder" and name.endswith("self_attn"):
            logits = logits.masked_fill(torch.ones(logits.shape[1:]).triu(1).bool(), -math.inf)
        return (logits.softmax(-1) @ v).transpose(0, 1).flatten(1) @ self.t[half][f"{name}.out_proj.weight"].T

    def run(self, half: str, tokens: list[int], states: Tensor | None) -> Tensor:
        table = self.t[half]
        x = table["embed_tokens.weight"][tokens] + table["embed_positions.weight"][: len(tokens)]
        x = self.norm(x, half, "layernorm_embedding")
        for layer in (f"layers.{k}" for k in range(LAYERS)):
            for name in ("self_attn", *(["encoder_attn"] if half == "decoder" else [])):
                y = self.norm(x, half, f"{layer}.pre_{name}_layer_norm")
                seen = y if name == "self_attn" or states is None else states
                x = x + self.norm(self.attend(y, seen, half, f"{layer}.{name}"), half, f"{layer}.{name}_layer_norm")
            y = self.norm(x, half, f"{layer}.glu.ln0")
            gate = y @ table[f"{layer}.glu.fc0.weight"].T
            gate = gate * 0.5 * (1 + torch.erf(gate / math.sqrt(2))) * (y @ table[f"{layer}.glu.fc1.weight"].T)
            x = x + self.norm(gate, half, f"{layer}.glu.ln1") @ table[f"{layer}.glu.fc2.weight"].T
        return self.norm(x, half, "final_ln")

    def states(self, ids: list[int]) -> Tensor:
        """The states of a text without its padding: what is masked has no part in them."""
        return self.run("encoder", ids, None)

    def logits(self, states: Tensor, tokens: list[int]) -> Tensor:
        """What each of these tokens predicts."""
        return self.run("decoder", tokens, states) @ self.t["decoder"]["lm_head.weight"].T

    def codes(
        self, text: list[int], seed: int, *, start: int = CODES, without: list[int] | None = None,
        guidance: float = 1.0, temperature: float = 1.0, top_k: int = 0, known: list[int] | None = None,
    ) -> list[int]:  # fmt: skip
        """The codes of one picture, drawn as min-dalle draws them."""
        generator, written = torch.Generator().manual_seed(seed), list(known if known is not None else [])
        led = self.states(text)
        unled = self.states(without if without is not None else [START, END])
        while len(written) < SIDE**2:
            logits = self.logits(led, [start, *written])[-1, :CODES]
            if guidance != 1:
                logits = (1 - guidance) * self.logits(unled, [start, *written])[-1, :CODES] + guidance * logits
            kept = logits >= logits.sort(descending=True).values[(top_k if top_k else CODES) - 1]
            shares = ((logits - logits.max()) / temperature).exp() * kept
            written.append(int(torch.multinomial(shares.float()[None], 1, generator=generator)))
        return written


def text_ids(words: int) -> list[int]:
    """The ids of so many times "cat"."""
    return [START, *[VOCABULARY.index("Ġcat")] * words, END]


# The published files


def write_pt(folder: Path, halves: dict[str, Table], *, mega: bool = False) -> Path:
    """min-dalle's files: tensors of all layers are turned views of one storage, as those were."""
    folder.mkdir(parents=True)
    suffix = "" if mega else "_mini"
    for half, table in halves.items():
        stacks: dict[str, Tensor] = {}
        for name in table:
            kind = name.split(".", 2)[2] if name.startswith("layers.") else ""
            if kind and kind not in stacks:
                layers = [table[f"layers.{k}.{kind}"].half() for k in range(LAYERS)]
                stacks[kind] = torch.stack([one.T.contiguous() if one.ndim == 2 else one for one in layers])
        published = {}
        for name, tensor in table.items():
            if name.startswith("layers."):
                layer = stacks[name.split(".", 2)[2]][int(name.split(".")[1])]
                published[name] = layer.T if layer.ndim == 2 else layer
            else:
                published[name] = tensor.half()
        torch.save(published, folder / f"{half}{suffix}.pt")
    write_words(folder, suffix)
    torch.save(vqgan_oracle.decoder_alone(vqgan_oracle.table()), folder / "detoker.pt")
    return folder


def write_words(folder: Path, suffix: str = "") -> None:
    """The vocabulary, and the config with the start token of the tiny model."""
    (folder / f"vocab{suffix}.json").write_text(json.dumps({word: k for k, word in enumerate(VOCABULARY)}))
    (folder / f"merges{suffix}.txt").write_text(MERGES, encoding="utf-8")
    (folder / f"config{suffix}.json").write_text(json.dumps({"decoder_start_token_id": CODES}))


def make(folder: Path, *, seed: int = 0, spare: int = 0) -> Path:
    """A tiny model folder, as a conversion makes it (which takes seconds: its process has to import torch)."""
    for half, table in tables(seed, spare=spare).items():
        (folder / HALVES[half]).mkdir(parents=True)
        config = config_of({name: tuple(tensor.shape) for name, tensor in table.items()}, half)
        start = {"decoder_start_token_id": CODES} if half == "decoder" else {}
        (folder / HALVES[half] / "config.json").write_text(json.dumps({**config, **start}))
        save_file({name: tensor.half() for name, tensor in table.items()}, folder / HALVES[half] / WEIGHTS)
    save_file(vqgan_oracle.decoder_alone(vqgan_oracle.table()), folder / "raw.safetensors")
    write_halves(folder / "raw.safetensors", LEVELS, {"decoder": folder / "vqgan"}, folder)
    (folder / "raw.safetensors").unlink()
    (folder / "tokenizer").mkdir()
    write_words(folder / "tokenizer")
    (folder / "tokenizer" / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    (folder / "model_index.json").write_text('{"_class_name": "DalleMiniPipeline"}')
    return folder


# flax


def flax_arrays(halves: dict[str, Table]) -> dict[str, np.ndarray]:
    """The same model in flax's names: layers stacked, matrices turned."""
    norms = [
        "pre_self_attn_layer_norm",
        "self_attn_layer_norm",
        "pre_encoder_attn_layer_norm",
        "encoder_attn_layer_norm",
    ]
    modules = {norm: f"LayerNorm_{k}" for k, norm in enumerate(norms)}
    modules |= {
        f"{name}.{which}_proj": f"FlaxBartAttention_{k}/{which}_proj"
        for k, name in enumerate(("self_attn", "encoder_attn"))
        for which in ("q", "k", "v", "out")
    }
    modules |= {f"glu.ln{k}": f"GLU_0/LayerNorm_{k}" for k in range(2)}
    modules |= {f"glu.fc{k}": f"GLU_0/Dense_{k}" for k in range(3)}
    arrays: dict[str, np.ndarray] = {}
    for half, table in halves.items():
        stack = f"model/{half}/layers/FlaxBart{half.capitalize()}Layers"
        for name, tensor in table.items():
            if name == "lm_head.weight":
                arrays["lm_head/kernel"] = tensor.T.numpy()
            elif not name.startswith("layers."):
                module, kind = name.split(".")
                kind = {"bias": "bias", "weight": "embedding" if module.startswith("embed_") else "scale"}[kind]
                arrays[f"model/{half}/{module}/{kind}"] = tensor.numpy()
            elif name.startswith("layers.0."):
                module, _, kind = name.removeprefix("layers.0.").rpartition(".")
                layers = [table[f"layers.{k}.{module}.{kind}"] for k in range(LAYERS)]
                turned = torch.stack([one.T if one.ndim == 2 else one for one in layers]).numpy()
                kind = "bias" if kind == "bias" else "kernel" if turned.ndim == 3 else "scale"
                arrays[f"{stack}/{modules[module]}/{kind}"] = turned
    return arrays


def flax_vqgan() -> dict[str, np.ndarray]:
    """Both halves of the VQGAN in flax's names."""
    return {name: tensor.numpy() for name, tensor in vqgan_oracle.in_flax(vqgan_oracle.table()).items()}


def msgpack(arrays: dict[str, np.ndarray], *, chunk: int | None = None) -> bytes:
    """What flax writes of a tree with these leaves; of more numbers than `chunk` in several pieces."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *path, leaf = name.split("/")
        place = tree
        for step in path:
            place = place.setdefault(step, {})
        place[leaf] = array
    return _packed(tree, chunk)


def _packed(value: Any, chunk: int | None) -> bytes:
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xde" + struct.pack(">H", len(value))
        return head + b"".join(text(name) + _packed(inner, chunk) for name, inner in value.items())
    if chunk is not None and value.size > chunk:
        flat = value.reshape(-1)
        pieces = [flat[first : first + chunk] for first in range(0, value.size, chunk)]
        shape = _numbered([integer(side) for side in value.shape])
        chunks = _numbered([array(piece) for piece in pieces])
        return b"\x83" + text("__msgpack_chunked_array__") + b"\xc3" + text("shape") + shape + text("chunks") + chunks
    return array(value)


def _numbered(values: list[bytes]) -> bytes:
    head = bytes([0x80 | len(values)]) if len(values) < 16 else b"\xde" + struct.pack(">H", len(values))
    return head + b"".join(text(str(k)) + value for k, value in enumerate(values))


def text(value: str) -> bytes:
    data = value.encode()
    return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xd9" + bytes([len(data)])) + data


def integer(value: int) -> bytes:
    return bytes([value]) if value < 128 else b"\xcd" + struct.pack(">H", value)


def array(value: np.ndarray, dtype: str | None = None) -> bytes:
    """An extension of type 1: shape, dtype and bytes."""
    data = np.ascontiguousarray(value).tobytes()
    shape = bytes([0x90 | value.ndim]) + b"".join(integer(side) for side in value.shape)
    payload = b"\x93" + shape + text(dtype if dtype is not None else str(value.dtype))
    payload += b"\xc6" + struct.pack(">I", len(data)) + data
    return b"\xc9" + struct.pack(">I", len(payload)) + b"\x01" + payload
