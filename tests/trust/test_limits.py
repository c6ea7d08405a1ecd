"""What has no measure is refused by its bound: in the real command, within a stated time and memory."""

import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import command, environment
from fewer import fewer
from pictures.test_reading import METADATA
from weights.test_convert import BOMBS, refuse

import dallecli

pytestmark = pytest.mark.trust

SECONDS = 60
"""The longest that a refusal may take, on a machine with other work on it."""

MIB = 2**20
SMALL = 400
"""MiB at most of a command that does not import torch."""
LARGE = 1500
"""MiB at most of one that decodes the largest picture, or imports torch."""


def run(*arguments: str, most: int = SMALL, stdin: bytes | None = b"", **variables: str) -> tuple[int, str]:
    """The exit code and standard error of a command, in a process that may not take more than `most` MiB."""
    measured = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=sys.stdin)
print(f"\\npeak {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024}", file=sys.stderr)
sys.exit(done.returncode)
"""
    line = command(*arguments)
    done = subprocess.run(
        [line[0], "-c", measured, *line],
        input=stdin,
        capture_output=True,
        env=environment(**variables),
        timeout=SECONDS,
    )
    said, _, peak = done.stderr.decode().rpartition("\npeak ")
    assert int(peak) < most, f"{peak.strip()} MiB: {said}"
    return done.returncode, said


def assert_refused(code: int, said: str, *codes: int) -> None:
    """A refusal has a documented code and at most three lines, and is no mistake of ours."""
    assert code in codes, said
    assert len(said.strip().splitlines()) <= 3, said
    assert "mistake" not in said


def _sparse(name: str, size: int) -> str:
    with Path(name).open("wb") as file:
        file.truncate(size)
    return name


def _pipe(name: str) -> str:
    os.mkfifo(name)
    return name


FILES: dict[str, Callable[[], tuple[str, ...]]] = {
    "a picture that is a device": lambda: ("vary", "/dev/zero"),
    "a picture that is a pipe": lambda: ("vary", _pipe("x.png")),
    "a picture of a terabyte": lambda: ("vary", _sparse("x.png", 2**40)),
    "a picture to show that is a pipe": lambda: ("show", _pipe("x.png")),
    "a prompt file that is a device": lambda: ("generate", "--prompts", "/dev/zero"),
    "a prompt file that is a pipe": lambda: ("generate", "--prompts", _pipe("x.txt")),
    "an embedding whose header is a gigabyte": lambda: ("vary", _embedding("x.safetensors")),
    "a checkpoint that is a pipe": lambda: ("models", "convert", _pipe("x.pt"), "x.safetensors"),
    "a checkpoint that is a device": lambda: ("models", "convert", "/dev/zero", "x.safetensors"),
    "a journal that is a pipe": lambda: ("check", _journal(lambda path: os.mkfifo(path))),
    "a journal of a terabyte": lambda: ("check", _journal(lambda path: _sparse(path, 2**40))),
    "a thousand candidates": lambda: ("generate", "a fox", "--prior-candidates", "1000"),
    "a million pictures": lambda: ("generate", "a fox", "-n", "1000000"),
    "a hundred million steps": lambda: ("generate", "a fox", "--steps", "100000000"),
    "a best of too many": lambda: ("generate", "a fox", "--best-of", "1001"),
    "a sheet of ten thousand": lambda: ("generate", "a fox", "--x", f"steps={_list()}", "--y", f"seed={_list()}"),
}


def _list() -> str:
    return ",".join(map(str, range(2, 102)))


def _embedding(name: str) -> str:
    Path(name).write_bytes(struct.pack("<Q", 100 * MIB) + b"{" + b'"a":[],' * (100 * MIB // 7) + bytes(16))
    return name


def _journal(write: Callable[[str], Any]) -> str:
    Path("o").mkdir()
    write("o/journal.jsonl")
    return "o"


@pytest.mark.parametrize("what", fewer(FILES, each=5))
@pytest.mark.long
def test_what_has_no_measure_is_refused(figures, what):
    code, said = run(*FILES[what]())
    assert_refused(code, said, 2, 3)
    counted = figures.setdefault("what has no measure", {"tried": 0, "not refused": 0})
    counted["tried"] += 1


@pytest.mark.parametrize("place", ["pipe", "device", "terabyte"])
def test_a_config_file_without_measure_is_refused(tmp_path, figures, place):
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    config = home / "config.toml"
    if place == "pipe":
        os.mkfifo(config)
    elif place == "device":
        config.symlink_to("/dev/zero")
    else:
        _sparse(str(config), 2**40)
    code, said = run("generate", "a fox", DALLE_HOME=str(home))
    assert_refused(code, said, 2)


# Pictures


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _large_png(kind: int, samples: int, depth: int) -> bytes:
    """A black picture of the most pixels that are read."""
    side = 8192
    packing = zlib.compressobj(1)
    row = b"\0" + bytes(side * samples * depth // 8)
    rows = b"".join([packing.compress(row) for _ in range(side)] + [packing.flush()])
    header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "samples", "depth"), [(2, 3, 16), (6, 4, 16), (0, 1, 16), (4, 2, 16), (6, 4, 8)])
def test_the_largest_picture_is_read_in_bounded_memory(figures, kind, samples, depth):
    Path("x.png").write_bytes(_large_png(kind, samples, depth))
    code, said = run("vary", "x.png", "--dry-run", most=LARGE)
    assert code == 0, said


@pytest.mark.parametrize("what", fewer(METADATA, each=6))
def test_metadata_never_refuse_a_picture(figures, what):
    data = METADATA[what]()
    Path("x.png").write_bytes(data)
    code, said = run("grid", "x.png", "-o", "sheet.png", most=SMALL + 2 * len(data) // MIB)
    assert code == 0, said
    counted = figures.setdefault("pictures with damaged or huge metadata", {"tried": 0, "refused": 0})
    counted["tried"] += 1


# Models


CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "a million layers": ("prior", {"num_layers": 10**6}),
    "as many layers as a config may have": ("prior", {"num_layers": 512}),
    "a trillion numbers": ("prior", {"num_attention_heads": 2**20, "attention_head_dim": 2**20}),
    "a thousand levels": (
        "decoder",
        {
            "block_out_channels": [24] * 1000,
            "down_block_types": ["ResnetDownsampleBlock2D"] * 1000,
            "up_block_types": ["ResnetUpsampleBlock2D"] * 1000,
        },
    ),
    "levels times layers": ("decoder", {"layers_per_block": 512}),
    "a wide text tower": ("text_encoder", {"hidden_size": 2**20, "intermediate_size": 2**20}),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_that_asks_for_more_than_its_weights_are_is_refused(figures, what):
    part, changes = CONFIGS[what]
    starter = Path(dallecli.__file__).parent / "starter"
    shutil.copytree(starter, "model", copy_function=os.symlink)
    file = Path("model") / part / "config.json"
    content = json.loads(file.read_text()) | changes
    file.unlink()
    file.write_text(json.dumps(content))
    arguments = ("generate", "a red car", "-m", "./model", "--steps", "2", "--prior-steps", "2")
    code, said = run(*arguments, most=LARGE, DALLE_ENGINE="local")
    assert_refused(code, said, 3)


TOKENIZERS: dict[str, Callable[[], bytes]] = {
    "of nine megabytes": lambda: b'{"a":' + b" " * (9 * MIB) + b"0}",
    "of three hundred thousand tokens": lambda: json.dumps({f"t{k}": k for k in range(300_000)}).encode(),
    "of brackets": lambda: b"[" * (7 * MIB),
    "of empty lists": lambda: b"[" + b"[]," * (7 * MIB // 3) + b"[]]",
}


@pytest.mark.parametrize("what", TOKENIZERS)
def test_a_vocabulary_without_measure_is_refused(figures, what):
    starter = Path(dallecli.__file__).parent / "starter"
    shutil.copytree(starter, "model", copy_function=os.symlink)
    file = Path("model/tokenizer/vocab.json")
    file.unlink()
    file.write_bytes(TOKENIZERS[what]())
    code, said = run("generate", "a red car", "-m", "./model", "--dry-run", most=LARGE, DALLE_ENGINE="local")
    assert_refused(code, said, 3)


@pytest.mark.slow
@pytest.mark.parametrize("what", BOMBS)
def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused(tmp_path, figures, what):
    place = tmp_path / "checkpoint"
    place.mkdir()
    refuse(place, what)
    counted = figures.setdefault("checkpoints that unpack to more than they have", {"tried": 0, "converted": 0})
    counted["tried"] += 1
