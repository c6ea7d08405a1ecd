"""Many callers and one painter: groups, room, turns, clients that leave, failures, and the end."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from dallecli.errors import NonFinite, OutOfMemory
from dallecli.fake_engine import FakeEngine
from dallecli.server import painter
from dallecli.server import queue as turns
from dallecli.server.files import Files
from dallecli.server.serving import Serving
from dallecli.server.ticket import ImagesTicket
from dallecli.tasks.builder import build_request
from tests.server.talking import Answer, Talk, png, process, service, wait_until


class Counting(FakeEngine):
    """Remembers what was painted together, and counts the steps."""

    def __init__(self, seconds_per_step: float = 0.0) -> None:
        super().__init__(seconds_per_step)
        self.groups: list[list[str]] = []
        self.steps = 0

    def paint_together(self, recipes, progress):
        self.groups.append([recipe.prompt for recipe in recipes])
        yield from super().paint_together(recipes, self._counted(progress))

    def paint(self, recipe, progress):
        yield from super().paint(recipe, self._counted(progress))

    def _counted(self, progress):
        def count(step):
            self.steps += 1
            progress(step)

        return count


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def one_engine(engine: FakeEngine) -> Callable[[], FakeEngine]:
    """The first engine that is made is this one, which paints; the others check."""
    made = iter([engine])
    return lambda: next(made, FakeEngine())


# Groups


@pytest.mark.long
def test_requests_that_are_alike_are_painted_together_and_nobody_is_waited_for():
    engine = Counting(0.005)
    with service(one_engine(engine)) as talk:
        answers = at_once(*(lambda k=k: talk.generate(prompt=f"a fox {k}", seed=k) for k in range(9)))
    assert all(answer.status == 200 for answer in answers)
    assert max(map(len, engine.groups)) == engine.GROUP
    assert sum(map(len, engine.groups)) == 9


@pytest.mark.long
def test_programs_that_ask_again_at_once_are_painted_together(monkeypatch):
    monkeypatch.setattr(painter, "COMING", 1.0)
    monkeypatch.setattr(painter, "COMING_SHARE", 100.0)
    engine = Counting(0.005)

    def ask_four_times(talk: Talk, caller: int) -> list[Answer]:
        return [talk.generate(prompt=f"caller {caller}", seed=k) for k in range(4)]

    with service(one_engine(engine)) as talk, ThreadPoolExecutor(4) as callers:
        for answers in callers.map(ask_four_times, [talk] * 4, range(4)):
            assert all(answer.status == 200 for answer in answers)
    sizes = [len(group) for group in engine.groups]
    assert sum(sizes) == 16
    assert sizes.count(4) >= 3


def test_who_asks_alone_waits_for_nobody(monkeypatch):
    with service(FakeEngine) as talk:
        at_once(*(lambda k=k: talk.generate(seed=k) for k in range(6)))
        monkeypatch.setattr(painter, "COMING", 60.0)
        monkeypatch.setattr(painter, "COMING_SHARE", 10000.0)
        began = time.monotonic()
        for k in range(5):
            talk.generate(seed=k)
    assert time.monotonic() - began < 30


def test_what_is_painted_by_itself_waits_for_nobody(monkeypatch):
    for name in ("COMING", "CLOSE"):
        monkeypatch.setattr(painter, name, 60.0)
    with service(FakeEngine) as talk:
        began = time.monotonic()
        assert talk.form("/v1/images/variations", ("image", png()), ("seed", "8")).status == 200
    assert time.monotonic() - began < 30


@pytest.mark.long
def test_a_picture_does_not_depend_on_what_it_is_painted_with():
    with service(lambda: FakeEngine(0.001)) as talk:
        alone = [talk.generate(seed=k).data[0]["b64_json"] for k in range(12)]
        together = at_once(*(lambda k=k: talk.generate(seed=k) for k in range(12)))
    assert [answer.data[0]["b64_json"] for answer in together] == alone


@pytest.mark.long
def test_pictures_of_several_requests_go_to_the_right_one():
    with service(lambda: FakeEngine(0.0005), Serving(queue=100)) as talk:
        answers = at_once(*(lambda k=k: talk.generate(seed=100 * k, n=1 + k % 4) for k in range(16)))
    for k, answer in enumerate(answers):
        assert [entry["dalle"]["seed"] for entry in answer.data] == [100 * k + i for i in range(1 + k % 4)]


def test_requests_with_pictures_are_painted_among_the_others():
    with service(lambda: FakeEngine(0.0005)) as talk:

        def vary():
            return talk.form("/v1/images/variations", ("image", png()), ("n", "3"), ("seed", "8"))

        answers = at_once(*([vary, lambda: talk.generate(n=2, seed=3)] * 3))
    assert [[entry["dalle"]["seed"] for entry in answer.data] for answer in answers] == [[8, 9, 10], [3, 4]] * 3


# Room


@pytest.mark.long
def test_a_full_queue_sends_people_away_with_a_time_to_come_back():
    with service(lambda: FakeEngine(0.02), Serving(queue=4)) as talk:
        answers = at_once(*(talk.generate for _ in range(12)))
    refused = [answer for answer in answers if answer.status != 200]
    assert 4 <= len(refused) <= 8  # at most four are painted at once, and four wait
    for answer in refused:
        assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
        assert answer.error["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "x-should-retry" not in answer.headers


def test_a_request_that_is_larger_than_the_queue_is_painted_when_nobody_waits():
    with service(FakeEngine, Serving(queue=2)) as talk:
        assert len(talk.generate(n=10).data) == 10


def test_health_and_metrics_are_answered_while_everything_is_full():
    with service(lambda: FakeEngine(0.02), Serving(queue=2)) as talk:
        painting = threading.Thread(target=talk.generate)
        painting.start()
        for _ in range(20):
            begun = time.monotonic()
            assert talk.get("/health").status == talk.get("/metrics").status == 200
            assert time.monotonic() - begun < 0.5
        painting.join()


# Clients that leave


def _left(talk: Talk, body: dict[str, object]) -> socket.socket:
    """A request whose client can leave."""
    data = json.dumps(body).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
    connection = socket.create_connection(("127.0.0.1", talk.port))
    connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + data)
    return connection


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.long
def test_when_a_client_leaves_painting_ends_at_the_next_step(stream):
    engine = Counting(0.02)
    with service(one_engine(engine)) as talk:
        connection = _left(talk, {"prompt": "a fox", "n": 10, "stream": stream})
        wait_until(lambda: engine.steps > 3)
        connection.close()
        wait_until(lambda: talk.metric("dalle_cancelled_total") == 1)
        time.sleep(0.1)
        done = engine.steps
        time.sleep(0.3)
        assert engine.steps == done < 60
        assert talk.metric("dalle_cancelled_total", '{when="painting"}') == 1
        assert talk.generate(prompt="the next").status == 200


def test_a_request_whose_client_has_left_is_never_painted():
    engine = Counting(0.01)
    with service(one_engine(engine)) as talk:
        first = threading.Thread(target=talk.generate)
        first.start()
        wait_until(lambda: engine.steps > 2)
        connection = _left(talk, {"prompt": "nobody waits", "guidance": 2})
        wait_until(lambda: talk.get("/health").json["waiting"] == 1)
        connection.close()
        wait_until(lambda: talk.get("/health").json["waiting"] == 0)
        first.join()
        assert ["nobody waits"] not in engine.groups
        assert talk.metric("dalle_cancelled_total", '{when="waiting"}') == 1


@pytest.mark.long
def test_one_client_that_leaves_does_not_end_the_others_of_its_group():
    engine = Counting(0.01)
    with service(one_engine(engine)) as talk:
        blocker = threading.Thread(target=talk.generate, kwargs={"prompt": "first"})
        blocker.start()
        wait_until(lambda: engine.steps > 2)
        leaving = _left(talk, {"prompt": "leaves"})
        wait_until(lambda: talk.get("/health").json["waiting"] == 1)
        staying: list[Answer] = []
        thread = threading.Thread(target=lambda: staying.append(talk.generate(prompt="stays", seed=1)))
        thread.start()
        wait_until(lambda: ["leaves", "stays"] in engine.groups)
        leaving.close()
        thread.join()
        blocker.join()
        assert staying[0].status == 200


@pytest.mark.long
def test_a_client_that_is_not_patient_is_not_painted_for_after_its_time():
    engine = Counting(0.01)
    with service(one_engine(engine)) as talk:
        answer = talk.post("/v1/images/generations", {"prompt": "a", "n": 10}, {"x-stainless-read-timeout": "0.5"})
        assert (answer.status, answer.error["code"]) == (503, "timeout")
        assert answer.headers["x-should-retry"] == "false"
        done = engine.steps
        time.sleep(0.2)
        assert engine.steps == done
        for odd in ("nan", "-1", "x", "inf", ""):
            assert talk.post("/images/generations", {"prompt": "a"}, {"x-stainless-read-timeout": odd}).status == 200


# Failures


class Lingering(FakeEngine):
    """Goes on for a while after its last picture."""

    def paint_together(self, recipes, progress):
        yield from super().paint_together(recipes, progress)
        time.sleep(0.5)


def test_whoever_has_a_picture_finds_it_counted():
    with service(Lingering) as server:
        assert server.generate().status == 200
        assert server.metric("dalle_images_total") == 1


class Failing(FakeEngine):
    """Fails for some prompts, alone and in company."""

    ERRORS: ClassVar = {"nan": NonFinite("NaN"), "memory": OutOfMemory("no room"), "bug": ValueError("zebra")}

    def paint_together(self, recipes, progress):
        for recipe in recipes:
            if recipe.prompt in self.ERRORS:
                list(super().paint_together(recipes[:1], progress))
                raise self.ERRORS[recipe.prompt]
        yield from super().paint_together(recipes, progress)


@pytest.mark.parametrize(
    ("bad", "status", "code"),
    [("nan", 500, "non_finite"), ("memory", 503, "out_of_memory"), ("bug", 500, "internal_error")],
)
def test_one_bad_request_never_harms_its_neighbours(bad, status, code):
    prompts = ["a", "b", bad, "c", "d", "e", bad, "f"]
    with service(lambda: Failing(0.001)) as talk:
        answers = at_once(*(lambda prompt=prompt: talk.generate(prompt=prompt, seed=1) for prompt in prompts))
        for prompt, answer in zip(prompts, answers, strict=True):
            assert answer.status == (status if prompt == bad else 200)
            if prompt == bad:
                assert answer.error["code"] == code
                assert answer.error["type"] == "server_error"
                assert answer.headers["x-should-retry"] == "false"
                assert "zebra" not in answer.body.decode()
        assert talk.generate().status == 200
        assert talk.metric("dalle_failures_total") == 2


def test_a_stream_that_fails_ends_with_an_error():
    with service(Failing) as talk:
        events = talk.generate(prompt="nan", stream=True).events
    assert [event["type"] for event in events] == ["error"]
    assert events[0]["error"]["code"] == "non_finite"


# Turns


class Twins(Counting):
    """Says when another model is opened."""

    def __init__(self, seconds_per_step: float = 0.0) -> None:
        super().__init__(seconds_per_step)
        self.opened: list[str] = []

    def paint_together(self, recipes, progress):
        if self.opened[-1:] != [recipes[0].model]:
            self.opened.append(recipes[0].model)
        yield from super().paint_together(recipes, progress)


def _mixed(talk: Talk) -> list[Answer]:
    """Requests of two models in turn, while another is painted."""
    names = ["starter", "other"] * 5
    return at_once(*(lambda name=name: talk.generate(model=name, seed=1) for name in names))


@pytest.mark.long
def test_requests_of_the_open_model_come_first_but_not_for_ever(monkeypatch):
    serving = Serving(aliases={"other": "karlo"})
    monkeypatch.setattr("dallecli.server.names.locate", lambda spec: None)
    monkeypatch.setattr(FakeEngine, "MODELS", ("starter", "karlo"))
    engine = Twins(0.002)
    with service(one_engine(engine), serving) as talk:
        assert all(answer.status == 200 for answer in _mixed(talk))
    assert len(engine.opened) <= 3
    monkeypatch.setattr(turns, "SWITCH_SECONDS", 0.0)
    engine = Twins(0.002)
    with service(one_engine(engine), serving) as talk:
        assert all(answer.status == 200 for answer in _mixed(talk))
    assert sum(map(len, engine.groups)) == 10


# Files


def test_a_file_is_gone_after_its_time_and_the_oldest_makes_room():
    files = Files(seconds=0.2)
    with service(FakeEngine, files=files) as talk:
        path = "/files" + talk.generate(response_format="url").data[0]["url"].partition("/files")[2]
        assert talk.get(path).status == 200
        time.sleep(0.3)
        assert (talk.get(path).status, talk.get(path).error["code"]) == (404, "file_not_found")
        assert files.bytes == 0
    small = Files(most=5000)
    with service(FakeEngine, files=small) as talk:
        paths = ["/files" + talk.generate().data[0]["url"].partition("/files")[2] for _ in range(6)]
        assert talk.get(paths[-1]).status == 200
        assert talk.get(paths[0]).status == 404
        assert small.bytes <= 5000


def test_names_of_files_cannot_be_guessed():
    with service(FakeEngine) as talk:
        names = {talk.generate().data[0]["url"].rpartition("/")[2] for _ in range(20)}
        assert len(names) == 20
        assert all(len(name) == 36 for name in names)
        for name in ("..%2f..%2fetc%2fpasswd", "%2e%2e/x.png", "x.png", "0" * 32 + ".png", ""):
            assert talk.get(f"/files/{name}").status == 404


# The end


@pytest.mark.long
def test_when_it_is_asked_to_end_what_waits_is_painted_and_nobody_else_let_in(tmp_path):
    with process(tmp_path, seconds="0.01") as talk:
        assert talk.process is not None
        with ThreadPoolExecutor(8) as threads:
            accepted = [threads.submit(talk.generate, seed=k) for k in range(7)]
            wait_until(lambda: talk.get("/health").json["waiting"] >= 1)
            time.sleep(0.3)
            talk.process.send_signal(signal.SIGTERM)
            wait_until(lambda: talk.get("/health").json["status"] == "draining")
            late = talk.generate()
            assert (late.status, late.error["code"]) == (503, "server_is_going_down")
            assert 1 <= int(late.headers["retry-after"]) <= 60
            assert talk.get("/ready").status == 503
            assert [future.result().status for future in accepted] == [200] * 7
        assert talk.process.wait(20) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_what_is_not_painted_in_time_is_told_so(tmp_path):
    with process(tmp_path, "--drain", "0.3", seconds="0.05") as talk:
        assert talk.process is not None
        with ThreadPoolExecutor(8) as threads:
            stream = threads.submit(talk.generate, n=4, stream=True, partial_images=1)
            wait_until(lambda: talk.get("/metrics").body.count(b"dalle_queue_seconds_count 1") == 1)
            accepted = [threads.submit(talk.generate, n=5, seed=k) for k in range(3)]
            wait_until(lambda: talk.get("/health").json["waiting"] >= 15)
            talk.process.send_signal(signal.SIGTERM)
            for future in accepted:
                assert (future.result().status, future.result().error["code"]) == (503, "server_is_going_down")
            assert stream.result().events[-1]["error"]["code"] == "server_is_going_down"
        assert talk.process.wait(20) == 0


@pytest.mark.long
def test_a_second_signal_ends_it_at_once_and_a_stream_still_has_an_end(tmp_path):
    with process(tmp_path, seconds="3") as talk:  # a step that takes longer than anybody waits
        assert talk.process is not None
        with ThreadPoolExecutor(2) as threads:
            stream = threads.submit(talk.generate, stream=True)
            wait_until(lambda: talk.get("/metrics").body.count(b"dalle_queue_seconds_count 1") == 1)
            begun = time.monotonic()
            talk.process.send_signal(signal.SIGTERM)
            wait_until(lambda: talk.get("/health").json["status"] == "draining")
            talk.process.send_signal(signal.SIGINT)
            assert stream.result().events[-1]["error"]["code"] == "server_is_going_down"
        assert talk.process.wait(20) in (130, 0)
        assert time.monotonic() - begun < 8
        assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_what_a_killed_server_left_behind_is_removed_by_the_next(tmp_path):
    with process(tmp_path) as talk:
        talk.generate()
        assert talk.process is not None
        os.kill(talk.process.pid, signal.SIGKILL)
        talk.process.wait()
    assert len(list(tmp_path.glob("dalle-serve-*"))) == 2  # pictures, and what clients start from
    with process(tmp_path) as talk:
        assert len(list(tmp_path.glob("dalle-serve-*"))) == 2
        assert talk.process is not None
        talk.process.terminate()
        assert talk.process.wait(20) == 0
    assert list(tmp_path.glob("dalle-serve-*")) == []


# Few and many


@pytest.mark.long
def test_one_picture_passes_a_bulk_that_came_before_it_between_two_of_its_groups():
    engine = Counting(0.01)
    with service(one_engine(engine), Serving(queue=100)) as talk:
        bulk = threading.Thread(target=talk.generate, kwargs={"prompt": "bulk", "n": 10, "seed": 1})
        more = threading.Thread(target=talk.generate, kwargs={"prompt": "more", "n": 10, "guidance": 2})
        bulk.start()
        wait_until(lambda: engine.steps > 2)
        more.start()
        wait_until(lambda: talk.get("/health").json["waiting"] > 8)
        assert talk.generate(prompt="one", guidance=3).status == 200
        bulk.join()
        more.join()
    order = [group[0] for group in engine.groups]
    assert order.index("one") == 1


@pytest.mark.long
def test_a_bulk_that_has_waited_comes_before_one_picture_that_came_later(monkeypatch):
    monkeypatch.setattr(turns, "BULK_SECONDS", 0.05)
    engine = Counting(0.02)
    with service(one_engine(engine), Serving(queue=100)) as talk:
        threads = [threading.Thread(target=talk.generate, kwargs={"prompt": "first", "seed": 1})]
        threads[0].start()
        wait_until(lambda: engine.steps > 2)
        for prompt, values in (("bulk", {"n": 3, "guidance": 2}), ("one", {"guidance": 3})):
            threads.append(threading.Thread(target=talk.generate, kwargs={"prompt": prompt, **values}))
            threads[-1].start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
    assert [group[0] for group in engine.groups] == ["first", "bulk", "one"]


def test_a_best_of_is_a_bulk_however_few_are_kept():
    engine = FakeEngine()
    request = build_request("generate", {"model": "starter", "prompt": "a fox", "best_of": 8})
    assert ImagesTicket(request, engine.resolve(request), 0, 0.0).pictures == 8
