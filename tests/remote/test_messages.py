"""What travels: requests and recipes come out as they went in, and no name of a file goes in at all."""

import json
from dataclasses import replace

import pytest

from dallecli.errors import BadInput, BadRecipe, BadSetting, DalleError, NotDownloaded, RequestError
from dallecli.fake_engine import FakeEngine
from dallecli.remote.address import LOCAL, read_address
from dallecli.remote.choice import meant
from dallecli.remote.protocol import (
    KINDS,
    Restored,
    error_heard,
    files_named,
    recipe_heard,
    recipe_said,
    values_heard,
    values_said,
)
from dallecli.source import Source
from dallecli.tasks.builder import build_coding, build_embed, build_request
from dallecli.tasks.table import TASKS
from dallecli.tasks.values import Usual, Values
from tests.server.talking import hole, png

CAT = Source(kind="picture", name="/home/ann/secret/cat.png", sha256="ab" * 32, data=png("red"))
DOG = Source(kind="picture", name="../pictures/dog.png", sha256="cd" * 32, data=png("blue"))
MASK = Source(kind="picture", name="mask.png", sha256="ef" * 32, data=hole())
CODES = Source(kind="embedding", name="codes.safetensors", sha256="12" * 32, data=b"codes")
A_DOG = Source(kind="text", name="a dog")
FILES = {str(source.sha256): source.data for source in (CAT, DOG, MASK, CODES)}

COMMON = {"model": "starter", "seed": 7, "n": 2, "size": 64, "effort": "fast", "strict": True, "device": "cpu"}
COMMON |= {"dtype": "fp32", "sampler": "ddim", "steps": 9, "guidance": 2.5, "temperature": 0.5, "top_k": 3}
COMMON |= {"top_p": 0.9, "upsampler_sampler": "ddim", "upsampler_steps": "super27", "upsampler_guidance": 1.0}
COMMON |= {"guidance_start": 0.1, "guidance_stop": 0.8, "reuse": 2}
COMMON |= {"upsampler_guidance_start": 0.2, "upsampler_guidance_stop": 0.9, "upsampler_reuse": 3}
PRIOR = {"prior": "diffusion", "prior_steps": 4, "prior_guidance": 3.0, "prior_temperature": 0.7, "prior_top_k": 2}
PRIOR |= {"prior_candidates": 3}
ONE = {"n": 1}

FULL = {
    "generate": [
        {"prompt": "a fox", "best_of": 4, "judge": "karlo", "negative": "fog", "init": CAT, "strength": 0.5, **PRIOR},
        {"class": "fox", "continue": CAT, "rows": 3, **PRIOR},
    ],
    "vary": [{"image": CAT, "prompt": "a hat", "fidelity": 0.5, "inversion_steps": 8}],
    "interpolate": [
        {"ends": [CAT, A_DOG], "frames": 5, "noise": "fixed", "inversion_steps": 8, **ONE, **PRIOR},
        {"ends": [CAT, DOG], "at": [0.25, 0.5], "noise": "inverted", **ONE},
        {"ends": [CAT, DOG], "weights": [1.0, 2.0]},
    ],
    "inpaint": [
        {"image": CAT, "mask": ["1,2,3,4", MASK], "mask_mode": "alpha", "invert_mask": True, "prompt": "a hat", **PRIOR}
        | {"resample": 3, "negative": "fog", "expand": "left=8,top=0,right=2,bottom=0"},
        {"image": CAT, "expand": "left=8"},
    ],
    "edit": [{"image": CAT, "from": "a cat", "to": "a dog", "strength": 0.5, "sweep": 3, "inversion_steps": 8, **ONE}],
}


def _requests():
    for task, several in FULL.items():
        for own in several:
            values = {**COMMON, **own}
            if task == "edit":
                del values["sampler"], values["upsampler_sampler"]
            yield task, values


@pytest.mark.parametrize(
    ("task", "values"), list(_requests()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_request_that_travels_arrives_as_it_was(task, values):
    usual = {**values, "steps": Usual(values["steps"])}
    for given in (values, usual):
        request = build_request(task, given)
        message = json.loads(json.dumps(values_said(request.to_values())))
        assert files_named(message) == {source.sha256 for source in request.sources if source.sha256 is not None}
        text = json.dumps(message)
        assert not any(name in text for name in ("secret", "cat.png", "dog.png", "mask.png", "pictures"))
        arrived = build_request(task, values_heard(message, FILES.__getitem__), paths=False)
        assert _named(arrived) == _named(request)


def test_embeddings_and_codes_are_asked_for_in_the_same_way():
    own = {
        "inputs": [CAT, A_DOG],
        "minus": [DOG],
        "plus": [A_DOG],
        "imagine": True,
        "invert": True,
        "inversion_steps": 5,
    }
    embed = build_embed({**COMMON, **PRIOR, **own, "n": 1})
    message = json.loads(json.dumps(values_said(embed.to_values())))
    assert _named(build_embed(values_heard(message, FILES.__getitem__), paths=False)) == _named(embed)
    for task, source in (("encode", CAT), ("decode", CODES)):
        coding = build_coding(task, {"model": "dvae", "inputs": [source], "size": 64, "device": "cpu", "dtype": "fp32"})
        message = json.loads(json.dumps(values_said(coding.to_values())))
        arrived = build_coding(task, values_heard(message, FILES.__getitem__), paths=False)
        assert _named(arrived) == _named(coding)


def _named(request):
    """A request whose files are called by their sha256."""
    changes = {}
    for name in type(request).__dataclass_fields__:
        value = getattr(request, name)
        if isinstance(value, Source) and value.sha256 is not None:
            changes[name] = replace(value, name=value.sha256)
        elif name == "mask" and value is not None:
            changes[name] = replace(value, files=tuple(replace(file, name=file.sha256) for file in value.files))
        elif isinstance(value, tuple) and any(isinstance(one, Source) for one in value):
            changes[name] = tuple(one if one.sha256 is None else replace(one, name=one.sha256) for one in value)
    return replace(request, **changes)


@pytest.mark.parametrize("task", TASKS)
def test_every_value_that_the_builder_knows_can_travel(task):
    # Who gives a task a new value has to give it back in `own_values`, or a server would never hear of it.
    said = {name for other, values in _requests() if other == task for name in build_request(task, values).to_values()}
    values = next(values for other, values in _requests() if other == task)
    known = Values(own=values, defaults={})
    TASKS[task].build(known)
    assert known.known - {"command", "name"} <= said


def test_a_recipe_that_travels_arrives_with_its_files_and_comes_back_with_their_names():
    values = {"model": "starter", "seed": 3, "image": CAT, "mask": [MASK], "mask_mode": "alpha", "prompt": "a hat"}
    recipe = FakeEngine().resolve(build_request("inpaint", values))
    message = json.loads(json.dumps(recipe_said(recipe)))
    assert "cat.png" not in json.dumps(message)
    arrived = recipe_heard(message, FILES.__getitem__)
    assert [source.data for source in arrived.sources] == [CAT.data, MASK.data]
    assert Restored(recipe.sources).recipe(arrived) == replace(recipe, warnings=())
    with pytest.raises(BadRecipe):
        Restored((DOG, MASK)).recipe(arrived)
    message["inputs"][0]["name"] = "/etc/passwd"
    with pytest.raises(BadRecipe, match="called by its sha256"):
        recipe_heard(message, FILES.__getitem__)


@pytest.mark.parametrize("name", ["init", "continue"])
def test_a_text_is_never_taken_for_a_path(name):
    with pytest.raises(BadInput, match="no file is read by its path"):
        build_request("generate", {"model": "starter", "prompt": "a fox", name: "/etc/hostname"}, paths=False)
    with pytest.raises(BadInput):
        build_embed({"model": "starter", "inputs": ["a dog"]}, paths=False)
    with pytest.raises(BadInput):
        build_coding("encode", {"model": "dvae", "inputs": ["/etc/hostname"]}, paths=False)
    with pytest.raises(BadInput):
        build_request("inpaint", {"model": "starter", "image": CAT, "mask": "/etc/hostname"}, paths=False)


@pytest.mark.parametrize(
    "odd",
    [
        {"init": {"kind": "picture", "sha256": "x"}},
        {"init": {"kind": "picture"}},
        {"init": {"kind": "folder", "sha256": "ab" * 32}},
        {"init": {"kind": "picture", "sha256": "ab" * 32, "name": "/etc/passwd"}},
        {"mask": [[["1,2,3,4"]]]},
        {"seed": {"usual": {"usual": 1}}},
    ],
)
def test_values_that_are_none_are_refused(odd):
    with pytest.raises(BadSetting):
        values_heard(odd, FILES.__getitem__)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_error_that_travels_is_the_same_error(kind):
    error = kind("what", "where", "hint")
    arrived = error_heard(json.loads(json.dumps(error.facts())))
    assert (type(arrived), arrived.lines(), arrived.exit_code) == (kind, error.lines(), error.exit_code)


def test_no_error_of_a_server_is_more_than_an_error():
    assert type(error_heard({"error": "SystemExit", "what": "x"})) is RequestError
    assert type(error_heard({"error": "NotDownloaded", "what": "x"})) is NotDownloaded
    assert error_heard({"error": "NotDownloaded", "what": "x", "model": "evil"}).model is None
    assert len(error_heard({"error": "BadSize", "what": "x" * 10**6}).what) < 10_000
    for odd in (None, 3, {}, {"what": 3}, {"what": "x", "hint": []}):
        with pytest.raises(ValueError, match="no error"):
            error_heard(odd)
    assert issubclass(KINDS["BadSize"], DalleError)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:8188", "http://127.0.0.1:8188"),
        ("http://127.0.0.1:8188/v1", "http://127.0.0.1:8188"),
        ("http://127.0.0.1:8188/", "http://127.0.0.1:8188"),
        ("https://studio.example.org/dalle/v1/", "https://studio.example.org/dalle"),
        ("https://studio.example.org:443", "https://studio.example.org"),
        ("http://[::1]:8188", "http://[::1]:8188"),
    ],
)
def test_an_address_is_what_dalle_serve_prints_with_and_without_v1(text, shown):
    assert read_address(text).url == shown
    assert read_address(shown) == read_address(text)


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1:8188", "localhost", "ftp://x", "http://", "http://x:99999", "http://x?a=b", "http://x#a", "x"),
        *("http://a b", "http://ann:secret@x", "http://token@x", "http://x/\x01"),
    ],
)
def test_what_is_no_address_is_refused_and_no_password_is_repeated(text):
    with pytest.raises(BadSetting) as caught:
        read_address(text)
    assert "secret" not in str(caught.value)
    assert caught.value.hint


def test_auto_is_the_server_of_the_environment_or_the_one_of_this_machine(monkeypatch):
    monkeypatch.delenv("DALLE_SERVER", raising=False)
    assert meant("auto") == LOCAL
    for word in ("auto", "none", ""):
        monkeypatch.setenv("DALLE_SERVER", word)
        assert meant("auto") == LOCAL
    monkeypatch.setenv("DALLE_SERVER", "http://gpu:9000")
    assert meant("auto").url == "http://gpu:9000"
