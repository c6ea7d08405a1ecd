"""What is remembered of files goes with the test."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def dalle_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DALLE_HOME", str(tmp_path / "dalle-home"))
