"""Whoever asks the engine's paths for what they do not give: the right status, nothing opened, nothing painted."""

import hashlib
import json

import pytest

from dallecli.fake_engine import FakeEngine
from dallecli.remote.protocol import INPUTS, PROTOCOL, QUESTIONS, recipe_said
from dallecli.server.serving import Serving
from dallecli.tasks.builder import build_request
from tests.server.talking import Answer, Talk, png, service

TOKEN = "0123456789abcdef-token"


def recipe(**values: object) -> dict[str, object]:
    request = build_request("generate", {"model": "starter", "prompt": "a fox", "seed": 3, **values})
    return recipe_said(FakeEngine().resolve(request))


@pytest.fixture(scope="module")
def talk():
    with service(FakeEngine) as talk:
        yield talk


def ask(talk: Talk, question: str, message: object, **headers: str) -> Answer:
    return talk.post(f"{QUESTIONS}/{question}", message, headers)


def frames(answer: Answer) -> list[dict[str, object]]:
    """The frames of an answer, without the bytes behind them."""
    found, rest = [], answer.body
    while rest:
        line, _, rest = rest.partition(b"\n")
        found.append(json.loads(line))
        rest = rest[found[-1].get("bytes", 0) :]
    return found


FOX = {"task": "generate", "values": {"model": "starter", "prompt": "a fox", "seed": 3}}


def values(**more: object) -> dict[str, object]:
    return {**FOX, "values": {**FOX["values"], **more}}


def test_a_question_is_answered_in_frames_with_an_end(talk: Talk):
    answer = ask(talk, "resolve", FOX)
    assert [list(frame) for frame in frames(answer)] == [["settled"], ["end"]]
    painted = frames(ask(talk, "paint", {"recipes": [recipe(n=2)]}))
    assert [next(iter(frame)) for frame in painted if "step" not in frame] == ["job", "picture", "picture", "end"]
    assert any("step" in frame for frame in painted)
    assert talk.get("/health").json["engine"] == PROTOCOL


BAD = {
    "a path for a picture": ("resolve", values(init="/etc/hostname"), 400),
    "a path for a mask": (
        "resolve",
        {"task": "inpaint", "values": {"model": "starter", "image": "/etc/hostname"}},
        400,
    ),
    "a path for words": ("embed", {"values": {"model": "starter", "inputs": ["/etc/hostname"]}}, 400),
    "a path for codes": ("decode", {"values": {"model": "starter", "inputs": ["/etc/hostname"]}}, 400),
    "a folder for a model": ("resolve", values(model="./tests"), 404),
    "an absolute folder": ("resolve", values(model="/etc"), 404),
    "a folder of a user": ("resolve", values(model="~root"), 404),
    "a folder for a judge": ("resolve", values(best_of=4, judge="/etc"), 404),
    "a model that is none": ("resolve", values(model={"kind": "text", "words": "x"}), 400),
    "a name that only stands for a model": ("resolve", values(model="dall-e-3"), 404),
    "no model": ("resolve", {"task": "generate", "values": {"prompt": "a fox"}}, 400),
    "no values": ("resolve", {"task": "generate"}, 400),
    "no task": ("resolve", {"values": {}}, 400),
    "a task that is none": ("resolve", {"task": "reboot", "values": {}}, 400),
    "a value that is none": ("resolve", values(reboot=True), 400),
    "more than is asked": ("resolve", {**FOX, "more": 1}, 400),
    "a file that is not here": ("resolve", values(init={"kind": "picture", "sha256": "ab" * 32}), 409),
    "lists in lists": ("resolve", values(init=[[[]]]), 400),
    "a recipe that is none": ("paint", {"recipes": [{"format": "dalle-recipe/2"}]}, 400),
    "no recipe": ("paint", {"recipes": []}, 400),
    "two recipes": ("paint", {"recipes": [recipe(), recipe()]}, 400),
    "a list that is none": ("paint", {"recipes": {}}, 400),
    "a recipe of a folder": ("paint", {"recipes": [{**recipe(), "model": "/etc"}]}, 404),
    "a recipe of nobody": ("revive", {"recipe": {**recipe(), "model": "nobody"}}, 404),
    "a recipe with a folder": ("revive", {"recipe": recipe(), "model": "/etc"}, 404),
    "too many pictures": ("paint", {"recipes": [{**recipe(), "count": 10**9}]}, 400),
    "steps without end": (
        "paint",
        {"recipes": [{**recipe(), "stages": {"prior": {"sampler": "ddim", "steps": 2**30, "guidance": 1.0}}}]},
        400,
    ),
    "pictures that are not alike": ("paint_together", {"recipes": [recipe(), recipe(steps=5)]}, 400),
    "pictures of several": ("paint_together", {"recipes": [recipe(n=3)]}, 400),
    "too many at once": ("paint_together", {"recipes": [recipe()] * 65}, 400),
    "scores that are none": ("paint", {"recipes": [recipe(best_of=4)], "scores": [[1, "x"]]}, 400),
    "endless scores": ("paint", {"recipes": [recipe(best_of=4)], "scores": [[1, True]]}, 400),
    "what nobody asks": ("reboot", {}, 404),
    "nothing": ("paint", {}, 400),
}


@pytest.mark.parametrize(("question", "message", "status"), BAD.values(), ids=BAD)
def test_what_nobody_may_ask_is_refused_with_its_status_and_nothing_is_painted(question, message, status, talk: Talk):
    before = talk.metric("dalle_images_total")
    answer = ask(talk, question, message)
    assert answer.status == status, answer.body[:300]
    assert answer.error["dalle"]["exit_code"] == 2
    assert "root:" not in answer.body.decode()
    assert talk.metric("dalle_images_total") == before


BODIES = {
    "empty": b"",
    "half a list": b"[",
    "a list": b"[]",
    "a number": b"3",
    "not a number": b'{"recipes": NaN}',
    "deep": b'{"a":' * 900 + b"1" + b"}" * 900,
    "no text": b"\xff\xfe",
    "many parts": b'{"a": [' + b"1," * 20_000 + b"1]}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_none_is_refused(body, talk: Talk):
    answer = talk.ask("POST", f"{QUESTIONS}/paint", body, {"Content-Type": "application/json"})
    assert answer.status == 400


def test_a_deep_message_is_refused(talk: Talk):
    deep: object = 1
    for _ in range(400):
        deep = {"sha256": deep}
    assert ask(talk, "resolve", {"task": "generate", "values": {"model": "starter", "init": deep}}).status == 400


def test_another_version_is_refused_by_its_number(talk: Talk):
    answer = talk.post("/dalle/engine/2/resolve", FOX)
    assert (answer.status, answer.error["code"]) == (404, "other_protocol")
    assert PROTOCOL in answer.error["message"]
    assert talk.get(f"{QUESTIONS}/resolve").status == 405


@pytest.mark.long
def test_files_are_kept_by_their_content(talk: Talk):
    data = png("green")
    path = f"{INPUTS}/{hashlib.sha256(data).hexdigest()}"
    assert talk.ask("HEAD", path).status == 404
    wrong = talk.ask("PUT", f"{INPUTS}/{'0' * 64}", data)
    assert (wrong.status, wrong.error["code"]) == (400, "input_mismatch")
    assert talk.ask("HEAD", f"{INPUTS}/{'0' * 64}").status == 404
    for _ in range(2):
        assert talk.ask("PUT", path, data).status == 201
    assert talk.ask("HEAD", path).status == 200
    for name in ("x", "..%2f..%2fetc%2fpasswd", "A" * 64, "0" * 63):
        assert talk.ask("PUT", f"{INPUTS}/{name}", data).status == 404
        assert talk.ask("HEAD", f"{INPUTS}/{name}").status == 404
    assert talk.get(path).status == 405
    big = talk.ask("PUT", path, None, {"Content-Length": str(2**40)})
    assert big.status in (413, 408)


def test_without_the_token_nothing_is_answered_and_nothing_kept():
    with service(FakeEngine, Serving(port=0, token=TOKEN)) as talk:
        data = png("green")
        path = f"{INPUTS}/{hashlib.sha256(data).hexdigest()}"
        for token in (None, "wrong-wrong-wrong-wrong"):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            assert ask(talk, "resolve", FOX, **headers).status == 401
            assert talk.ask("PUT", path, data, headers).status == 401
            assert talk.ask("HEAD", path, None, headers).status == 401
            assert talk.ask("GET", f"/dalle/looks/{'0' * 32}", None, headers).status == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert talk.ask("HEAD", path, None, right).status == 404
        assert ask(talk, "resolve", FOX, **right).status == 200
        cross = {**right, "Origin": "https://evil.example"}
        assert ask(talk, "resolve", FOX, **cross).status == 403
        assert talk.ask("PUT", path, data, cross).status == 403


def test_nobody_looks_at_what_is_not_his(talk: Talk):
    assert talk.get(f"/dalle/looks/{'0' * 32}").status == 404
