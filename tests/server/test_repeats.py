"""A request that comes again with the same Idempotency-Key gets the same answer, and is painted once."""

import json
import socket
import threading
import time

import pytest

from dallecli.errors import NonFinite
from dallecli.fake_engine import FakeEngine
from dallecli.limits import IDEMPOTENCY_KEY_CHARACTERS
from dallecli.server import repeats
from dallecli.server.body import Body
from dallecli.server.repeats import Repeats
from tests.server.talking import Talk, as_form, png, service
from tests.server.test_queue import Counting, at_once, one_engine, wait_until

PATH = "/v1/images/generations"
FOX = {"prompt": "a fox", "n": 2}


def key(name: str = "k-1") -> dict[str, str]:
    return {"Idempotency-Key": name}


def test_the_same_key_and_body_get_the_same_answer_byte_for_byte_and_one_painting():
    with service(FakeEngine) as talk:
        first = talk.post(PATH, FOX, key())
        second = talk.post(PATH, {"n": 2, "prompt": "a fox"}, key())
        assert first.status == second.status == 200
        assert first.body == second.body
        assert ("idempotent-replayed" in first.headers, second.headers["idempotent-replayed"]) == (False, "true")
        assert first.headers["x-request-id"] != second.headers["x-request-id"]
        assert talk.metric("dalle_images_total") == 2
        assert talk.post(PATH, FOX, key("k-2")).body != first.body  # it has another seed
        assert talk.post(PATH, FOX).body != first.body


def test_many_at_once_with_one_key_are_one_request():
    with service(lambda: FakeEngine(0.002)) as talk:
        answers = at_once(*(lambda: talk.post(PATH, FOX, key()) for _ in range(8)))
        assert len({answer.body for answer in answers}) == 1
        assert talk.metric("dalle_images_total") == 2


def test_a_stream_is_repeated_too_also_while_it_goes_on():
    body = {**FOX, "stream": True, "partial_images": 2}
    with service(lambda: FakeEngine(0.005)) as talk:
        answers = at_once(*(lambda: talk.post(PATH, body, key()) for _ in range(3)))
        assert len({answer.body for answer in [*answers, talk.post(PATH, body, key())]}) == 1
        assert [event["type"].rpartition(".")[2] for event in answers[0].events].count("completed") == 2
        assert talk.metric("dalle_images_total") == 2


def test_a_form_is_the_same_request_whatever_its_boundary_and_file_names_are():
    with service(FakeEngine) as talk:
        kind, body = as_form((("image", png()), ("n", "1")))
        path = "/v1/images/variations"
        first = talk.ask("POST", path, body, {"Content-Type": kind, **key()})
        again = body.replace(b"edge", b"other").replace(b"passwd", b"shadow")
        second = talk.ask("POST", path, again, {"Content-Type": kind.replace("edge", "other"), **key()})
        assert first.status == 200
        assert second.body == first.body
        other = talk.form(path, ("image", png("blue")), ("n", "1"), headers=key())
        assert (other.status, other.error["code"]) == (422, "idempotency_key_reused")


def test_a_key_with_another_body_is_refused_and_not_tried_again():
    with service(FakeEngine) as talk:
        assert talk.post(PATH, FOX, key()).status == 200
        for body, path in (({**FOX, "n": 1}, PATH), (FOX, "/v1/images/variations")):
            answer = talk.post(path, body, key())
            assert (answer.status, answer.error["code"]) == (422, "idempotency_key_reused")
            assert answer.headers["x-should-retry"] == "false"
        assert talk.metric("dalle_images_total") == 2


@pytest.mark.parametrize("wrong", ["", "a" * (IDEMPOTENCY_KEY_CHARACTERS + 1), "two words", "ü"])
def test_a_key_that_is_none_is_refused(wrong):
    with service(FakeEngine) as talk:
        answer = talk.post(PATH, FOX, {"Idempotency-Key": wrong.encode("utf-8").decode("latin-1")})
        assert (answer.status, answer.error["code"]) == (400, "invalid_idempotency_key")
        assert talk.metric("dalle_images_total") == 0


def test_a_client_that_leaves_and_comes_back_finds_its_picture():
    engine = Counting(0.01)
    with service(one_engine(engine)) as talk:
        data = json.dumps({"prompt": "a fox", "seed": 7}).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\nIdempotency-Key: k-1\r\n"
        with socket.create_connection(("127.0.0.1", talk.port)) as connection:
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
            wait_until(lambda: engine.steps > 2)
        answer = talk.post(PATH, {"prompt": "a fox", "seed": 7}, key())
        assert answer.data[0]["dalle"]["seed"] == 7
        assert (talk.metric("dalle_images_total"), talk.metric("dalle_cancelled_total")) == (1, 0)


@pytest.mark.long
def test_one_who_waits_for_the_answer_of_another_may_leave():
    with service(lambda: FakeEngine(0.02)) as talk:
        first: list[int] = []
        thread = threading.Thread(target=lambda: first.append(talk.post(PATH, FOX, key()).status))
        thread.start()
        with pytest.raises(TimeoutError):
            talk.post(PATH, FOX, key(), seconds=0.2)
        thread.join()
        assert first == [200]


class Once(FakeEngine):
    """Fails the first time."""

    def __init__(self, seconds_per_step: float = 0.01) -> None:
        super().__init__(seconds_per_step)
        self.failed = False

    def paint_together(self, recipes, progress):
        for picture in super().paint_together(recipes, progress):
            if not self.failed:
                self.failed = True
                raise NonFinite("NaN")
            yield picture


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.long
def test_an_error_is_told_and_not_kept(stream):
    body = {"prompt": "a fox", "stream": stream}
    with service(one_engine(Once())) as talk:
        for answer in at_once(*(lambda: talk.post(PATH, body, key()) for _ in range(2))):
            assert "non_finite" in answer.body.decode()
        assert "non_finite" not in talk.post(PATH, body, key()).body.decode()
        refused = talk.post(PATH, {"prompt": ""}, key("k-2"))
        assert refused.status == 400
        assert talk.post(PATH, {"prompt": "a fox"}, key("k-2")).status == 200


def test_answers_are_kept_for_ten_minutes_and_no_more_than_there_is_room_for(monkeypatch):
    kept, body = Repeats(), Body({"prompt": "a fox"})

    def ask(name: str) -> bool:
        recording, new = kept.find(name, "generations", body)
        recording.over, recording.kept, recording.bytes = True, True, 40 * 2**20
        return new

    assert [ask(name) for name in ("a", "b", "a", "b", "c")] == [True, True, False, False, True]
    assert [ask(name) for name in ("d", "a", "d")] == [True, True, False]  # more than 128 MiB: the oldest is gone
    later = time.monotonic() + 601
    monkeypatch.setattr(repeats.time, "monotonic", lambda: later)
    assert ask("d")


def test_a_repeat_needs_the_token_as_the_first_does():
    from dallecli.server.serving import Serving

    with service(FakeEngine, Serving(token="a-token-that-nobody-guesses")) as talk:
        own = {"Authorization": "Bearer a-token-that-nobody-guesses"}
        assert talk.post(PATH, FOX, {**own, **key()}).status == 200
        assert Talk(talk.port).post(PATH, FOX, key()).status == 401
