"""Whatever stands in a prompt file or a picture: it is used, or refused in harmless words, and nothing else happens."""

import json
import random
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from batch.test_jobs import OUTSIDE, RESERVED, UNSOUND
from cli.conftest import Dalle, Result
from pictures.test_reading import WHOLE, read

from dallecli.errors import BadPicture
from dallecli.safe import safe

pytestmark = [pytest.mark.trust, pytest.mark.slow]

SECONDS = 60.0
"""How long noise is made, for each kind."""

ESCAPES = [
    *("\x1b[2J", "\x1b]0;title\x07", "\x1bP", "\x9b31m", "\r", "\x08", "\x7f", "\x85"),
    *("\u202e", "\u2066", "\ufeff", "\u200b", "\u2028", "\u2029", "\U000e0041"),
]
NUMBERS = ["n", "seed", "size", "steps", "guidance", "prior_steps", "prior_guidance", "prior_candidates", "best_of"]
WORDS = ["device", "dtype", "model", "command", "sampler", "negative", "name", "init"]
NO_NUMBERS: list[Any] = [-1, 1e400, "seven", [1], {}, True, "\x1b[31m7"]
NO_WHOLE_NUMBERS: list[Any] = [0.5, 10**40, "\u0663"]


def bad_lines() -> Iterator[bytes]:
    """Lines of which none can be painted: 300 and more."""
    for name in [*OUTSIDE, *UNSOUND, *RESERVED]:
        yield _line(prompt="a fox", name=name)
    for depth, target in product((1, 2, 3, 9), ("etc/passwd", "tmp/x", ".ssh/authorized_keys", "x\0.png", "o/../../x")):
        yield _line(prompt="a fox", name="../" * depth + target)
        yield _line(prompt="a fox", name="a/" + "../" * (depth + 1) + target)
    for escape in ESCAPES:
        yield from (_line(prompt="a fox", **{word: f"x{escape}y"}) for word in WORDS if word != "negative")
        yield _line(prompt="a fox", **{f"see{escape}d": 1})
        yield _line(command="vary", image=f"/absent/{escape}.png")
        yield f'{{"prompt": "{escape}\n'.encode()
        yield f'{escape}{{"prompt": "a fox"'.encode()
    for name in NUMBERS:
        values = NO_NUMBERS if name.endswith("guidance") else NO_NUMBERS + NO_WHOLE_NUMBERS
        yield from (_line(prompt="a fox", **{name: value}) for value in values)
    yield from (b"{" * k for k in (1, 10, 1000, 100_000))
    yield from (b"\xff", b"\xc3(", b"\x00", b'"a fox"', b"[]", b"null", b"NaN", b'{"n":1,"n":2}', b"a fox")


def _line(**values: Any) -> bytes:
    return json.dumps(values).encode()


def harmless(result: Result) -> bool:
    """Whether nothing that was printed commands a terminal, and no mistake of ours was met."""
    texts = (result.err, result.out.decode())
    return "mistake" not in result.err and all(
        safe(line, limit=None) == line for text in texts for line in text.split("\n")
    )


def test_bad_lines_are_named_and_nothing_leaves_the_folder(dalle: Dalle, figures, tmp_path):
    lines = [line.replace(b"\n", b"") for line in bad_lines()]
    Path("p.jsonl").write_bytes(b"\n".join([*lines, _line(prompt="a good fox", name="good")]))
    before = {path for path in tmp_path.rglob("*") if "home" not in path.parts}
    result = dalle("generate", "--prompts", "p.jsonl", "--out", "o", "--keep-going")
    named = {int(line.split(":")[1]) for line in result.err.splitlines() if line.startswith("p.jsonl:")}
    outside = {
        path
        for path in tmp_path.rglob("*")
        if path not in before and not path.is_relative_to(Path("o").absolute()) and "home" not in path.parts
    }
    figures["bad lines"] = {
        "tried": len(lines),
        "not named": len(lines) - len(named),
        "harmless": harmless(result),
        "files outside": len(outside),
    }
    assert len(lines) >= 300
    assert sorted(set(range(1, len(lines) + 1)) - named) == []
    assert result.code == 1
    assert [path.name for path in Path("o").rglob("*.png")] == ["good.png"]
    assert harmless(result)
    assert outside == set()


def test_noise_in_a_prompt_file_is_painted_or_refused(dalle: Dalle, figures, tmp_path):
    chance = random.Random(1)
    lines = [line[:300] for line in bad_lines()]
    good = [_line(prompt="a {red|blue} fox", n=2, seed=7, size=16), b"prompt,n,name\na fox,2,sub/fox\n", b"a fox"]
    tried, until = 0, time.monotonic() + SECONDS
    while time.monotonic() < until:
        data = bytearray(b"\n".join(chance.choices(lines + good * 40, k=chance.randint(1, 6))))
        for _ in range(chance.randint(0, 6)):
            place = chance.randrange(len(data) + 1)
            data[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        path = Path(f"noise{chance.choice(('.txt', '.jsonl', '.csv', '.tsv'))}")
        path.write_bytes(data)
        result = dalle("generate", "--prompts", str(path), "--dry-run", "--keep-going")
        tried += 1
        assert result.code in (0, 1, 2), bytes(data)
        assert harmless(result), bytes(data)
    figures["noise in prompt files"] = {"seconds": SECONDS, "tried": tried, "tracebacks or escapes": 0}
    assert tried >= 100


def test_a_damaged_picture_is_read_or_refused(figures):
    chance = random.Random(3)
    whole = [make() for make in WHOLE.values()]
    tried = refused = 0
    until = time.monotonic() + SECONDS / 2
    while time.monotonic() < until:
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 5)):
            data[chance.randrange(min(len(data), chance.choice((60, 300, len(data)))))] = chance.randrange(256)
        tried += 1
        try:
            image = read(bytes(data)).image
        except BadPicture:
            refused += 1
        else:
            assert image.mode == "RGB"
    figures["damaged pictures"] = {"tried": tried, "refused": refused, "other errors": 0}
    assert refused > 100
