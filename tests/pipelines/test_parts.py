"""Networks come and go as the memory plan says, and no picture depends on it."""

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.pipelines.karlo import open_karlo
from dallecli.pipelines.parts import Parts
from dallecli.weights.folder import Folder

from .test_karlo import paint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(model_folder: Any) -> Path:
    return model_folder("starter")


def open_parts(folder: Path, kept: Any, dtype: torch.dtype = torch.float32) -> Parts:
    return Parts(Folder(folder), CPU, dtype, kept)


def prior(parts: Parts, dtype: torch.dtype = torch.float32) -> PriorTransformer:
    return parts.net("prior", lambda json: PriorTransformer(PriorConfig.from_config(json)), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pictures_are_equal_to_the_byte_whatever_is_kept(folder, dtype):
    pictures = [
        np.stack(paint(open_karlo(open_parts(folder, kept, dtype), "tiny").parts))
        for kept in (None, ("prior", "super_res_last"), ())
    ]
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures[1:])


def test_with_nothing_kept_there_is_one_network_at_a_time(folder, monkeypatch):
    seen: list[tuple[str, ...]] = []
    load = Parts.net

    def watched(self: Parts, *ask: Any) -> Any:
        net = load(self, *ask)
        seen.append(self.loaded)
        return net

    monkeypatch.setattr(Parts, "net", watched)
    paint(open_karlo(open_parts(folder, ()), "tiny").parts)
    order = list(dict.fromkeys(seen))
    assert order == [
        *(("text_encoder",), ("prior",), ("text_proj",), ("decoder",)),
        *(("super_res_first",), ("super_res_last",), ("super_res_2_first",), ("super_res_2_last",)),
    ]


def test_what_is_kept_stays_and_what_is_not_is_gone_without_being_looked_for(folder, monkeypatch):
    born: dict[str, weakref.ref[torch.nn.Module]] = {}
    load = Parts.net

    def watched(self: Parts, part: str, *ask: Any) -> Any:
        net = load(self, part, *ask)
        born[part] = weakref.ref(net)
        return net

    monkeypatch.setattr(Parts, "net", watched)
    parts = open_parts(folder, ("prior",), torch.bfloat16)
    gc.disable()  # a network that only the collector finds would hold its memory for a long time
    try:
        paint(open_karlo(parts, "tiny").parts)
    finally:
        gc.enable()
    alive = {part for part, net in born.items() if net() is not None}
    assert alive == set(parts.loaded) == {"prior", "super_res_2_last"}


def test_a_network_that_is_kept_is_read_once(folder):
    parts = open_parts(folder, None)
    assert prior(parts) is prior(parts)
    assert parts.loaded == ("prior",)


def test_a_wider_network_is_there_for_the_moment_only(folder):
    parts = open_parts(folder, None, torch.bfloat16)
    own = prior(parts, torch.bfloat16)
    assert prior(parts, torch.float32).clip_mean.dtype == torch.float32
    assert parts.loaded == ("prior", "prior")
    open_karlo(parts, "tiny").parts.embedder.read(["a cat"])
    assert parts.loaded == ("prior", "text_encoder")
    assert prior(parts, torch.bfloat16) is own
