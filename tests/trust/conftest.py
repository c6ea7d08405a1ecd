"""What every trust test starts from, and the line of figures at the end of `pytest -m trust tests/trust`."""

import json
from typing import Any

import pytest
from cli.conftest import dalle, settings  # noqa: F401  # fixtures

_FIGURES = pytest.StashKey[dict[str, Any]]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, Any]:
    """What was counted, by name."""
    return pytestconfig.stash.setdefault(_FIGURES, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures as one line of JSON."""
    found = config.stash.get(_FIGURES, {})
    if found:
        terminalreporter.write_line(json.dumps(found))
