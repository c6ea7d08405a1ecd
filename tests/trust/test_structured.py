"""Structured text is never painted as prose, wherever it comes in, and is refused in bounded time and memory."""

import resource
import subprocess
import time
from pathlib import Path

import pytest
from batch.test_recognition import WHOLE
from cli.conftest import Dalle, command, environment

pytestmark = pytest.mark.trust

SECONDS = 20
BYTES = 2 * 2**30


@pytest.mark.parametrize("how", ["file", "pipe", "prompt"])
def test_no_structured_text_is_painted(dalle: Dalle, figures, how):
    painted = []
    for what, (_, data, suffix) in WHOLE.items():
        path = Path(f"p{suffix}")
        path.write_bytes(data)
        arguments = {"file": ("--prompts", str(path)), "pipe": ("--prompts", "-"), "prompt": ()}[how]
        result = dalle("generate", *arguments, "--out", "o", stdin=data if how != "file" else b"")
        if result.code != 2 or list(Path().rglob("*.png")):
            painted.append(what)
    figures[f"structured text as a {how}"] = {"kinds": len(WHOLE), "painted": len(painted)}
    assert painted == []


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b'[{"prompt": "x"},', b"[", b'{"a":', b"prompt,seed\n", b"\0", b"{2$$a|", b"__a"])
def test_much_of_it_is_refused_within_its_bounds(unit):
    Path("p.txt").write_bytes(unit * (60 * 2**20 // len(unit)))
    began = time.monotonic()
    done = subprocess.run(
        command("generate", "--prompts", "p.txt", "--dry-run"),
        capture_output=True,
        env=environment(),
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES)),
    )
    assert done.returncode == 2, done.stderr[-500:]
    assert time.monotonic() - began < SECONDS
