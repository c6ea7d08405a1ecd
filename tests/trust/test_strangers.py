"""Forged recipes, hostile archives, odd environments, and signals while real networks paint: each in real processes."""

import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final

import pytest
from cli.conftest import command, environment
from fewer import fewer
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.training.postcards import write_postcards
from tests.training.test_tar_members import header, sample, sparse

from .test_limits import LARGE, assert_refused, run

pytestmark = pytest.mark.trust

# C16: recipes of strangers

FORGERIES: Final = 40
"""How many recipes are forged, besides those of which each names a model that it must not."""
MODELS: Final = (
    "/etc",
    "../model",
    "./model",
    "~/model",
    "hf:evil/model",
    "hf:evil/model@main",
    "model",
    "-m",
    "karlo\n",
)
HOSTILE: Final = (
    -1,
    0,
    10**40,
    1e308,
    "",
    "x" * 100_000,
    None,
    [],
    {},
    True,
    "/dev/zero",
    "../../x",
    "\x1b[2J",
    [[[]]] * 50,
)


def forged(recipe: str, name: str) -> str:
    """A picture with this recipe."""
    info = PngInfo()
    info.add_itxt("dalle", recipe)
    Image.new("RGB", (16, 16)).save(name, pnginfo=info)
    return name


def genuine(tmp_path: Path) -> dict[str, Any]:
    """The recipe of a picture that the starter painted."""
    painted = command("generate", "a fox", "--size", "16", "--steps", "2", "-s", "7", "-o", "x.png", "-q")
    subprocess.run(painted, check=True, env=environment(DALLE_ENGINE="local"), cwd=tmp_path)
    with Image.open(tmp_path / "x.png") as image:
        recipe: dict[str, Any] = json.loads(image.info["dalle"])
    return recipe


@pytest.mark.slow
def test_a_strangers_recipe_chooses_nothing_that_is_loaded(tmp_path, monkeypatch, figures):
    monkeypatch.chdir(tmp_path)
    recipe = genuine(tmp_path)
    shutil.copytree(Path(__file__).parents[2] / "dallecli" / "starter", "model")
    for model in MODELS:
        name = forged(json.dumps(recipe | {"model": model}), "y.png")
        code, said = run("replay", name, "-o", "out.png", most=LARGE, DALLE_ENGINE="local")
        assert_refused(code, said, 2, 3)
        assert not Path("out.png").exists()
    figures["recipes with a foreign model"] = {"tried": len(MODELS), "loaded": 0}


@pytest.mark.slow
def test_a_forged_recipe_is_painted_as_a_request_would_be_or_refused(tmp_path, monkeypatch, figures):
    monkeypatch.chdir(tmp_path)
    recipe, chance, refused = genuine(tmp_path), random.Random(4), 0
    for _ in range(FORGERIES):
        one = json.loads(json.dumps(recipe))
        place = one
        key = chance.choice(list(place))
        while isinstance(place[key], dict) and place[key] and chance.random() < 0.8:
            place, key = place[key], chance.choice(list(place[key]))
        place[key] = chance.choice(HOSTILE)
        code, said = run("replay", forged(json.dumps(one), "y.png"), "-o", "z.png", "--force", most=LARGE)
        assert code in (0, 2, 3, 5), (key, place[key], said)
        assert "mistake" not in said and "\x1b" not in said
        refused += code != 0
    figures["forged recipes"] = {"tried": FORGERIES, "refused": refused, "beyond all bounds": 0}


# C19: odd environments

ENVIRONMENTS: Final[Mapping[str, Mapping[str, str | None]]] = {
    "no home": {"HOME": None, "DALLE_HOME": None, "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None},
    "a home that is a file": {"HOME": "/dev/null", "DALLE_HOME": None},
    "a home that is not there": {"HOME": "/nowhere/at all", "DALLE_HOME": None},
    "no folder for temporary files": {"TMPDIR": "/nowhere"},
    "a proxy without its package": {"ALL_PROXY": "socks5://127.0.0.1:1", "HTTPS_PROXY": "socks5h://127.0.0.1:1"},
    "a proxy that is no address": {"HTTPS_PROXY": "://", "HTTP_PROXY": "a b"},
    "no certificates": {"SSL_CERT_FILE": "/nowhere.pem", "REQUESTS_CA_BUNDLE": "/nowhere.pem"},
    "a token of other letters": {"HF_TOKEN": "hf_ключ"},
    "a completion that is none": {"_DALLE_COMPLETE": "rubbish"},
    "another completion": {"_DALLE_COMPLETE": "complete_bash"},
    "no locale": {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    "no terminal's name": {"TERM": None, "COLUMNS": "0", "LINES": "-3"},
    "columns that are no number": {"COLUMNS": "wide", "TERM": "dumb", "NO_COLOR": "1"},
    "threads that are no number": {"OMP_NUM_THREADS": "many"},
    "lower instructions": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "default"},
    "bytes that are no text": dict.fromkeys(
        [
            *("HF_ENDPOINT", "HF_TOKEN", "HF_HOME", "HTTPS_PROXY", "TERM", "LANG", "TMPDIR", "COLUMNS", "NO_COLOR"),
            *("XDG_CONFIG_HOME", "XDG_STATE_HOME", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
        ],
        "\udcffx",
    ),
    "devices that are none": {"CUDA_VISIBLE_DEVICES": "a,b,-7"},
    "a time zone that is none": {"TZ": "Nowhere/\x01"},
    "warnings as errors": {"PYTHONWARNINGS": "error"},
}
COMMANDS: Final = (
    ("generate", "a fox", "--size", "16", "-o", "x.png", "--force"),
    ("generate", "a fox", "--dry-run"),
    ("show", "y.png"),
    ("history",),
    ("models", "list"),
    ("models", "pull", "hf:a/b"),
    ("doctor",),
    ("config", "get"),
    ("--help",),
)


@pytest.mark.parametrize("name", fewer(ENVIRONMENTS, next(iter(ENVIRONMENTS))))
@pytest.mark.long
def test_no_environment_looks_like_a_mistake_of_ours(tmp_path, monkeypatch, figures, name):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16)).save("y.png")
    env = environment(**{key: value for key, value in ENVIRONMENTS[name].items() if value is not None})
    for key, value in ENVIRONMENTS[name].items():
        if value is None:
            env.pop(key, None)
    counted = figures.setdefault("commands in odd environments", {"tried": 0, "mistakes": 0})
    for arguments in COMMANDS:
        done = subprocess.run(command(*arguments), capture_output=True, env=env, timeout=60, stdin=subprocess.DEVNULL)
        said = done.stderr.decode("utf-8", "replace")
        assert done.returncode in (0, 1, 2, 3, 4, 5), (arguments, done.returncode, said)
        assert "Traceback" not in said and "mistake in dalle" not in said, (arguments, said)
        counted["tried"] += 1


# C20: hostile archives

ARCHIVES: Final[Mapping[str, Callable[[], bytes]]] = {
    "a map without end": sparse,
    "a name of 8 GB": lambda: header("././@LongLink", 2**33, b"L"),
    "a caption of 8 GB": lambda: header("a.txt", 2**33),
    "three thousand long links": lambda: (header("././@LongLink", 512, b"K") + b"x" * 512) * 3000,
    "noise": lambda: random.Random(1).randbytes(100_000),
}


@pytest.mark.parametrize("what", fewer(ARCHIVES, next(iter(ARCHIVES))))
@pytest.mark.long
def test_a_hostile_archive_is_a_counted_fault(tmp_path, monkeypatch, figures, what):
    monkeypatch.chdir(tmp_path)
    write_postcards(Path("good"))
    with tarfile.open("good.tar", "w") as archive:
        for path in sorted(Path("good").iterdir()):
            archive.add(path, path.name)
    Path("bad.tar").write_bytes(sample("a") + ARCHIVES[what]() + bytes(1024))
    options = ("--out", "model", "--preset", "tiny", "--train-steps", "1", "--threads", "1")
    code, said = run("train", "upsampler", "good.tar", "bad.tar", *options, most=LARGE)
    assert code in (0, 2, 3), said
    assert "bad.tar" in said or "left out" in said
    assert "mistake" not in said
    figures.setdefault("hostile archives", {"tried": 0, "beyond bounds": 0})["tried"] += 1


# Signals while real networks paint

PICTURES: Final = 8
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


@pytest.mark.slow
def test_no_signal_loses_a_picture_that_real_networks_painted(tmp_path, monkeypatch, figures):
    monkeypatch.chdir(tmp_path)
    lines = (
        json.dumps({"prompt": f"a {thing}", "seed": seed})
        for thing, seed in product(("fox", "cat"), range(PICTURES // 2))
    )
    Path("p.jsonl").write_text("".join(f"{line}\n" for line in lines))
    env, chance, stopped = environment(DALLE_ENGINE="local", OMP_NUM_THREADS="1"), random.Random(7), 0

    def batch(out: str) -> list[str | bytes]:
        return command(
            "generate", "--prompts", "p.jsonl", "--out", out, "--size", "16", "--steps", "8", "--dtype", "fp32"
        )

    subprocess.run(batch("whole"), check=True, env=env, capture_output=True, timeout=300)
    whole = {path.name: path.read_bytes() for path in Path("whole").glob("*.png")}
    assert len(whole) == PICTURES
    began = time.monotonic()
    while True:
        running = subprocess.Popen(batch("out"), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, said = running.communicate(timeout=chance.uniform(0.5, 8) if stopped < 8 else 300)
            break
        except subprocess.TimeoutExpired:
            os.kill(running.pid, chance.choice(SIGNALS))
            _, said = running.communicate(timeout=60)
            stopped += 1
            assert b"Traceback" not in said, said
            assert running.returncode in (0, 130, 143, -signal.SIGKILL), running.returncode
        for path in Path("out").glob("*.png"):
            assert path.read_bytes() == whole[path.name]
    assert running.returncode == 0, said
    assert {path.name: path.read_bytes() for path in Path("out").glob("*.png")} == whole
    subprocess.run(command("check", "out"), check=True, env=env, capture_output=True, timeout=60)
    seconds = round(time.monotonic() - began)
    figures["signals while the starter paints"] = {"signals": stopped, "lost": 0, "torn": 0, "seconds": seconds}
