"""Digests are those of the bytes, whatever was remembered."""

import hashlib
import os
from pathlib import Path

import pytest

from dallecli.errors import BadFile
from dallecli.weights.digest import WORTH_REMEMBERING, file_digest

LONG_AGO = 10**9 * 1_000_000_000  # nanoseconds


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock run ahead, so that files written by the test count as settled."""
    from dallecli.weights import digest

    monkeypatch.setattr(digest, "SETTLED", -1.0)


def write(path: Path, byte: bytes, size: int = WORTH_REMEMBERING) -> str:
    path.write_bytes(byte * size)
    return hashlib.sha256(byte * size).hexdigest()


def notes(home: Path) -> list[Path]:
    return list((home / "digests").glob("*"))


def test_a_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "w", b"a", 5) == file_digest(tmp_path / "w")


@pytest.mark.usefixtures("settle")
def test_a_large_file_is_hashed_once(tmp_path: Path, home: Path) -> None:
    expected = write(tmp_path / "w", b"a")
    assert file_digest(tmp_path / "w") == expected
    (note,) = notes(home)
    note.write_text("f" * 64)  # what is remembered is believed
    assert file_digest(tmp_path / "w") == "f" * 64


@pytest.mark.usefixtures("settle")
def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    write(tmp_path / "w", b"a")
    file_digest(tmp_path / "w")
    expected = write(tmp_path / "w", b"b")
    os.utime(tmp_path / "w", ns=(LONG_AGO, LONG_AGO))
    assert file_digest(tmp_path / "w") == expected


@pytest.mark.usefixtures("settle")
def test_a_note_that_is_no_digest_is_ignored(tmp_path: Path, home: Path) -> None:
    expected = write(tmp_path / "w", b"a")
    file_digest(tmp_path / "w")
    (note,) = notes(home)
    note.write_bytes(b"\xff torn")
    assert file_digest(tmp_path / "w") == expected


def test_a_file_that_just_changed_is_not_remembered(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "w", b"a")
    file_digest(tmp_path / "w")
    assert notes(home) == []


@pytest.mark.usefixtures("settle")
def test_small_files_are_not_remembered(tmp_path: Path, home: Path) -> None:
    write(tmp_path / "w", b"a", 100)
    file_digest(tmp_path / "w")
    assert notes(home) == []


@pytest.mark.usefixtures("settle")
def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "file"))
    assert write(tmp_path / "w", b"a") == file_digest(tmp_path / "w")


def test_a_file_that_is_gone_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as raised:
        file_digest(tmp_path / "gone")
    assert raised.value.where == str(tmp_path / "gone")
