"""A reference of minDALL-E, from its formulas, on tensors by their published names; and its published files, tiny.

The formulas share nothing with dallecli, and nothing is remembered from one code to the next. Codes are drawn as
published on a CPU, by `torch.multinomial`.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
import vqgan_oracle
from safetensors.torch import save_file
from tokenizers import CharBPETokenizer
from torch import Tensor

from dallecli.weights.mindalle import HALVES, config_of
from dallecli.weights.mindalle import VOCABULARY as VOCABULARY_FILES
from dallecli.weights.vqgan import SYMMETRIC, write_halves

Table = dict[str, Tensor]

WIDTH, HEADS, LAYERS = 128, 2, 2
TEXT, SIDE, CODES = 12, 4, vqgan_oracle.CODES
CELL = 2 ** (len(vqgan_oracle.CHANNELS) - 1)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!'é猫"
MERGED = ["c a", "ca t</w>", "d o", "do g</w>", "t h", "th e</w>"]
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    *LETTERS,
    *(f"{letter}</w>" for letter in LETTERS),
    *("".join(m.split()) for m in MERGED),
]


def table(seed: int = 0) -> Table:
    """Random tensors of the transformer."""
    generator, made = torch.Generator().manual_seed(seed), Table()

    def matrix(name: str, rows: int, columns: int, scale: float = 1.0) -> None:
        made[f"{name}.weight"] = torch.randn(rows, columns, generator=generator) * scale

    def linear(name: str, inside: int, out: int) -> None:
        matrix(name, out, inside, 1 / math.sqrt(inside))
        made[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1

    def norm(name: str) -> None:
        made[f"{name}.weight"] = 1 + torch.randn(WIDTH, generator=generator) * 0.1
        made[f"{name}.bias"] = torch.randn(WIDTH, generator=generator) * 0.1

    matrix("tok_emb_img", CODES, WIDTH)
    matrix("tok_emb_txt", len(VOCABULARY), WIDTH)
    matrix("pos_emb_img", SIDE**2, WIDTH)
    matrix("pos_emb_txt", TEXT, WIDTH)
    for layer in range(LAYERS):
        name = f"blocks.{layer}"
        norm(f"{name}.ln1")
        norm(f"{name}.ln2")
        for part in ("key", "query", "value", "proj"):
            linear(f"{name}.attn.{part}", WIDTH, WIDTH)
        linear(f"{name}.mlp.0", WIDTH, 4 * WIDTH)
        linear(f"{name}.mlp.2", 4 * WIDTH, WIDTH)
    norm("ln_f")
    matrix("head_img", CODES, WIDTH, 0.2)
    matrix("head_txt", len(VOCABULARY), WIDTH, 0.2)
    return made


# The formulas.


class Reference:
    """The transformer by its formulas, in float64."""

    def __init__(self, tensors: Table) -> None:
        self.t = {name: tensor.double() for name, tensor in tensors.items()}

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.t[f"{name}.weight"].T + self.t[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        return x * self.t[f"{name}.weight"] + self.t[f"{name}.bias"]

    def attention(self, name: str, x: Tensor) -> Tensor:
        q, k, v = (self.linear(f"{name}.{part}", x) for part in ("query", "key", "value"))
        later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        made = []
        for part in torch.arange(WIDTH).chunk(HEADS):
            scores = (q[:, part] @ k[:, part].T / math.sqrt(len(part))).masked_fill(later, float("-inf"))
            made.append(scores.softmax(dim=1) @ v[:, part])
        return self.linear(f"{name}.proj", torch.cat(made, dim=1))

    def logits(self, text: list[int], codes: list[int]) -> Tensor:
        """Of the code behind `codes`, all computed anew."""
        x = self.t["tok_emb_txt.weight"][text] + self.t["pos_emb_txt.weight"]
        x = torch.cat([x, self.t["tok_emb_img.weight"][codes] + self.t["pos_emb_img.weight"][: len(codes)]])
        for layer in range(LAYERS):
            name = f"blocks.{layer}"
            x = x + self.attention(f"{name}.attn", self.norm(f"{name}.ln1", x))
            inside = self.linear(f"{name}.mlp.0", self.norm(f"{name}.ln2", x))
            inside = inside * (1 + torch.erf(inside / math.sqrt(2))) / 2
            x = x + self.linear(f"{name}.mlp.2", inside)
        return self.norm("ln_f", x[-1]) @ self.t["head_img.weight"].T


def written(
    text: list[int],
    seed: int,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    known: list[int] | None = None,
) -> list[int]:
    """The codes of one picture."""
    reference, generator = Reference(table()), torch.Generator().manual_seed(seed)
    codes: list[int] = list(known) if known is not None else []
    while len(codes) < SIDE**2:
        logits = reference.logits(text, codes).float() / temperature
        if top_k:
            logits[logits < logits.topk(min(top_k, CODES)).values[-1]] = float("-inf")
        shares = logits.softmax(dim=0)
        order = shares.argsort(descending=True)
        before = shares[order].cumsum(dim=0) - shares[order]
        shares[order[before >= top_p]] = 0
        codes.append(int(torch.multinomial(shares / shares.sum(), 1, generator=generator)))
    return codes


def text_ids(folder: Path, prompt: str) -> list[int]:
    """The tokens of a prompt, by the tokenizer that is published, from the published files in a folder."""
    vocab, merges = (str(folder / "tokenizer" / f"bpe-16k-{name}") for name in ("vocab.json", "merges.txt"))
    tokenizer = CharBPETokenizer(vocab, merges, unk_token="[UNK]", lowercase=True)
    tokenizer.add_special_tokens(["[PAD]"])
    tokenizer.enable_padding(length=TEXT, pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    tokenizer.enable_truncation(max_length=TEXT)
    return list(tokenizer.encode(prompt, add_special_tokens=False).ids)


# The files.


YAML = f"""\
# of the tiny model
stage1:
  type: vqgan
  hparams:
    n_heads: 7
stage2:
  type: transformer1d
  vocab_size_txt: {len(VOCABULARY)}
  vocab_size_img: {CODES}
  hparams:
    embed_dim: {WIDTH}
    n_layers: {LAYERS}
    n_heads: {HEADS}  # each 64 wide
    ctx_len_img: {SIDE**2}
    ctx_len_txt: {TEXT}
    mlp_bias: True
    gelu_use_approx: False
    n_classes: null
optimizer:
  n_layers: 99
"""


def write_published(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Write the files of a tiny model as they are published."""
    vqgan_oracle.write_published(folder, "stage1_last.ckpt", seed, **options)
    torch.save({"state_dict": table(seed)}, folder / "stage2_last.ckpt", **options)
    (folder / "tokenizer").mkdir()
    ids = {token: number for number, token in enumerate(VOCABULARY)}
    (folder / "tokenizer" / "bpe-16k-vocab.json").write_text(json.dumps(ids))
    (folder / "tokenizer" / "bpe-16k-merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGED) + "\n")
    (folder / "config.yaml").write_text(YAML)
    return folder


def make(folder: Path, seed: int = 0) -> Path:
    """A tiny model folder as a conversion makes it; the published files are beside it."""
    source = write_published(folder.with_name(f"{folder.name}-files"), seed)
    for part in ("decoder", "tokenizer", "raw"):
        (folder / part).mkdir(parents=True)
    save_file(vqgan_oracle.table(seed), folder / "raw" / "x.safetensors")
    folders = {half: folder / part for half, part in HALVES.items()}
    write_halves(folder / "raw" / "x.safetensors", SYMMETRIC, folders, folder)
    shutil.rmtree(folder / "raw")
    tensors = table(seed)
    save_file(tensors, folder / "decoder" / "model.safetensors")
    config = config_of({name: tuple(tensor.shape) for name, tensor in tensors.items()}, {})
    (folder / "decoder" / "config.json").write_text(json.dumps(config))
    for name, own in VOCABULARY_FILES.items():
        shutil.copyfile(source / name, folder / "tokenizer" / own)
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"model_max_length": TEXT}))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "MinDallePipeline"}))
    return folder
