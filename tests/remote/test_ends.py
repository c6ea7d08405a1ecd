"""Servers that are full, end or are not there, and clients that leave: what is said, what is kept, what stops."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dallecli.classes import Classes
from dallecli.engine import Progress
from dallecli.errors import UnknownModel
from dallecli.fake_engine import FakeEngine
from dallecli.knowledge import Knowledge
from dallecli.remote.address import read_address
from dallecli.remote.connection import Server
from dallecli.remote.engine import RemoteEngine
from dallecli.server.files import Inputs
from dallecli.server.serving import Serving
from dallecli.source import Source
from dallecli.tasks.builder import build_request
from tests.remote.conftest import Dalle, client, url
from tests.server.talking import ROOT, Talk, png, process, service
from tests.server.test_queue import Counting, one_engine, wait_until

TOKEN = "0123456789abcdef-token"


def engine_of(talk: Talk, token: str | None = None) -> RemoteEngine:
    return RemoteEngine(Server(read_address(url(talk)), token))


def running(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(client(*arguments), cwd=folder, text=True, env=env, **pipes)


@pytest.mark.long
def test_ctrl_c_ends_the_painting_of_the_server_between_two_steps(tmp_path):
    engine = Counting(0.02)
    with service(one_engine(engine)) as talk:
        painting = running("generate", "a fox", "-n", "10", "--layout", "files", "--server", url(talk), folder=tmp_path)
        wait_until(lambda: engine.steps > 60, 30)
        painting.send_signal(signal.SIGINT)
        out, err = painting.communicate(timeout=20)
        assert painting.returncode == 130
        assert f"{len(out.splitlines())} of 10 pictures of 'a fox' were finished and kept" in err
        wait_until(lambda: talk.metric("dalle_cancelled_total") == 1)
        done = engine.steps
        time.sleep(0.3)
        assert engine.steps <= done + 1 < 490
        assert all((tmp_path / name).is_file() for name in out.splitlines())


@pytest.mark.long
def test_a_server_that_dies_is_an_error_and_what_is_finished_is_kept_and_gone_on_from(tmp_path):
    (tmp_path / "p.txt").write_text("".join(f"a fox {k}\n" for k in range(6)))
    command = ("generate", "--prompts", "p.txt", "--out", "pictures", "--seed", "1")
    (tmp_path / "server").mkdir()
    with process(tmp_path / "server", seconds="0.01") as talk:
        painting = running(*command, "--server", url(talk), folder=tmp_path)
        assert painting.stdout is not None
        painting.stdout.readline()
        assert talk.process is not None
        talk.process.kill()
        _, err = painting.communicate(timeout=20)
    assert painting.returncode == 4
    assert f"error: the server at {url(talk)} has ended" in err
    kept = sorted(path.name for path in (tmp_path / "pictures").glob("*.png"))
    assert 0 < len(kept) < 6
    with process(tmp_path / "server") as talk:
        painting = running(*command, "--server", url(talk), folder=tmp_path)
        out, _ = painting.communicate(timeout=20)
    assert painting.returncode == 0
    assert len(out.splitlines()) == 6 - len(kept)
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 6


def test_a_server_that_goes_down_says_so(tmp_path, dalle: Dalle):
    (tmp_path / "server").mkdir()
    with process(tmp_path / "server", "--drain", "0", seconds="0.02") as talk:
        assert talk.process is not None
        painting = running("generate", "a fox", "-n", "20", "--server", url(talk), folder=tmp_path)
        wait_until(lambda: talk.metric("dalle_queue_seconds_count") > 0, 30)
        talk.process.send_signal(signal.SIGTERM)
        _, err = painting.communicate(timeout=20)
    assert painting.returncode == 4
    assert "going down" in err or "has ended" in err


@pytest.mark.long
def test_a_full_server_is_waited_for_and_that_is_said(dalle: Dalle):
    with service(lambda: FakeEngine(0.01), Serving(port=0, queue=2)) as talk:
        others = [threading.Thread(target=talk.generate, kwargs={"n": 2, "seed": k}) for k in range(2)]
        for other in others:
            other.start()
            wait_until(lambda: talk.get("/health").json["waiting"] > 0 or talk.metric("dalle_queue_seconds_count") > 0)
        wait_until(lambda: talk.get("/health").json["waiting"] > 0)
        result = dalle("generate", "a fox", "-n", "2", "--guidance", "2", "--server", url(talk))
        assert result.code == 0
        assert "trying again in" in result.err
        for other in others:
            other.join()


def test_auto_takes_the_server_that_answers_else_this_machine_and_says_which(dalle: Dalle, server: Talk, monkeypatch):
    monkeypatch.setenv("DALLE_SERVER", url(server))
    before = server.metric("dalle_images_total")
    assert f"the server at {url(server)} does it" in dalle("generate", "a fox", "--server", "auto").err
    assert server.metric("dalle_images_total") == before + 1
    monkeypatch.setenv("DALLE_SERVER", "http://127.0.0.1:9")
    result = dalle("generate", "a fox", "--server", "auto")
    assert (result.code, len(result.files)) == (0, 1)
    assert "no server answers at http://127.0.0.1:9: painting here" in result.err
    assert dalle("generate", "a fox", "--server", "auto", "-q").err == ""


def test_options_of_this_machine_and_folders_of_it_are_refused(dalle: Dalle, server: Talk):
    for option in (["--batch", "4"], ["--memory", "low"], ["--compile"]):
        result = dalle("generate", "a fox", *option, "--server", url(server))
        assert (result.code, "about this machine" in result.err) == (2, True)
    for folder in ("./tests", "models/mine", "/etc", "~/mine"):
        result = dalle("generate", "a fox", "-m", folder, "--server", url(server))
        assert (result.code, "opens no folder of this machine" in result.err) == (2, True)
    result = dalle("generate", "a fox", "--token-file", "t")
    assert (result.code, "none is used" in result.err) == (2, True)
    result = dalle("generate", "a fox", "--server", "127.0.0.1:8188")
    assert (result.code, "is not the address of a server" in result.err) == (2, True)


def test_the_token_of_a_file_or_of_the_environment_lets_in(dalle: Dalle, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    with service(FakeEngine, Serving(port=0, token=TOKEN)) as talk:
        refused = dalle("generate", "a fox", "--server", url(talk))
        assert (refused.code, "DALLE_TOKEN, or --token-file FILE" in refused.err) == (2, True)
        assert dalle("generate", "a fox", "--server", url(talk), "--token-file", str(token)).code == 0
        assert dalle("doctor", "--server", url(talk), "--token-file", str(token)).code == 0
        monkeypatch.setenv("DALLE_TOKEN", TOKEN)
        assert dalle("generate", "a fox", "--server", url(talk)).code == 0
        assert TOKEN not in dalle("doctor", "--server", url(talk)).out
        token.chmod(0o666)
        assert dalle("generate", "a fox", "--server", url(talk), "--token-file", str(token)).code == 2


def test_the_doctor_says_whether_the_server_answers(dalle: Dalle, server: Talk):
    found = dalle("doctor", "--server", url(server))
    assert found.code == 0
    assert "starter, ok" in found.out
    assert "memory plan" not in found.out
    assert dalle("doctor", "--server", "http://127.0.0.1:9").code == 4


# The engine itself


def test_unfinished_pictures_can_be_looked_at():
    with service(lambda: FakeEngine(0.02)) as talk:
        engine, seen = engine_of(talk), []

        def watch(step: Progress) -> None:
            if step.look is not None and not seen:
                seen.append(step.look())

        recipe = engine.resolve(build_request("generate", {"model": "starter", "prompt": "a fox", "seed": 3}))
        (picture,) = engine.paint(recipe, watch)
        (images,) = seen
        assert [image.tobytes() for image in images] == [picture.image.tobytes()]  # as the fake engine has it


def test_the_steps_are_those_of_the_same_engine_here():
    request = build_request("generate", {"model": "starter", "prompt": "a fox", "seed": 3, "n": 3})
    steps: dict[str, list[Progress]] = {"here": [], "there": []}
    with service(lambda: FakeEngine(0.003)) as talk:
        for where, engine in (("here", FakeEngine(0.003)), ("there", engine_of(talk))):
            list(engine.paint(engine.resolve(request), steps[where].append))
    assert set(steps["there"]) <= set(steps["here"])
    assert len(steps["there"]) > len(steps["here"]) / 4  # those that were missed are not the last ones of a stage
    assert steps["there"][-1] == steps["here"][-1]


def test_recipes_are_painted_together_and_with_those_of_others():
    engine = Counting(0.005)
    with service(one_engine(engine)) as talk:
        asking = engine_of(talk)
        recipes = [
            asking.resolve(build_request("generate", {"model": "starter", "prompt": f"a fox {k}", "seed": k}))
            for k in range(3)
        ]
        steps: list[Progress] = []
        pictures = list(asking.paint_together(recipes, steps.append))
        assert [picture.recipe.prompt for picture in pictures] == ["a fox 0", "a fox 1", "a fox 2"]
        assert ["a fox 0", "a fox 1", "a fox 2"] in engine.groups
        assert {step.pictures for step in steps} == {3}
        assert asking.group(recipes[0]) == engine.GROUP
        assert not asking.reads_ahead(recipes[0])
        assert asking.machine(recipes[0]) == engine.machine(recipes[0])
        assert asking.digest(recipes[0]) == engine.DIGEST


def test_a_file_that_the_server_has_forgotten_is_sent_again():
    data = png("red")
    cat = Source(kind="picture", name="cat.png", sha256="", data=data)
    import hashlib

    cat = Source(kind="picture", name="cat.png", sha256=hashlib.sha256(data).hexdigest(), data=data)
    inputs = Inputs(seconds=0.3)
    with service(FakeEngine, inputs=inputs) as talk:
        engine = engine_of(talk)
        recipe = engine.resolve(build_request("vary", {"model": "starter", "image": cat, "seed": 3}))
        time.sleep(0.5)
        assert len(list(engine.paint(recipe, lambda _: None))) == 1
        assert inputs.bytes == len(data)
        time.sleep(0.5)
        inputs.expire()
        assert inputs.bytes == 0


@pytest.mark.parametrize("count", [1, 5])
def test_the_score_of_each_picture_of_a_best_of_reaches_the_client(count):
    from dallecli.shortlist import Scores

    request = build_request("generate", {"model": "starter", "prompt": "a fox", "seed": 3, "n": count, "best_of": 9})
    with service(FakeEngine) as talk:
        here, there = Scores(), Scores()
        known = FakeEngine()
        mine = list(known.paint(known.resolve(request), lambda _: None, here))
        engine = engine_of(talk)
        there.known |= {seed: score for seed, score in here.known.items() if seed < 7}
        theirs = list(engine.paint(engine.resolve(request), lambda _: None, there))
    assert there.known == here.known
    assert len(there.known) == 9
    assert [(p.recipe, p.scores) for p in theirs] == [(p.recipe, p.scores) for p in mine]


def test_what_a_model_knows_is_what_the_server_says():
    class Knowing(FakeEngine):
        def knowledge(self, model):
            self._known(model)
            return KNOWN

    with service(Knowing) as talk:
        assert engine_of(talk).knowledge("starter") == KNOWN
        with pytest.raises(UnknownModel):
            engine_of(talk).knowledge("nobody")


KNOWN = Knowledge(
    words={"things": {"car": ("auto", "motor car"), "dog": ()}, "places": {}},
    classes=Classes(("tench, Tinca tinca", "goldfish")),
    prompts=False,
)
