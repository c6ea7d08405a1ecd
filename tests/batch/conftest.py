"""Pictures to name in prompt files, in an empty folder."""

from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def cat(folder: Path) -> Path:
    """A picture of 32 x 32 pixels."""
    path = folder / "cat.png"
    Image.new("RGB", (32, 32), (200, 120, 40)).save(path)
    return path
