"""A corpus of broken models: each is refused with exit code 3, by a message with the file, the defect and the repair.

Every entry spoils a whole model in one way, as downloads, disks, editors and malice do.
"""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dallecli.errors import WeightsError
from dallecli.tokens import ClipTokenizer
from dallecli.weights.registry import find, locate
from weights.model_folder import write_json, write_model

WEIGHTS = "decoder/diffusion_pytorch_model.safetensors"
CONFIG = "decoder/config.json"
INDEX = "model_index.json"
SCHEDULER = "prior_scheduler/scheduler_config.json"
VOCAB = "tokenizer/vocab.json"
GOOD = b'{"weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'

Spoil = Callable[[Path], object]


def put(data: bytes) -> Spoil:
    return lambda path: path.write_bytes(data)


def header(text: bytes, data: bytes = bytes(24)) -> Spoil:
    """A weights file with this header."""
    return put(struct.pack("<Q", len(text)) + text + data)


def entry(**changes: Any) -> Spoil:
    """A weights file whose only tensor is described otherwise."""
    described = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}
    return header(json.dumps({"weight": {k: v for k, v in described.items() if v is not None}}).encode())


def split(places: dict[str, str]) -> Spoil:
    """An index instead of the file that has everything."""

    def spoil(path: Path) -> None:
        path.unlink()
        write_json(path.with_name(f"{path.name}.index.json"), {"weight_map": places})

    return spoil


def cut(size: int) -> Spoil:
    return lambda path: os.truncate(path, size)


def config(**fields: Any) -> Spoil:
    return lambda path: write_json(path, fields)


def renamed(name: str) -> Spoil:
    return lambda path: path.rename(path.with_name(name))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


def circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


DEFECTS: dict[str, tuple[str, Spoil]] = {
    # weights: what downloads leave
    "weights: empty": (WEIGHTS, put(b"")),
    "weights: one byte": (WEIGHTS, cut(1)),
    "weights: seven bytes": (WEIGHTS, cut(7)),
    "weights: eight bytes": (WEIGHTS, cut(8)),
    "weights: half a header": (WEIGHTS, cut(30)),
    "weights: header only": (WEIGHTS, header(GOOD, b"")),
    "weights: one byte short": (WEIGHTS, header(GOOD, bytes(23))),
    "weights: one byte long": (WEIGHTS, header(GOOD, bytes(25))),
    "weights: twice in one file": (WEIGHTS, lambda path: path.write_bytes(path.read_bytes() * 2)),
    "weights: a web page": (WEIGHTS, put(b"<!DOCTYPE html><html><title>502</title></html>")),
    "weights: a web page after blanks": (WEIGHTS, put(b"\n\n  <html lang=en></html>")),
    "weights: an XML error": (WEIGHTS, put(b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')),
    "weights: a JSON error": (WEIGHTS, put(b'{"error": "Repository not found"}')),
    "weights: a text error": (WEIGHTS, put(b"Entry not found, and that is all")),
    "weights: a Git LFS pointer": (WEIGHTS, put(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")),
    "weights: a zip": (WEIGHTS, put(b"PK\x03\x04" + bytes(100))),
    "weights: a pickle": (WEIGHTS, put(b"\x80\x02}q\x00." + bytes(100))),
    "weights: a newer pickle": (WEIGHTS, put(b"\x80\x05}\x94." + bytes(100))),
    "weights: zeros": (WEIGHTS, put(bytes(1000))),
    "weights: noise": (WEIGHTS, put(bytes(range(255, 0, -1)) * 9)),
    "weights: missing": (WEIGHTS, lambda path: path.unlink()),
    "weights: a folder": (WEIGHTS, folder_instead),
    "weights: a link to nowhere": (WEIGHTS, dangling),
    "weights: a link to itself": (WEIGHTS, circle),
    "weights: pickled only": (WEIGHTS, renamed("diffusion_pytorch_model.bin")),
    "weights: a checkpoint only": (WEIGHTS, renamed("model.ckpt")),
    "weights: an index that is none": (WEIGHTS, renamed("diffusion_pytorch_model.safetensors.index.json")),
    "weights: split, without an index": (WEIGHTS, renamed("diffusion_pytorch_model-00001-of-00002.safetensors")),
    "weights: an index of nothing": (WEIGHTS, split({})),
    "weights: an index of a file that is gone": (WEIGHTS, split({"weight": "gone.safetensors"})),
    "weights: an index that leads elsewhere": (WEIGHTS, split({"weight": "../prior/model.safetensors"})),
    "weights: still arriving": (WEIGHTS, renamed("diffusion_pytorch_model.safetensors.part")),
    # weights: headers that lie
    "header: longer than the file": (WEIGHTS, put(struct.pack("<Q", 10**6) + GOOD)),
    "header: gigabytes": (WEIGHTS, put(struct.pack("<Q", 2**40) + GOOD)),
    "header: the largest number": (WEIGHTS, put(b"\xff" * 8 + GOOD)),
    "header: not JSON": (WEIGHTS, header(b"{'weight': 1}")),
    "header: not UTF-8": (WEIGHTS, header(b'{"\xff": 1}')),
    "header: a list": (WEIGHTS, header(b"[]")),
    "header: deep": (WEIGHTS, header(b"[" * 5000 + b"]" * 5000)),
    "header: doubled name": (WEIGHTS, header(GOOD[:-1] + b"," + GOOD[1:])),
    "header: name with an escape": (WEIGHTS, header(GOOD.replace(b"weight", b"\\u001b[31m"))),
    "header: name with NUL": (WEIGHTS, header(GOOD.replace(b"weight", b"a\\u0000b"))),
    "header: endless name": (WEIGHTS, header(GOOD.replace(b"weight", b"w" * 5000))),
    "header: a number for a tensor": (WEIGHTS, header(b'{"weight": 3}')),
    "header: no type": (WEIGHTS, entry(dtype=None)),
    "header: unknown type": (WEIGHTS, entry(dtype="Q4_K")),
    "header: no shape": (WEIGHTS, entry(shape=None)),
    "header: negative side": (WEIGHTS, entry(shape=[-2, -3])),
    "header: half a side": (WEIGHTS, entry(shape=[2.5, 3])),
    "header: overflowing sides": (WEIGHTS, entry(shape=[2**63, 2**63])),
    "header: a thousand sides": (WEIGHTS, entry(shape=[1] * 1000)),
    "header: other shape": (WEIGHTS, entry(shape=[2, 4])),
    "header: no place": (WEIGHTS, entry(data_offsets=None)),
    "header: backwards": (WEIGHTS, entry(data_offsets=[24, 0])),
    "header: behind a gap": (WEIGHTS, entry(data_offsets=[8, 32])),
    "header: before the start": (WEIGHTS, entry(data_offsets=[-24, 0])),
    "header: overlapping": (WEIGHTS, header(GOOD[:-1] + b"," + GOOD[1:].replace(b"weight", b"other"))),
    # descriptions
    "index: missing": (INDEX, lambda path: path.unlink()),
    "index: empty": (INDEX, put(b"")),
    "index: a web page": (INDEX, put(b"<html></html>")),
    "index: not an object": (INDEX, put(b"[1]")),
    "index: without a kind": (INDEX, config()),
    "index: of another kind": (INDEX, config(_class_name="FluxPipeline")),
    "index: with a list for a kind": (INDEX, config(_class_name=["UnCLIPPipeline"])),
    "index: 2 MB": (INDEX, put(b'{"a": "' + b"a" * 2**21 + b'"}')),
    "config: missing": (CONFIG, lambda path: path.unlink()),
    "config: empty": (CONFIG, put(b"")),
    "config: cut": (CONFIG, cut(5)),
    "config: not UTF-8": (CONFIG, put(b'{"a": "\xff"}')),
    "config: a number": (CONFIG, put(b"7")),
    "config: NaN": (CONFIG, put(b'{"sample_size": NaN}')),
    "config: deep": (CONFIG, put(b"[" * 100_000)),
    "config: size missing": (CONFIG, config()),
    "config: size zero": (CONFIG, config(sample_size=0)),
    "config: size negative": (CONFIG, config(sample_size=-64)),
    "config: size as text": (CONFIG, config(sample_size="64")),
    "config: size true": (CONFIG, config(sample_size=True)),
    "config: size endless": (CONFIG, config(sample_size=10**18)),
    "config: larger than the next stage": ("super_res_first/config.json", config(sample_size=8)),
    "config: a million layers": (CONFIG, config(sample_size=16, num_layers=10**6)),
    "config: a billion channels": (CONFIG, config(sample_size=16, block_out_channels=[10**9])),
    "config: a folder": (CONFIG, folder_instead),
    "scheduler: missing": (SCHEDULER, lambda path: path.unlink()),
    "scheduler: not JSON": (SCHEDULER, put(b"{")),
    "scheduler: no steps": (SCHEDULER, config(num_train_timesteps=0)),
    "scheduler: steps as text": (SCHEDULER, config(num_train_timesteps="1000")),
    "tokenizer: no words": (VOCAB, lambda path: path.unlink()),
    "tokenizer: not JSON": (VOCAB, put(b"{")),
    "tokenizer: words without numbers": (VOCAB, put(b'{"a": "b"}')),
    "tokenizer: one number twice": (VOCAB, put(b'{"a": 0, "b": 0}')),
}


def look(folder: Path) -> None:
    """Everything that `dalle` asks of a model before it reads weights."""
    model = locate(find(str(folder)))
    for part in model.networks:
        model.config(part)
    model.sizes()
    model.parameters()
    for stage in ("prior", "decoder", "upsampler"):
        model.trained_steps(stage)
    ClipTokenizer.open(model.path / "tokenizer")


def test_there_are_many() -> None:
    assert len(DEFECTS) >= 60


@pytest.mark.parametrize("name", DEFECTS)
def test_is_refused_by_the_file_the_defect_and_the_repair(tmp_path: Path, name: str) -> None:
    place, spoil = DEFECTS[name]
    folder = write_model(tmp_path / "model")
    spoil(folder / place)
    with pytest.raises(WeightsError) as raised:
        look(folder)
    error = raised.value
    assert error.exit_code == 3
    lines = error.lines()
    assert len(lines) == 3, f"what, where and what to do: {lines}"
    assert all(len(line) <= 520 and line.isprintable() for line in lines)
    part = Path(place).parts[0]
    assert part in str(error.where) or (part in error.what and str(folder) in str(error.where)), lines
