"""Prompts that the server has rewritten: `revised_prompt`, who may ask for it, and what nobody hears."""

import threading
import time

import pytest
from chat import Reply, chatting

from dallecli.fake_engine import FakeEngine
from dallecli.rewriting.endpoint import Endpoint
from dallecli.rewriting.rewriter import Rewriter
from dallecli.server.serving import Serving
from server.talking import hole, png, process, service


def _serving(chat, **changes: object) -> Serving:
    rewriter = Rewriter(endpoint=Endpoint(url=chat.url, model="parrot", key="sk-secret-0123"), **changes)  # type: ignore[arg-type]
    return Serving(port=0, rewriter=rewriter)


def test_every_picture_says_how_its_prompt_was_rewritten():
    with chatting("a penguin", "a panda") as chat, service(FakeEngine, _serving(chat)) as server:
        first, second = server.generate(n=2).data
        (third,) = server.generate().data
    assert [one["revised_prompt"] for one in (first, second, third)] == ["a penguin", "a penguin", "a panda"]
    recipe = first["dalle"]["recipe"]
    assert (recipe["prompt"], recipe["rewritten"]["sentences"][0]["asked"]) == ("a penguin", "a red car")


def test_a_client_may_say_that_its_prompt_stays_as_it_is():
    with chatting("a penguin") as chat, service(FakeEngine, _serving(chat)) as server:
        assert server.generate(rewrite=False).data[0]["revised_prompt"] == "a red car"
        assert server.generate(rewrite="false").data[0]["revised_prompt"] == "a red car"
        assert server.generate(rewrite=True).data[0]["revised_prompt"] == "a penguin"
        wrong = server.generate(rewrite="perhaps")
    assert (len(chat.asked), wrong.status, wrong.error["param"]) == (1, 400, "rewrite")


def test_a_server_without_a_language_model_says_so_and_returns_prompts_as_before():
    with service(FakeEngine) as server:
        assert server.generate().data[0]["revised_prompt"] == "a red car"
        assert server.generate(rewrite=False).data[0]["revised_prompt"] == "a red car"
        refused = server.generate(rewrite=True)
    assert (refused.status, "no prompt is rewritten here" in refused.error["message"]) == (400, True)


def test_a_failure_is_a_bad_gateway_that_tells_nobody_where_it_is():
    with chatting(Reply(500, b'{"error": "sk-secret-0123"}')) as chat, service(FakeEngine, _serving(chat)) as server:
        failed = server.generate()
        optional = server.generate(rewrite="optional")
    assert (failed.status, "could not be rewritten: parrot answers 500" in failed.error["message"]) == (502, True)
    for secret in (b"sk-secret", str(chat.port).encode()):
        assert secret not in failed.body + optional.body
    (entry,) = optional.data
    assert entry["revised_prompt"] == "a red car"
    assert "painted as it was typed" in optional.json["dalle"]["warnings"][0]


def test_where_the_owner_says_so_a_failure_is_a_warning_for_each_client():
    with chatting(Reply(500), "a penguin") as chat, service(FakeEngine, _serving(chat, optional=True)) as server:
        assert server.generate().data[0]["revised_prompt"] == "a red car"
        assert server.generate().data[0]["revised_prompt"] == "a penguin"
        assert server.generate(rewrite=True).status == 200


def test_edits_variations_and_streams_are_rewritten_too():
    with chatting("a penguin") as chat, service(FakeEngine, _serving(chat)) as server:
        edit = server.form("/v1/images/edits", ("image", png()), ("mask", hole()), ("prompt", "my cat"))
        assert edit.data[0]["revised_prompt"] == "a penguin"
        assert server.form("/v1/images/variations", ("image", png())).status == 200
        events = server.generate(stream=True).events
    assert (events[-1]["revised_prompt"], chat.questions) == ("a penguin", ["my cat", "a red car"])


@pytest.mark.long
def test_a_slow_language_model_keeps_nobody_else_waiting():
    with chatting(Reply(wait=1.5)) as chat, service(FakeEngine, _serving(chat, optional=True)) as server:
        slow = threading.Thread(target=server.generate)
        slow.start()
        while not chat.asked:
            time.sleep(0.01)
        began = time.monotonic()
        assert server.generate(rewrite=False).status == 200
        assert time.monotonic() - began < 1.0
        slow.join()


@pytest.mark.long
def test_a_server_that_goes_down_waits_for_no_language_model(tmp_path):
    with chatting(Reply(wait=60.0)) as chat, process(tmp_path, *chat.options, "--drain", "0.2") as server:
        answers = []
        asking = threading.Thread(target=lambda: answers.append(server.generate()))
        asking.start()
        while not chat.asked:
            time.sleep(0.01)
        assert server.process is not None
        server.process.terminate()
        assert server.process.wait(15) in (0, 143)
        asking.join(5)
    assert answers[0].status == 503
