"""What every test starts from."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import Hub, serve

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker a core, so one thread a worker; torch reads it once


_SLOWER = ("slow", "gpu", "ray", "clients", "contract")
_FIGURES = pytest.StashKey[dict[str, Any]]()


def pytest_configure() -> None:
    """Let the processes that tests start be stopped by signals, also where pytest runs in a shell's background.

    There SIGINT and SIGHUP are ignored, and children would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the slower suites may take an hour, and are not in that of tests that take seconds."""
    for item in items:
        if any(item.get_closest_marker(name) for name in _SLOWER):
            item.own_markers = [mark for mark in item.own_markers if mark.name != "long"]
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session", autouse=True)
def users_settings_are_out_of_reach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes what the user has set: neither this process nor those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DALLE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub on this machine, which this process and those that it starts ask; an empty HF_HOME; nobody is logged in."""
    from huggingface_hub import close_session, constants

    home = tmp_path / "hf"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with serve() as hub:
        monkeypatch.setenv("HF_HOME", str(home))
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        # huggingface_hub reads its variables when it is imported, which in this process may be long ago.
        # The library asks once a process which program it serves. Whose test comes first must not decide what is asked.
        nobody = {"harnesses": {}, "standardEnvVars": []}
        monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", nobody, raising=False)
        monkeypatch.setattr(constants, "HF_HOME", str(home))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        )
        close_session()
        yield hub
        close_session()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is opened is taken for a large one, which paints one picture at a time on a CPU."""
    monkeypatch.setattr("dallecli.studio.batches.MOST_NUMBERS", 0)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> dict[str, Any]:
    """What long tests counted, by name; it is printed at the end."""
    return pytestconfig.stash.setdefault(_FIGURES, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the figures as one line of JSON."""
    found = config.stash.get(_FIGURES, {})
    if found:
        terminalreporter.write_line(json.dumps(found))
