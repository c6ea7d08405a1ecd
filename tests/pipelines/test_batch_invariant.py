"""Small models paint the same to the last bit, however many pictures at once and with however many threads."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dallecli.devices import native_bf16
from dallecli.nets.batch_invariant import (
    DIVIDED,
    WIDEST,
    can_be_batch_invariant,
    cancelling,
    make_batch_invariant,
    rounds_alike,
)
from dallecli.nets.prepacked import prepack
from dallecli.nets.threads import GRAIN, in_whole_vectors, shares, with_threads
from dallecli.pictures.picture import Picture
from dallecli.placement import Need, plan_memory, threads
from dallecli.studio.batches import BATCH, SMALL
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.builder import build_request
from dallecli.weights.layouts import LAYOUTS
from dallecli.weights.registry import find

DTYPES = [torch.float32, *([torch.bfloat16] if native_bf16() is not None else [])]
FEW = {"steps": 2, "upsampler_steps": 2, "prior_steps": 2}

pytestmark = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="it was seen with AVX2 and AVX-512 only"
)


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture to start from."""
    (picture,) = painted("generate", {"prompt": "a panda", "model": "starter", "seed": 5, "size": 64, **FEW}, batch=1)
    path = tmp_path_factory.mktemp("drawing") / "panda.png"
    path.write_bytes(picture.encode("png"))
    return path


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of Karlo's layout, whose images are so small that vectors are not filled."""
    return oracle.write(tmp_path_factory.mktemp("models") / "cascade", oracle.SHAPES["starter"])


def painted(task: str, values: dict[str, Any], batch: int | None) -> list[Picture]:
    engine = LocalEngine(batch=batch)
    recipe = engine.resolve(build_request(task, {"dtype": "fp32", "device": "cpu", "model": "starter"} | values))
    return list(engine.paint(recipe, lambda progress: None))


def pixels(pictures: list[Picture]) -> list[bytes]:
    return [picture.image.tobytes() for picture in pictures]


GENERATE = {"prompt": "a corgi on a skateboard", "n": 3, "seed": 3, **FEW}
ASKED = {
    "generate": ("generate", GENERATE),
    "guidance": ("generate", GENERATE | {"size": 64, "guidance": 3.0, "prior_guidance": 2.0, "prior_candidates": 2}),
    "saving": ("generate", GENERATE | {"size": 64, "guidance_stop": 0.5, "reuse": 2, "upsampler_reuse": 2}),
    "autoregressive": ("generate", {"prompt": "a dog", "n": 3, "prior": "autoregressive", "steps": 2, "size": 16}),
    "vary": ("vary", {"image": "PICTURE", "n": 3, "size": 64, "steps": 2, "upsampler_steps": 2}),
    "fidelity": ("vary", {"image": "PICTURE", "n": 3, "size": 64, "fidelity": 0.5, "steps": 2, "inversion_steps": 2}),
    "interpolate": ("interpolate", {"ends": ["a dog", "a cat"], "frames": 3, "size": 64, **FEW}),
    "inpaint": ("inpaint", {"image": "PICTURE", "mask": ["8,8,30,30"], "prompt": "a fish", "n": 3, "size": 64, **FEW}),
    "edit": (
        "edit",
        {"image": "PICTURE", "from": "a dog", "to": "a cat", "sweep": 3, "size": 16, "steps": 2, "inversion_steps": 2},
    ),
    "tiny": ("generate", {"prompt": "a red cat", "model": "CASCADE", "n": 5, **FEW}),
    "starter-1": ("generate", {"prompt": "a red car", "model": "starter-1", "n": 3}),
}

if torch.bfloat16 in DTYPES:
    ASKED["bf16"] = ("generate", GENERATE | {"dtype": "bf16", "size": 64})


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.long
def test_neither_the_number_of_pictures_nor_of_threads_changes_a_bit(asked: str, drawing: Path, cascade: Path):
    task, values = ASKED[asked]
    files = {"PICTURE": str(drawing), "CASCADE": str(cascade)}
    values = {"seed": 3} | {
        name: files.get(value, value) if isinstance(value, str) else value for name, value in values.items()
    }
    with threads(1):
        alone = painted(task, values, batch=1)
    assert len(set(pixels(alone))) == len(alone) > 2
    # Three threads cannot divide anything equally; on two cores that takes long.
    for count, batch in ((3, 3), (2, 1)) if asked == "tiny" else ((2, None),):
        with threads(count):
            together = painted(task, values, batch)
        assert pixels(together) == pixels(alone), (count, batch)
        # ... and so recipes do not state either.
        assert [picture.recipe for picture in together] == [picture.recipe for picture in alone]
    assert (alone[0].recipe.threads, alone[0].recipe.together) == (None, None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_trial_says_so(dtype: torch.dtype):
    assert can_be_batch_invariant(dtype)


@pytest.mark.long
def test_where_the_trial_says_no_one_picture_is_painted_at_a_time_and_recipes_say_with_what(tmp_path: Path):
    """oneDNN's and torch's oldest kernels divide sums otherwise."""
    oldest = os.environ | {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"}
    ask = [sys.executable, "-m", "dallecli", "generate", "a dog", "-n", "2", "--size", "16", "--steps", "2", "--json"]
    ask += ["--prior-steps", "2", "--device", "cpu", "--dtype", "fp32", "--layout", "files", "--no-history"]
    done = subprocess.run(ask, env=oldest, cwd=tmp_path, capture_output=True, text=True, check=True)
    pictures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(picture["threads"], picture["together"]) for picture in pictures] == [(2, 1)] * 2


def test_every_family_that_is_said_to_be_so_was_seen_doing_so():
    seen = {find("starter").layout, find("starter-1").layout, "karlo-variations"}  # the last one is a part of the first
    assert {name for name, family in LAYOUTS.items() if family.batch_invariant} == seen


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_several_pictures_of_a_small_model_are_painted_at_once_unless_it_was_asked(dtype: str):
    asked = build_request("generate", {"prompt": "a dog", "model": "starter", "device": "cpu", "dtype": dtype})
    seen = dtype == "fp32" or torch.bfloat16 in DTYPES
    for batch, size in ((None, BATCH[SMALL] if seen else BATCH["cpu"]), (3, 3)):
        engine = LocalEngine(batch=batch)
        assert engine.group(engine.resolve(asked)) == size


@pytest.mark.usefixtures("large")
def test_a_large_model_paints_one_at_a_time():
    engine = LocalEngine()
    asked = build_request("generate", {"prompt": "a dog", "model": "starter", "device": "cpu", "dtype": "fp32"})
    assert engine.group(engine.resolve(asked)) == BATCH["cpu"]


def test_no_more_are_painted_at_once_than_there_is_room_for():
    needs = {"decoder": Need(weights=100, working=10), "upsampler": Need(weights=10, working=50)}
    rooms = {free: plan_memory(needs, free).pictures(8) for free in (None, 100, 200, 250, 400, 10_000)}
    assert rooms == {None: 8, 100: 1, 200: 1, 250: 2, 400: 5, 10_000: 8}


# Layers


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("numbers", [96, GRAIN, 3 * GRAIN - 8192, 5 * GRAIN + 16])
def test_an_exponential_is_rounded_alike_whichever_thread_computes_it(numbers: int, dtype: torch.dtype):
    x = torch.randn(3, numbers, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        alone = torch.cat([with_threads(1, lambda row=row: in_whole_vectors(row[None], F.silu)) for row in x])
        for count in (1, 2, 3, 4, 7):
            assert torch.equal(with_threads(count, lambda: in_whole_vectors(x, F.silu)), alone)
            assert torch.equal(with_threads(count, lambda: in_whole_vectors(x[1:2], F.silu)), alone[1:2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [4, 31, 32, 64])
def test_a_group_norm_is_rounded_alike_and_is_torchs(side: int, dtype: torch.dtype):
    x = torch.randn(4, 16, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    plain = nn.GroupNorm(4, 16).to(dtype)
    own = nn.Sequential(nn.GroupNorm(4, 16).to(dtype))
    make_batch_invariant(own)
    with torch.inference_mode():
        alone = with_threads(1, lambda: torch.cat([plain(x[k : k + 1]) for k in range(4)]))
        for count in (1, 2, 3, 4):
            for some in (x, x[:3], x[:1]):
                assert torch.equal(with_threads(count, lambda some=some: own(some)), alone[: len(some)])
    assert (side * side >= DIVIDED) == (side >= 32)


def invariant(layer: nn.Module, dtype: torch.dtype) -> nn.Sequential:
    net = nn.Sequential(layer.to(dtype))
    prepack(net)
    make_batch_invariant(net)
    return net


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inputs", [8, 32, 72, 192, 256, 384, 448, 512, 768, WIDEST])
def test_a_linear_layer_is_rounded_alike_for_any_number_of_rows(inputs: int, dtype: torch.dtype):
    layer = nn.Linear(inputs, 64).to(dtype)
    x = cancelling(layer, 130, inputs)
    net = invariant(layer, dtype)
    with torch.inference_mode():
        assert net(x).count_nonzero()  # or there would be nothing to tell roundings apart by
        assert net(x[:, None]).shape == (130, 1, 64)
        for rows in (130, 64, 17, 16, 5, 2):
            assert rounds_alike(net, x[:rows]), rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 8])
def test_a_convolution_is_rounded_alike_for_any_number_of_pictures(side: int, kernel: int, dtype: torch.dtype):
    layer = nn.Conv2d(96, 64, kernel, padding=kernel // 2).to(dtype)
    x = cancelling(layer, 33, 96, side, side)
    net = invariant(layer, dtype)
    with torch.inference_mode():
        assert net(x).count_nonzero()
        for pictures in (33, 16, 6, 2):
            assert rounds_alike(net, x[:pictures]), pictures


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_trial_sees_sums_that_are_cut_where_there_are_many_rows(dtype: torch.dtype):
    layer = nn.Linear(512, 64).to(dtype)
    x = cancelling(layer, 24, 512)

    def cut(rows: torch.Tensor) -> torch.Tensor:
        weight, parts = layer.weight.float(), 2 if len(rows) > 16 else 1
        pairs = zip(rows.float().chunk(parts, 1), weight.chunk(parts, 1), strict=True)
        return torch.stack([(some[:, None] * part).sum(dim=-1) for some, part in pairs]).sum(dim=0).to(dtype)

    with torch.inference_mode():
        assert rounds_alike(cut, x[:16])
        assert not rounds_alike(cut, x)


def test_shares_are_equal_and_as_many_as_can_be():
    for whole in range(1, 40):
        for most in range(1, 10):
            wanted = max(count for count in range(1, most + 1) if whole % count == 0)
            assert shares(whole, most) == wanted


def test_the_number_of_threads_is_as_before_even_after_an_error():
    def fail() -> None:
        assert torch.get_num_threads() == 1
        raise ValueError

    with threads(2):
        with pytest.raises(ValueError):
            with_threads(1, fail)
        assert torch.get_num_threads() == 2
