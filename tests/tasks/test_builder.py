"""One builder makes every request: of lines, of the command line, and of the body of an HTTP request."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dallecli.errors import BadInput, BadSetting
from dallecli.source import Source, read_source
from dallecli.tasks.builder import build_request
from dallecli.tasks.stages import Dials
from dallecli.tasks.table import SETTINGS, TASKS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a picture, cat.png."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), (200, 30, 30)).save("cat.png")


LEAST = {
    "generate": {"prompt": "a red fox"},
    "vary": {"image": "cat.png"},
    "interpolate": {"ends": ["cat.png", "a dog"]},
    "inpaint": {"image": "cat.png", "mask": "1,1,4,4"},
    "edit": {"image": "cat.png", "from": "a cat", "to": "a dog"},
}


def test_every_task_has_a_request_and_settings():
    assert set(TASKS) == set(SETTINGS) == set(LEAST)
    assert all(request.task == name for name, request in TASKS.items())


@pytest.mark.parametrize("task", LEAST)
def test_a_body_of_json_makes_the_request_of_each_task(task):
    body = json.loads(json.dumps({**LEAST[task], "model": "starter"}))
    request = build_request(task, body)
    assert (request.task, request.model, request.count, request.seed) == (task, "starter", 1, None)


@pytest.mark.parametrize("task", LEAST)
def test_what_is_not_stated_is_the_default_and_what_nobody_knows_is_refused(task):
    request = build_request(task, LEAST[task], {"model": "karlo", "seed": 3, "colour": "red"})
    assert (request.model, request.seed) == ("karlo", 3)
    with pytest.raises(BadSetting, match=f"dalle {task} does not know 'colour'"):
        build_request(task, {**LEAST[task], "model": "karlo", "colour": "red"})


def test_the_dials_of_tokens_are_values_like_any_others():
    request = build_request(
        "generate", {"prompt": "a fox", "temperature": 0, "top_k": "64", "top_p": 0.9}, {"model": "x"}
    )
    assert request.decoder == Dials(temperature=0.0, top_k=64, top_p=0.9)
    for dial, value in (
        ("temperature", -1),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.5),
        ("temperature", float("nan")),
    ):
        with pytest.raises(BadSetting, match=f"decoder {dial.replace('_', '-')} is"):
            build_request("generate", {"prompt": "a fox", dial: value}, {"model": "x"})


def test_a_pipe_is_read_once_and_so_not_by_a_line():
    os.mkfifo("pipe.png")
    with pytest.raises(BadInput, match="a line cannot name standard input or a pipe"):
        build_request("vary", {"image": "pipe.png"}, {"model": "starter"})
    writer = os.fork()
    if writer == 0:
        Path("pipe.png").write_bytes(Path("cat.png").read_bytes())
        os._exit(0)
    request = build_request("vary", {"image": "pipe.png"}, {"model": "starter"}, pipes=True)
    os.waitpid(writer, 0)
    assert request.sources[0].sha256 == read_source("cat.png").sha256


def test_a_file_that_was_read_already_is_not_looked_for():
    cat = read_source("cat.png")
    moved = Source(kind="picture", name="-", sha256=cat.sha256, data=cat.data)
    Path("cat.png").unlink()
    for task in ("vary", "edit", "inpaint"):
        request = build_request(task, {**LEAST[task], "image": moved}, {"model": "starter"})
        assert request.sources[0] is moved
    ends = build_request("interpolate", {"ends": [moved, "a dog"]}, {"model": "starter"})
    assert [source.kind for source in ends.sources] == ["picture", "text"]
    masked = build_request("inpaint", {"image": moved, "mask": [moved, "1,1,2,2"]}, {"model": "starter"})
    assert masked.mask.files == (moved,)
    assert masked.mask.boxes == ((1, 1, 2, 2),)
