"""The page at `/`: its files, its jobs, the pictures that it keeps, and what strangers cannot do with any of it."""

import base64
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from dallecli.cli.app import run
from dallecli.errors import BadSetting
from dallecli.fake_engine import FakeEngine
from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.picture import Picture, encode
from dallecli.server.body import Bodies
from dallecli.server.dials import DIALS
from dallecli.server.gallery import Gallery
from dallecli.server.serving import Serving
from dallecli.server.static import page_files
from dallecli.tasks.builder import build_request
from tests.server.talking import ROOT, Answer, Talk, as_form, hole, png, process, service

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
KEPT = "kept"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / KEPT


@pytest.fixture
def page(folder: Path) -> Iterator[Talk]:
    with service(FakeEngine, Serving(port=0, pictures=folder)) as talk:
        yield talk


@pytest.fixture
def slow(folder: Path) -> Iterator[Talk]:
    """The same, where a picture takes half a second."""
    with service(lambda: FakeEngine(0.01), Serving(port=0, pictures=folder, queue=4)) as talk:
        yield talk


def begin(talk: Talk, **value: object) -> Any:
    answer = talk.post("/dalle/jobs/generations", {"prompt": "a red car", **value})
    assert answer.status == 202, answer.body
    return answer.json


def events(talk: Talk, job: Any) -> list[dict[str, Any]]:
    """All that happens to a job."""
    return talk.get(f"/dalle/jobs/{job['id']}/events").events


def paint(talk: Talk, **value: object) -> list[dict[str, Any]]:
    """The pictures of a job, as the page's list has them."""
    found = events(talk, begin(talk, **value))
    assert found[-1] == {"type": "dalle.done"}
    return [event["dalle"]["picture"] for event in found if event["type"].endswith(".completed")]


def listed(talk: Talk, query: str = "") -> list[dict[str, Any]]:
    answer = talk.get(f"/dalle/pictures{query}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["pictures"]
    return found


def put(folder: Path, name: str, prompt: str = "a red car", seed: int = 1) -> Path:
    """A picture with a recipe, as `dalle generate` writes it."""
    folder.mkdir(exist_ok=True)
    request = build_request("generate", {"model": "fake", "prompt": prompt, "seed": seed, "size": 16})
    (picture,) = FakeEngine().paint(FakeEngine().resolve(request), lambda _: None)
    (folder / name).write_bytes(picture.encode("png"))
    return folder / name


def png_saying(text: str) -> bytes:
    """A PNG whose recipe is this text."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("dalle", text)
    target = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(target, "PNG", pnginfo=info)
    return target.getvalue()


# Its files


def test_the_page_is_sent_with_a_policy_under_which_only_its_own_files_run(page):
    answer = page.get("/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    for name in page_files():
        headers = page.get(f"/page/{name}").headers
        assert headers["content-security-policy"] == POLICY
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        kind = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
        assert headers["content-type"].startswith(kind[Path(name).suffix])


def test_the_page_has_nothing_that_its_policy_forbids():
    html = page_files()["index.html"].decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|https?://", html)
    scripts = [data.decode() for name, data in page_files().items() if name.endswith(".js")]
    assert scripts and not any(
        re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function", one) for one in scripts
    )


def test_every_file_that_the_page_names_is_there_and_all_are_small():
    files = page_files()
    html = files["index.html"].decode()
    named = set(re.findall(r'"page/([\w.-]+)"', html))
    for name, data in files.items():
        if name.endswith(".js"):
            named |= set(re.findall(r'(?:from|import) "\./([\w.-]+)"', data.decode()))
    assert named and named <= set(files)
    later = {"edit.js", "desk.js", "board.js", "mask.js"}  # when somebody edits a picture
    assert sum(len(data) for name, data in files.items() if name not in later) <= 60_000
    assert sum(len(files[name]) for name in later) <= 40_000


def test_a_file_that_has_not_changed_is_not_sent_again(page):
    first = page.get("/page/app.js")
    again = page.get("/page/app.js", {"If-None-Match": f'W/{first.headers["etag"]}, "other"'})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert page.get("/page/style.css").headers["etag"] != first.headers["etag"]
    assert page.get("/page/app.js", {"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize(
    "name", ["../static.py", "%2e%2e/static.py", "..%2fstatic.py", "nope.js", "__init__.py", "app.js%00"]
)
def test_only_the_files_of_the_page_are_below_it(page, name):
    assert page.get(f"/page/{name}").status == 404


def test_the_page_needs_no_token_and_everything_that_it_asks_for_does(tmp_path, folder):
    token = "a-token-that-nobody-guesses"
    put(folder, "a.png")
    with service(FakeEngine, Serving(port=0, token=token, pictures=folder)) as talk:
        assert talk.get("/").status == talk.get("/page/app.js").status == 200
        for path in ("state", "pictures", "models", "words/starter", "jobs/x/events"):
            assert talk.get(f"/dalle/{path}").status == 401
        assert talk.post("/dalle/jobs/generations", {"prompt": "a"}).status == 401
        assert talk.ask("DELETE", "/dalle/pictures/x").status == 401
        talk.headers["Authorization"] = f"Bearer {token}"
        (one,) = listed(talk)
        del talk.headers["Authorization"]
        assert talk.get(f"/{one['url']}").status == 200  # an <img> sends no token, and nobody guesses this


def test_no_page_of_another_server_can_paint_remove_or_look(page, folder):
    put(folder, "a.png")
    (one,) = listed(page)
    kind, form = as_form((("image", png()),))
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert page.ask("POST", "/dalle/jobs/variations", form, {"Content-Type": kind, **headers}).status == 403
        assert page.ask("DELETE", f"/dalle/pictures/{one['id']}", None, headers).status == 403
    assert page.get("/dalle/pictures", {"Origin": "https://evil.example"}).status == 403
    assert page.get("/", {"Host": "evil.example"}).status == 403
    assert len(listed(page)) == 1


# Jobs


def test_a_job_tells_how_far_it_is_and_ends_with_kept_pictures(page, folder):
    job = begin(page, n=2, seed=7)
    assert (job["count"], job["seed"], job["prompt"]) == (2, 7, "a red car")
    found = events(page, job)
    kinds = [event["type"] for event in found]
    assert kinds[-1] == "dalle.done" and kinds.count("image_generation.completed") == 2
    done = [event["dalle"] for event in found if event["type"].endswith("completed")]
    assert [one["index"] for one in done] == [0, 1]
    files = sorted(folder.glob("*.png"))
    assert [read_recipe(file).seed for file in files] == [7, 8]
    assert {one["picture"]["name"] for one in done} == {file.name for file in files}
    assert page.get("/" + done[0]["picture"]["url"]).body == files[0].read_bytes()


def test_steps_and_unfinished_pictures_come_while_a_picture_is_painted(slow):
    found = events(slow, begin(slow, n=1))
    steps = [event["dalle"] for event in found if event["type"] == "dalle.progress"]
    assert {"prior", "decoder"} <= {step["stage"] for step in steps}
    shares = [step["done"] for step in steps]
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] <= 1
    partials = [event for event in found if event["type"] == "image_generation.partial_image"]
    assert [event["partial_image_index"] for event in partials] == [0, 1, 2]
    assert base64.b64decode(partials[0]["b64_json"]).startswith(b"\x89PNG")


@pytest.mark.long
def test_a_job_goes_on_when_its_page_is_closed_and_is_told_from_its_beginning_when_it_comes_back(slow, folder):
    job = begin(slow, n=3)
    with closing(http.client.HTTPConnection("127.0.0.1", slow.port)) as tab:
        tab.request("GET", f"/dalle/jobs/{job['id']}/events")
        assert tab.getresponse().readline().startswith(b"event: ")
    kinds = [event["type"] for event in events(slow, job)]
    assert kinds.count("image_generation.completed") == 3 and kinds[-1] == "dalle.done"
    assert len(list(folder.glob("*.png"))) == 3
    again = events(slow, job)  # over, and still told of
    assert [event["type"] for event in again] == ["image_generation.completed"] * 3 + ["dalle.done"]


def test_a_job_is_cancelled_while_it_waits_and_while_it_is_painted(slow, folder):
    first, second = begin(slow, n=2, seed=1), begin(slow, n=2, seed=1, guidance=3)
    time.sleep(0.2)
    jobs = {job["id"]: job for job in slow.get("/dalle/state").json["jobs"]}
    assert (jobs[first["id"]]["status"], jobs[second["id"]]["status"]) == ("painting", "waiting")
    assert jobs[second["id"]]["ahead"] > 0
    for job in (second, first):
        assert slow.ask("DELETE", f"/dalle/jobs/{job['id']}").status == 200
        assert events(slow, job)[-1]["error"]["code"] == "client_left"
    assert slow.generate(n=1).status == 200  # and the painter goes on
    assert slow.ask("DELETE", f"/dalle/jobs/{first['id']}").status == 200  # now it is forgotten
    assert slow.ask("DELETE", f"/dalle/jobs/{first['id']}").status == 404


def test_two_tabs_that_follow_a_job_see_the_same(slow):
    job, seen = begin(slow, n=2), []
    tabs = [threading.Thread(target=lambda: seen.append(events(slow, job))) for _ in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join(30)
    done = [[event["dalle"]["picture"]["id"] for event in one if event["type"].endswith("completed")] for one in seen]
    assert done[0] == done[1] and len(done[0]) == 2


def test_a_full_queue_says_when_to_come_back(slow):
    begin(slow, n=4, seed=1)
    time.sleep(0.1)
    answers = [slow.post("/dalle/jobs/generations", {"prompt": "a", "n": 4, "guidance": 2 + k}) for k in range(3)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused and all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in refused)


def test_the_memory_of_a_job_is_given_back_whether_it_is_painted_or_refused(folder):
    bodies = Bodies()
    with service(lambda: FakeEngine(0.01), Serving(port=0, pictures=folder), bodies=bodies) as talk:
        for fields in ((("n", "1"),), (("steps", "-1"),), (("size", "7"),), (("nope", "1"),)):
            kind, form = as_form((("image", png()), *fields))
            answer = talk.ask("POST", "/dalle/jobs/variations", form, {"Content-Type": kind})
            if answer.status == 202:
                assert bodies.held == len(form)
                events(talk, answer.json)
            assert bodies.held == 0, fields


class Nothing(FakeEngine):
    """Paints what is no picture."""

    def paint_together(self, recipes, progress):
        for picture in super().paint_together(recipes, progress):
            yield replace(picture, image=None)


def test_a_mistake_of_our_own_ends_its_job_and_no_other(folder):
    with service(Nothing, Serving(port=0, pictures=folder)) as talk:
        for _ in range(2):
            assert events(talk, begin(talk))[-1]["error"]["code"] == "internal_error"
        assert {job["status"] for job in talk.get("/dalle/state").json["jobs"]} == {"failed"}


@pytest.mark.parametrize(
    ("value", "param"),
    [({"prompt": " "}, "prompt"), ({"prompt": "a", "steps": -1}, "steps"), ({"prompt": "a", "x": 1}, "x")],
)
def test_a_job_that_cannot_be_painted_is_refused_as_the_api_does(page, value, param):
    answer = page.post("/dalle/jobs/generations", value)
    assert (answer.status, answer.error["param"]) == (400, param)
    assert page.get("/dalle/state").json["jobs"] == []


@pytest.mark.long
def test_what_waits_is_painted_and_kept_when_the_server_is_asked_to_end(tmp_path, folder):
    with process(tmp_path, "--pictures", str(folder), seconds="0.01") as talk:
        begin(talk, n=3)
        assert talk.process is not None
        talk.process.send_signal(signal.SIGTERM)
        assert talk.process.wait(30) == 0
    assert len(list(folder.glob("*.png"))) == 3


@pytest.mark.parametrize("name", ["a.txt", "a.txt/pictures"])
def test_a_folder_for_pictures_that_is_none_is_refused_before_anything_is_painted(tmp_path, name):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(BadSetting, match="--pictures names a folder") as refused:
        Serving(pictures=tmp_path / name)
    assert refused.value.where == str(tmp_path / "a.txt")


def test_after_a_kill_the_pictures_are_all_there_and_whole(tmp_path, folder):
    with process(tmp_path, "--pictures", str(folder), seconds="0.001") as talk:
        paint(talk, n=2)
        begin(talk, n=10)
        time.sleep(0.3)
    with process(tmp_path, "--pictures", str(folder)) as talk:
        found = listed(talk)
        assert len(found) >= 2
        for one in found:
            assert one["recipe"]["prompt"] == "a red car"
            Image.open(io.BytesIO(talk.get(f"/{one['url']}").body)).load()
        assert {file.name for file in folder.iterdir()} == {one["name"] for one in found}  # no halves are left


# What is kept


def test_pictures_of_the_api_are_kept_only_if_it_is_asked_for(page, folder):
    assert page.generate().status == 200
    assert listed(page) == []
    (entry,) = page.generate(keep=True, output_format="webp").data
    assert entry["dalle"]["picture"]["name"].endswith(".webp")
    assert [one["id"] for one in listed(page)] == [entry["dalle"]["picture"]["id"]]


def test_a_picture_that_cannot_be_kept_is_not_lost(tmp_path):
    with service(FakeEngine, Serving(port=0, pictures=tmp_path / "later" / "pictures")) as talk:
        (tmp_path / "later").write_text("no folder")  # since the server looked
        done = [event for event in events(talk, begin(talk)) if event["type"].endswith("completed")]
        assert base64.b64decode(done[0]["b64_json"]).startswith(b"\x89PNG")
        assert "cannot" in done[0]["dalle"]["not_kept"]


def test_pictures_are_listed_newest_first_found_by_words_and_in_parts(page, folder):
    for k, prompt in enumerate(("a red fox", "a blue car", "a red car")):
        put(folder, f"{k}.png", prompt, seed=k)
        os.utime(folder / f"{k}.png", (1000 + k, 1000 + k))
    assert [one["name"] for one in listed(page)] == ["2.png", "1.png", "0.png"]
    assert [one["name"] for one in listed(page, "?q=RED+c")] == ["2.png"]
    assert [one["name"] for one in listed(page, "?first=1&limit=1")] == ["1.png"]
    assert page.get("/dalle/pictures?limit=0").json["total"] == 3
    for query in ("limit=x", "limit=-1", "limit=99999", "first=1e9", "limit=%D9%A3"):
        assert page.get(f"/dalle/pictures?{query}").status == 400


@pytest.mark.long
def test_the_state_changes_when_somebody_else_puts_a_picture_there(page, folder):
    before = page.get("/dalle/state").json["pictures"]
    put(folder, "new.png")
    time.sleep(0.6)
    after = page.get("/dalle/state").json["pictures"]
    time.sleep(0.6)
    assert before != after == page.get("/dalle/state").json["pictures"]


def test_recipes_of_strangers_are_text_and_broken_files_are_said(page, folder):
    bad = '<img src=x onerror="alert(1)"><script>alert(2)</script>\u202e'
    put(folder, "markup.png", bad)
    whole = put(folder, "whole.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "huge.png").write_bytes(png_saying("x" * 200_000))
    (folder / "bomb.png").write_bytes(png_saying('{"format": "dalle-recipe/2"'))
    (folder / "plain.png").write_bytes(png())
    (folder / "text.png").write_text("no picture")
    (folder / ".hidden.png").write_bytes(whole)
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to("/etc/passwd")
    (folder / "linked.png").symlink_to(folder / "whole.png")
    os.mkfifo(folder / "pipe.png")
    found = {one["name"]: one for one in listed(page)}
    assert set(found) == {"markup.png", "whole.png", "half.png", "huge.png", "bomb.png", "plain.png"}
    assert found["markup.png"]["recipe"]["prompt"] == bad
    assert [name for name, one in found.items() if one["problem"]] == [
        name for name in found if name in ("half.png", "huge.png", "bomb.png", "plain.png")
    ]
    answer = page.get(f"/{found['markup.png']['url']}")
    assert answer.headers["content-type"] == "image/png"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_only_ids_that_were_given_out_lead_to_a_file(page, folder):
    put(folder, "a.png")
    (one,) = listed(page)
    for name in ("a.png", "../a.png", "..%2f..%2fetc%2fpasswd", f"{one['id']}.jpg", one["id"], "0" * 32 + ".png"):
        assert page.get(f"/files/{name}").status == 404
    assert page.get("/dalle/pictures/a.png").status == 404
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to("/etc/passwd")
    assert page.get(f"/{one['url']}").status == 404


def test_removing_a_picture_takes_what_it_was_made_from_and_nothing_else(page, folder, tmp_path):
    for _ in range(2):
        kind, form = as_form((("image", png()), ("n", "1")))
        job = page.ask("POST", "/dalle/jobs/variations", form, {"Content-Type": kind}).json
        assert events(page, job)[-1]["type"] == "dalle.done"
    one, other = listed(page)
    (kept,) = (folder / "inputs").iterdir()
    assert kept.read_bytes() == png()
    assert page.ask("DELETE", f"/dalle/pictures/{one['id']}").status == 200
    assert kept.is_file()
    assert page.ask("DELETE", f"/dalle/pictures/{other['id']}").status == 200
    assert not kept.exists() and listed(page) == []
    assert page.ask("DELETE", f"/dalle/pictures/{other['id']}").status == 404


def test_a_recipe_that_names_a_path_as_its_input_removes_nothing_else(page, folder, tmp_path):
    victim = tmp_path / "victim.png"
    victim.write_bytes(png())
    request = build_request("vary", {"model": "fake", "image": str(victim), "seed": 1, "size": 16})
    (picture,) = FakeEngine().paint(FakeEngine().resolve(request), lambda _: None)
    text = picture.recipe.to_json()
    evil = re.sub(r'"sha256": "[0-9a-f]{64}"', '"sha256": "../../victim"', text)
    folder.mkdir()
    (folder / "inputs").mkdir()
    (folder / "evil.png").write_bytes(png_saying(evil))
    (one,) = listed(page)
    assert page.ask("DELETE", f"/dalle/pictures/{one['id']}").status == 200
    assert victim.is_file()


def test_a_thousand_pictures_are_read_once(tmp_path):
    folder = tmp_path / "many"
    data = put(folder, "0.png").read_bytes()
    for k in range(1, 1000):
        (folder / f"{k}.png").write_bytes(data)
    gallery = Gallery(folder, writable=False)
    assert len(gallery.pictures(now=True)) == 1000
    begun = time.process_time()
    gallery.pictures(now=True)
    assert time.process_time() - begun < 0.5  # of stats alone: reading takes several times as long


def test_folders_within_are_looked_into_if_that_is_asked_and_links_and_inputs_are_not_shown(tmp_path):
    folder, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    data = put(folder, "top.png").read_bytes()
    for name in ("a/one.png", "a/b/two.png", ".hidden/no.png", f"a/inputs/{64 * 'c'}.png", "inputs/mine.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    put(elsewhere, "no.png")
    (folder / "link").symlink_to(elsewhere)
    (folder / "round").symlink_to(folder)
    assert [one.name for one in Gallery(folder, writable=False).pictures()] == ["top.png"]
    deep = Gallery(folder, writable=False, deep=True)
    assert {one.name for one in deep.pictures()} == {"top.png", "a/one.png", "a/b/two.png", "inputs/mine.png"}
    (two,) = [one for one in deep.pictures() if one.matches(["b/two"])]
    assert deep.path(two) == folder / "a/b/two.png" and deep.read(two) == (data, ".png")


@pytest.mark.parametrize("deep", [False, True])
def test_it_is_said_that_there_are_more_files_than_are_looked_at(tmp_path, monkeypatch, deep):
    monkeypatch.setattr("dallecli.server.gallery.GALLERY_FILES", 3)
    for k in range(3):
        put(tmp_path, f"{k}.png")
    gallery = Gallery(tmp_path, writable=False, deep=deep)
    assert (len(gallery.pictures()), gallery.incomplete) == (3, False)
    put(tmp_path, "3.png")
    assert (len(gallery.pictures(now=True)), gallery.incomplete) == (3, True)


def test_it_is_said_that_a_folder_within_cannot_be_read(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    (tmp_path / "closed").mkdir()

    def scandir(path):
        if Path(path).name == "closed":  # root may read any folder, so the system does not say it in a test
            raise PermissionError(13, "Permission denied")
        return listing(path)

    listing = os.scandir
    monkeypatch.setattr("dallecli.server.gallery.os.scandir", scandir)
    gallery = Gallery(tmp_path, writable=False, deep=True)
    assert (len(gallery.pictures()), gallery.incomplete) == (1, True)


# Models, checks, commands


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """A server that paints with the starter, in a process."""
    folder = tmp_path_factory.mktemp("real")
    with process(folder, "--pictures", str(folder / KEPT), engine="local") as talk:
        yield talk


def test_the_page_is_told_what_each_model_can_do(real):
    answer = real.get("/dalle/models").json
    assert answer["default"] == "starter"
    starter = next(one for one in answer["models"] if one["id"] == "starter")
    assert {"generate", "vary", "inpaint", "interpolate"} <= set(starter["tasks"])
    names = [dial["name"] for dial in starter["dials"]]
    assert {"steps", "guidance", "sampler", "prior_steps", "size"} <= set(names) <= {*DIALS, "size"}
    for dial in starter["dials"]:
        if dial["kind"] == "choice" and dial["own"] is not None:
            assert dial["own"] in dial["choices"]
        prior = {"prior": dial["priors"][0]} if dial["priors"] else {}
        if dial["own"] is not None:  # its own value can be sent
            checked = real.post("/dalle/check", {"prompt": "a dog", **prior, dial["name"]: dial["own"]})
            assert checked.status == 200, (dial, checked.body)
    kinds = real.get("/dalle/words/starter").json["kinds"]
    assert ["dog" in [name for name, *_ in said] for kind, said in kinds.items() if kind == "things"] == [True]


def test_words_that_a_model_does_not_know_are_said_before_and_after_painting(real):
    asked = {"prompt": "my grandmother and a dog"}
    assert real.post("/dalle/check", asked).json["unknown"] == ["grandmother"]
    job = real.post("/dalle/jobs/generations", {**asked, "n": 1, "steps": 2, "prior_steps": 2, "size": 64}).json
    assert job["unknown"] == ["grandmother"]
    assert real.ask("DELETE", f"/dalle/jobs/{job['id']}").status == 200


def shell(command: str, cwd: Path) -> Path:
    """What a shell does with a command that was copied: the picture that it paints."""
    programs = cwd / "bin"
    programs.mkdir()
    (programs / "dalle").write_text(f'#!/bin/sh\nexec {sys.executable} -m dallecli "$@"\n')
    (programs / "dalle").chmod(0o755)
    environment = {
        **os.environ,
        "DALLE_ENGINE": "local",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    done = subprocess.run(["sh", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return cwd / done.stdout.splitlines()[-1]


@pytest.mark.parametrize("size", [64, "256x144"])
@pytest.mark.long
def test_the_command_of_a_picture_paints_it_again(real, tmp_path, size):
    dials = {"seed": 11, "size": size, "steps": 3, "prior_steps": 3, "guidance": 2.5, "n": 1}
    (one,) = paint(real, prompt="a dog's 'red' car; $(touch x) -n", **dials)
    command = real.get(f"/dalle/pictures/{one['id']}").json["command"]
    assert command.startswith("dalle generate ") and "--steps=3" in command and "--guidance=2.5" in command
    assert f"--size={size}" in command
    again = Image.open(shell(command, tmp_path))
    assert again.tobytes() == Image.open(io.BytesIO(real.get(f"/{one['url']}").body)).tobytes()


def test_the_command_of_a_variation_paints_it_again_from_what_was_kept(real, tmp_path, monkeypatch, capfd):
    fields = (("image", png()), ("n", "1"), ("seed", "5"), ("size", "64"), ("steps", "3"))
    kind, form = as_form(fields)
    job = real.ask("POST", "/dalle/jobs/variations", form, {"Content-Type": kind}).json
    (one,) = [event["dalle"]["picture"] for event in events(real, job) if event["type"].endswith("completed")]
    command = real.get(f"/dalle/pictures/{one['id']}").json["command"]
    assert command.startswith("dalle replay ")
    monkeypatch.setenv("DALLE_ENGINE", "local")
    monkeypatch.chdir(tmp_path)
    assert run(shlex.split(command)[1:]) == 0
    again = Image.open(capfd.readouterr().out.strip())
    assert again.tobytes() == Image.open(io.BytesIO(real.get(f"/{one['url']}").body)).tobytes()


# Interpolations, and the API's own streams


def test_the_way_between_two_pictures_is_painted(page):
    answer = page.form("/v1/images/interpolations", ("image[]", png("red")), ("image[]", png("blue")), ("frames", "3"))
    assert len(answer.data) == 3
    recipes = [entry["dalle"]["recipe"] for entry in answer.data]
    assert [recipe["settings"]["positions"] for recipe in recipes] == [[0.0], [0.5], [1.0]]
    assert len({recipe["seed"] for recipe in recipes}) == 1
    value = {"image": [base64.b64encode(png(c)).decode() for c in ("red", "blue")], "at": 0.25, "n": 2}
    answer = page.post("/v1/images/interpolations", value)
    assert [entry["dalle"]["recipe"]["settings"]["positions"] for entry in answer.data] == [[0.25], [0.25]]


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ((("image", png()),), "image"),
        ((("image", png()), ("image", png()), ("frames", "11")), "frames"),
        ((("image", png()), ("image", png()), ("frames", "1")), None),
        ((("image", png()), ("image", png()), ("at", "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1")), "frames"),
        ((("image", png()), ("image", png()), ("prompt", "a dog")), "prompt"),
        ((("image", png()), ("image", b"no picture")), "image"),
        ((("image", png()), ("image", png()), ("mask", hole())), "mask"),
    ],
)
def test_an_interpolation_that_means_nothing_is_refused(page, parts, param):
    answer = page.form("/v1/images/interpolations", *parts)
    assert (answer.status, answer.error["param"]) == (400, param), answer.body


def test_a_stream_tells_of_steps_only_if_it_is_asked_to(page):
    def kinds(**more: object) -> set[str]:
        return {event["type"] for event in page.generate(stream=True, **more).events}

    assert kinds() == {"image_generation.completed"}
    assert kinds(progress=True) == {"image_generation.completed", "dalle.progress"}


def test_a_gallery_is_read_by_many_at_once(folder, page):
    put(folder, "a.png")
    seen: list[Answer] = []
    readers = [threading.Thread(target=lambda: seen.append(page.get("/dalle/pictures"))) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert [answer.json["total"] for answer in seen] == [1] * 8


def test_other_formats_are_shown_too(page, folder):
    folder.mkdir()
    request = build_request("generate", {"model": "fake", "prompt": "a fox", "seed": 3, "size": 16})
    (picture,) = FakeEngine().paint(FakeEngine().resolve(request), lambda _: None)
    assert isinstance(picture, Picture)
    for name, format in (("a.jpg", "jpeg"), ("b.webp", "webp"), ("no-suffix", "png")):
        (folder / name).write_bytes(encode(picture.image, format, picture.recipe))
    found = {one["name"]: one for one in listed(page)}
    assert {one["recipe"]["prompt"] for one in found.values()} == {"a fox"} and len(found) == 3
    kinds = {name: page.get(f"/{one['url']}").headers["content-type"] for name, one in found.items()}
    assert kinds == {"a.jpg": "image/jpeg", "b.webp": "image/webp", "no-suffix": "image/png"}
    shutil.rmtree(folder)
    time.sleep(0.6)
    assert listed(page) == []
    assert json.loads(page.get("/dalle/state").body)["paints"] is True
