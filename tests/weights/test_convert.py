"""Checkpoints that unpack to more than they have are refused, in little memory and soon."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dallecli.errors import BadFile
from dallecli.limits import CHECKPOINT_SPARE
from dallecli.weights import convert as converting
from dallecli.weights.convert import convert_file

MEMORY = 1200 * 2**20
"""Bytes that the process may take: torch alone takes 250 MiB."""

SECONDS = 40


def _saved(content: Any, **how: Any) -> bytes:
    target = io.BytesIO()
    torch.save(content, target, **how)
    return target.getvalue()


def _repacked(data: bytes, compression: int, more: int = 0) -> bytes:
    """The same archive with its members compressed, and with more of them."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        for number in range(more):
            new.writestr(f"archive/data/{number + 10}", b"")
    return target.getvalue()


class _Bytes:
    """In a pickle, a call that makes so many bytes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __reduce__(self) -> Any:
        return bytearray, (self.count,)


def _with_pickle(content: Any) -> bytes:
    """A checkpoint whose pickle is of this."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved({"a": torch.zeros(1)}))) as old, zipfile.ZipFile(target, "w") as new:
        for member in old.infolist():
            plain = old.read(member)
            new.writestr(member.filename, pickle.dumps(content, 2) if member.filename.endswith("data.pkl") else plain)
    return target.getvalue()


def _claiming(data: bytes) -> bytes:
    """The same old checkpoint with a storage of a billion numbers."""
    return data.replace(b"K\x04", b"J\x00\xca\x9a\x3b")


BOMBS: dict[str, Callable[[], bytes]] = {
    "a number that is repeated a billion times": lambda: _saved({"a": torch.zeros(1).expand(30_000, 30_000)}),
    "a number that is repeated, in the old form": lambda: _saved(
        {"a": torch.zeros(1).expand(30_000, 30_000)}, _use_new_zipfile_serialization=False
    ),
    "a storage that every tensor repeats": lambda: _saved(dict.fromkeys(map(str, range(2000)), torch.zeros(250_000))),
    "compressed zeros": lambda: _repacked(_saved({"a": torch.zeros(2**26)}), zipfile.ZIP_DEFLATED),
    "bytes made by the pickle": lambda: _with_pickle({"a": _Bytes(2 * 10**9)}),
    "bytes made by the pickle, again and again": lambda: _with_pickle({str(k): _Bytes(10**8) for k in range(40)}),
    "a hundred thousand members": lambda: _repacked(_saved({"a": torch.zeros(1)}), zipfile.ZIP_STORED, more=100_000),
    "a storage longer than the file": lambda: _claiming(
        _saved({"a": torch.zeros(4)}, _use_new_zipfile_serialization=False)
    ),
}


# A process that imports torch for each: the others are in tests/trust.
@pytest.mark.parametrize("what", ["a number that is repeated a billion times", "bytes made by the pickle"])
@pytest.mark.long
def test_a_checkpoint_that_unpacks_to_more_than_it_has_is_refused(tmp_path: Path, what: str) -> None:
    refuse(tmp_path, what)


REFUSED = """
import json, resource, sys
from pathlib import Path
from dallecli.errors import BadFile
from dallecli.weights.convert import convert_file
try:
    convert_file(Path(sys.argv[1]), Path(sys.argv[2]))
except BadFile as error:
    print(json.dumps([error.lines(), error.where, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""
"""Converts, and prints the refusal and the KiB that its child took."""


def refuse(tmp_path: Path, what: str) -> None:
    """Try to convert one of these."""
    source, target = tmp_path / "model.pt", tmp_path / "model.safetensors"
    source.write_bytes(BOMBS[what]())
    # In a process of its own, whose only child is the one that unpacks.
    line = [sys.executable, "-c", REFUSED, str(source), str(target)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=SECONDS)
    lines, where, peak = json.loads(done.stdout)
    assert len(lines) <= 3
    assert where == str(source)
    assert peak * 1024 < MEMORY
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("old", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.long
def test_a_checkpoint_with_shared_tensors_is_converted(tmp_path: Path, old: bool) -> None:
    shared = torch.randn(3000, 100)
    content = {"a": shared, "b": shared, "c": shared.t(), "d": shared[:10], "e": torch.zeros(())}
    torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=not old)
    convert_file(tmp_path / "model.pt", tmp_path / "model.safetensors")
    converted = load_file(tmp_path / "model.safetensors")
    assert set(converted) == set(content)
    assert all(torch.equal(converted[name], tensor) for name, tensor in content.items())


@pytest.mark.slow
def test_a_checkpoint_of_some_size_has_the_memory_that_it_needs(tmp_path: Path) -> None:
    count = CHECKPOINT_SPARE // 4 // 4
    torch.save({str(k): torch.ones(count // 4) for k in range(4)}, tmp_path / "model.pt")
    convert_file(tmp_path / "model.pt", tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size > 4 * count


def test_a_checkpoint_is_not_converted_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    monkeypatch.setattr(converting, "CHECKPOINT_SECONDS", 0.01)
    with pytest.raises(BadFile, match="was not converted in 0 seconds"):
        convert_file(tmp_path / "model.pt", tmp_path / "model.safetensors")
