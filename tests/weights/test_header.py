"""Every way in which a weights file goes wrong has its own words, and nothing else ever comes out."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dallecli.errors import BadFile
from dallecli.limits import HEADER_BYTES
from dallecli.weights.header import Entry, read_header

GOOD = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def write(path: Path, header: Any, data: bytes = b"\0" * 24, length: int | None = None) -> Path:
    """A file with this header (JSON, or its bytes) and these data behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def complaint(file: Path) -> BadFile:
    with pytest.raises(BadFile) as raised:
        read_header(file)
    assert len(raised.value.lines()) <= 3
    assert raised.value.where == str(file)
    return raised.value


def test_a_file_of_the_library_is_read_in_the_order_of_its_bytes(file: Path) -> None:
    save_file({"b": torch.zeros(2, 3, dtype=torch.float16), "a": torch.zeros(4), "scalar": torch.zeros(())}, file)
    header = read_header(file)
    assert header["b"].shape == (2, 3)
    assert header["b"].dtype == "F16"
    assert header["scalar"].shape == ()
    starts = [entry.start for entry in header.values()]
    assert starts == sorted(starts)


def test_metadata_and_padding_are_no_tensors(file: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, **GOOD}).encode() + b"    "
    write(file, header)
    start = 8 + len(header)
    assert read_header(file) == {"a": Entry(dtype="F32", shape=(2, 3), start=start, end=start + 24)}


def test_an_empty_tensor_may_share_its_place(file: Path) -> None:
    write(file, {**GOOD, "none": {"dtype": "F32", "shape": [0], "data_offsets": [24, 24]}})
    assert set(read_header(file)) == {"a", "none"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\x01\x00\x00", "cut short"),
        (b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>" * 9, "web page"),
        (b"\xef\xbb\xbf\n  <html lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4088157592\n", "Git LFS pointer"),
        (b"PK\x03\x04archive/data.pkl", "pickled"),
        (b"\x80\x02}q\x00.", "pickled"),
        (b'{"error":"Repository not found"}', "a text, not weights: .*Repository not found"),
        (b"Entry not found", "a text, not weights: Entry not found"),
        (struct.pack("<Q", HEADER_BYTES + 1) + b"{}", "claims 16777217 bytes"),
        (b"\xff" * 64, "claims"),
        (struct.pack("<Q", 400) + b"{}", "cut short: 10 of at least 408"),
    ],
)
def test_what_is_not_a_weights_file_is_called_by_its_name(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    error = complaint(file)
    assert error.hint is not None
    with pytest.raises(BadFile, match=message):
        raise error


@pytest.mark.parametrize("cut", [1, 8, 23])
def test_a_download_cut_short_says_how_much_is_here(file: Path, cut: int) -> None:
    write(file, GOOD)
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.truncate(size - cut)
    assert complaint(file).what == f"the file is cut short: {size - cut} of {size} bytes are here"


def test_bytes_behind_the_last_tensor_are_refused(file: Path) -> None:
    write(file, GOOD, data=b"\0" * 25)
    assert "1 bytes too many" in complaint(file).what


def tensor(dtype: Any = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "header is damaged"),
        (b"[" * 100_000, "header is damaged"),
        (b"\xff\xfe{}", "header is damaged"),
        (b"[]", "not a table"),
        (b'{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"a":{}}', "a appears twice"),
        (b'{"a":{"dtype":"F32","dtype":"F16","shape":[2,3],"data_offsets":[0,24]}}', "dtype appears twice"),
        ({"a": 7}, "a is not described as a tensor"),
        ({"a": tensor(dtype="F4")}, "a is stored as F4"),
        ({"a": tensor(shape=[2, -3])}, "not described"),
        ({"a": tensor(shape=[2.0, 3])}, "not described"),
        ({"a": tensor(shape="23")}, "not described"),
        ({"a": tensor(shape=[2**41, 2**41])}, "not described"),
        ({"a": tensor(offsets=[0])}, "not described"),
        ({"a": tensor(shape=[2, 4])}, "more or fewer bytes"),
        ({"a": tensor(offsets=[24, 0])}, "more or fewer bytes"),
        ({"a": tensor(offsets=[-24, 0])}, "more or fewer bytes"),
        ({"a": tensor(), "b": tensor(offsets=[12, 36])}, "b overlaps another"),
        ({"a": tensor(), "b": tensor()}, "b overlaps another"),
        ({"a": tensor(offsets=[8, 32])}, "a lies behind a gap"),
        ({"a\x1b[31m": tensor()}, "name that no network uses"),
        ({"../../etc/passwd\0": tensor()}, "name that no network uses"),
        ({"n" * 513: tensor()}, "name that no network uses"),
        ({str(i): tensor(shape=[0], offsets=[0, 0]) for i in range(20_001)}, "20001 tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_that_does_not_add_up_is_refused(file: Path, header: Any, message: str) -> None:
    assert message in complaint(write(file, header)).what


def test_a_file_that_is_not_there_is_an_error_with_its_path(file: Path) -> None:
    assert "No such file" in complaint(file).what


def test_damage_anywhere_in_the_header_never_escapes_as_another_error(tmp_path: Path) -> None:
    original = tmp_path / "original.safetensors"
    save_file({f"layer.{i}.weight": torch.ones(i + 1, 3) for i in range(6)}, original)
    content = original.read_bytes()
    header_end = 8 + int.from_bytes(content[:8], "little")
    damaged = tmp_path / "damaged.safetensors"

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(at=st.integers(0, header_end - 1), byte=st.integers(0, 255), cut=st.integers(0, 40))
    def survives(at: int, byte: int, cut: int) -> None:
        changed = bytearray(content)
        changed[at] = byte
        damaged.write_bytes(changed[: len(changed) - cut])
        try:
            ours = read_header(damaged)
        except BadFile:
            return
        # What is let through is sound: the library agrees with every name and shape.
        try:
            with safe_open(damaged, framework="pt", backend="pread") as theirs:
                assert {name: tuple(theirs.get_slice(name).get_shape()) for name in theirs.keys()} == {  # noqa: SIM118
                    name: entry.shape for name, entry in ours.items()
                }
        except SafetensorError:
            pass  # the library is stricter in places, such as about a header that starts with a blank

    survives()
