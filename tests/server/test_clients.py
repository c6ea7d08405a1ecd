"""The clients of others do what their scripts say, against a real server: `tests/server/clients` installs them."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.server.clients import CLIENTS, FOLDER, Client
from tests.server.clients.scripts import SCRIPTS, STARTS
from tests.server.talking import Talk, hole, png, process

pytestmark = pytest.mark.clients

TOKEN = "a-token-that-nobody-guesses"

CASES = [(client, script) for client in CLIENTS for script in SCRIPTS[client.scripts] if script not in client.without]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "picture.png").write_bytes(png())
    (folder / "mask.png").write_bytes(hole())
    with process(folder, DALLE_TOKEN=TOKEN, seconds="0.001") as talk:
        talk.headers["Authorization"] = f"Bearer {TOKEN}"
        yield talk


@pytest.mark.parametrize(("client", "script"), CASES, ids=[f"{client.name}-{script}" for client, script in CASES])
def test_a_client_works(server: Talk, client: Client, script: str) -> None:
    if FOLDER not in os.environ or not client.is_here:
        pytest.skip("the clients are not here: python -m tests.server.clients")
    assert server.log is not None
    folder = server.log.parent
    arguments = [f"http://127.0.0.1:{server.port}/v1", TOKEN, str(folder / "picture.png"), str(folder / "mask.png")]
    code = STARTS[client.scripts] + SCRIPTS[client.scripts][script]
    environment = {**os.environ, "OPENAI_BASE_URL": arguments[0], "OPENAI_API_KEY": TOKEN}
    done = subprocess.run(
        [*client.command(code), *arguments],
        capture_output=True,
        text=True,
        cwd=client.folder,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert server.get("/health").json["status"] == "ok"


def test_after_all_of_them_nothing_is_waiting(server: Talk) -> None:
    assert server.get("/health").json["waiting"] == 0
    assert server.metric("dalle_failures_total") == 0
