"""Schemathesis asks the server whatever its document allows, and what it forbids: the answers are as it says.

.venv/bin/pip install -c constraints.txt -e '.[contract]'
.venv/bin/pytest -m contract tests/server
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from dallecli.server.openapi import document
from dallecli.server.routes import OPERATIONS
from tests.server.talking import Talk, process, wait_until

schemathesis = pytest.importorskip("schemathesis", reason="it needs the extra `contract`: see the top of this file")

from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

pytestmark = pytest.mark.contract

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with process(tmp_path_factory.mktemp("contract"), "--queue", "1000", DALLE_TOKEN=TOKEN) as talk:
        talk.headers["Authorization"] = f"Bearer {TOKEN}"
        yield talk


DOCUMENT = schemathesis.openapi.from_dict(document())
MODES = schemathesis.GenerationMode
CASES = [(operation.method, operation.shown, mode) for operation in OPERATIONS for mode in MODES]


@pytest.mark.parametrize(("method", "path", "mode"), CASES, ids=[f"{m} {p} {mode.value}" for m, p, mode in CASES])
def test_answers_are_as_documented_and_nothing_is_painted_for_an_error(server, method, path, mode):
    operation = DOCUMENT[path][method]
    base = f"http://127.0.0.1:{server.port}"

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        wait_until(lambda: not _at_work(server))  # jobs that were accepted before
        before = server.metric("dalle_images_total")
        answer = case.call(base_url=base, headers=server.headers, timeout=60)
        # A model refuses dials that it lacks, and a file that is none: what the document allows need not be painted.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance], headers=server.headers)
        if answer.status_code >= 400:
            assert server.metric("dalle_images_total") == before

    try:
        ask()
    except Unsatisfiable:
        pytest.skip("there is nothing that could be wrong")


def _at_work(server: Talk) -> bool:
    jobs = server.get("/dalle/state").json["jobs"]
    return any(job["status"] in ("waiting", "painting") for job in jobs)


def test_after_all_of_them_the_server_is_well(server: Talk) -> None:
    assert server.get("/health").json["status"] == "ok"
    assert server.metric("dalle_failures_total") == 0
    assert server.log is not None
    assert "Traceback" not in server.log.read_text()
