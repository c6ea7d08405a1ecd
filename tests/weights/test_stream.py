"""Every number of a file arrives, in its place, however the file is cut into blocks."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from dallecli.weights import stream as streaming
from dallecli.weights.header import header_of
from dallecli.weights.stream import DTYPES, stream

CPU = torch.device("cpu")
KINDS = st.sampled_from(list(DTYPES.values()))


def streamed(file: Path, leave_out: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file, put together again from what is streamed of them."""
    with file.open("rb", buffering=0) as opened:
        entries = {name: entry for name, entry in header_of(opened, file).items() if name != leave_out}
        whole = {name: torch.full(entry.shape, torch.nan, dtype=DTYPES[entry.dtype]) for name, entry in entries.items()}
        for name, first, numbers in stream(opened, entries, CPU):
            assert numbers.numel() * numbers.element_size() <= streaming.BLOCK
            place = whole[name].view(-1)[first : first + len(numbers)]
            assert place.isnan().all()  # nothing comes twice
            place.copy_(numbers)
    return whole


@given(tensors=st.lists(st.tuples(KINDS, st.integers(0, 70)), min_size=1, max_size=8), block=st.sampled_from([8, 64]))
@settings(max_examples=200, deadline=None)
@pytest.mark.long
def test_what_arrives_is_what_was_stored(tensors, block, tmp_path_factory):
    file = tmp_path_factory.mktemp("stream") / "model.safetensors"
    stored = {f"{k}": torch.randn(count).to(dtype) for k, (dtype, count) in enumerate(tensors)}
    save_file(stored, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "BLOCK", block)
        found = streamed(file)
    assert set(found) == set(stored)
    assert all(torch.equal(found[name], stored[name]) for name in stored)


def test_numbers_that_lie_crooked_arrive(tmp_path):
    # The format allows it; its own library sorts by width, so that it does not write such a file.
    file = tmp_path / "model.safetensors"
    header = (
        b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]}}'
    )
    numbers = torch.tensor([1.5], dtype=torch.bfloat16), torch.tensor([2.5, -3.5])
    data = b"".join(bytes(x.view(torch.uint8).numpy()) for x in numbers)
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    found = streamed(file)
    assert torch.equal(found["a"], numbers[0])
    assert torch.equal(found["b"], numbers[1])


def test_what_is_not_asked_for_is_passed_over(tmp_path):
    file = tmp_path / "model.safetensors"
    stored = {name: torch.randn(5) for name in "abc"}
    save_file(stored, file)
    found = streamed(file, leave_out="b")
    assert set(found) == {"a", "c"}
    assert torch.equal(found["c"], stored["c"])


def test_a_file_that_is_cut_short_between_two_blocks_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", 64)
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.randn(1000)}, file)
    with file.open("rb", buffering=0) as opened:
        chunks = stream(opened, header_of(opened, file), CPU)
        next(chunks)
        os.truncate(file, file.stat().st_size - 1000)
        with pytest.raises(EOFError, match="before its last tensor"):
            list(chunks)
