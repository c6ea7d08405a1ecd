"""The document of the API says what the server does: all paths, all fields, and what comes back."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dallecli.errors import DalleError
from dallecli.server import api_fields, openapi, routes
from dallecli.server.body import Body
from dallecli.server.dials import DIALS
from dallecli.server.names import Names
from dallecli.server.refusal import Refusal
from dallecli.server.serving import Serving
from dallecli.server.translate import translate
from dallecli.tasks.builder import build_request
from dallecli.tasks.values import Values
from tests.server.talking import Talk, hole, png, process

PICTURE = png()
NOWHERE = "there is nothing at this path"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with process(tmp_path_factory.mktemp("openapi")) as talk:
        yield talk


@pytest.fixture(scope="module")
def document(server) -> Any:
    answer = server.get("/openapi.json")
    assert answer.status == 200
    return answer.json


# The document


def test_the_document_is_served_with_and_without_v1_and_needs_no_token(server, document):
    assert document["openapi"] == "3.1.0"
    assert server.get("/v1/openapi.json").json == document
    assert document == json.loads(json.dumps(openapi.document()))


def test_a_path_of_which_the_table_says_nothing_cannot_be_served():
    """Whoever adds a path says in `routes.py` what it does, and who may ask it."""
    with pytest.raises(KeyError):
        routes.routed({("GET", "/nonsense"): print})


def test_every_path_of_the_table_is_served_and_in_the_document(server, document):
    shown = {
        (method.upper(), path.removeprefix("/v1")) for path, found in document["paths"].items() for method in found
    }
    assert shown == {(operation.method, operation.template) for operation in routes.OPERATIONS}
    for operation in routes.OPERATIONS:
        assert operation.says.endswith("."), operation.path
        path = re.sub("{.*?}", "x", operation.template)
        answer = server.ask(operation.method, path)
        assert answer.status != 405, path
        if operation.method != "HEAD":  # which has no body
            assert answer.status < 400 or answer.error["message"].partition("\n")[0] != NOWHERE, path
        assert routes.route_of(path) == operation.template


@pytest.mark.parametrize("route", api_fields.ROUTES)
def test_the_fields_of_the_document_are_those_that_are_read(monkeypatch, document, route):
    read: set[str] = set()
    raw = Values.raw
    monkeypatch.setattr(Values, "raw", lambda self, name: (read.add(name), raw(self, name))[1])
    translate(route, BODIES[route], Names(Serving(), 0))
    content = document["paths"][f"/v1/images/{route}"]["post"]["requestBody"]["content"]
    assert set(content["application/json"]["schema"]["properties"]) == read
    form = {name.removesuffix("[]") for name in content["multipart/form-data"]["schema"]["properties"]}
    assert form == read


BODIES: Mapping[Any, Body] = {
    "generations": Body({"prompt": "a fox"}),
    "edits": Body({"prompt": "a fox"}, {"image": [PICTURE], "mask": [hole()]}),
    "variations": Body({}, {"image": [PICTURE]}),
    "interpolations": Body({}, {"image": [PICTURE, png("blue")]}),
}


@pytest.mark.parametrize("route", api_fields.ROUTES)
def test_what_the_document_needs_is_needed(document, route):
    schema = document["paths"][f"/v1/images/{route}"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    names, body = Names(Serving(), 0), BODIES[route]
    for name in schema.get("required", ()):
        less = Body(
            {field: value for field, value in body.values.items() if field != name},
            {field: value for field, value in body.files.items() if field != name},
        )
        with pytest.raises(Refusal):
            translate(route, less, names)


def test_every_link_of_the_document_leads_to_a_schema(document):
    links = [part.partition('"')[0] for part in json.dumps(document).split('"$ref": "')[1:]]
    assert links
    for link in links:
        assert link.rpartition("/")[2] in document["components"]["schemas"]


# Values, by the schema and against it


def test_a_schema_says_of_every_dial_what_is_taken(server):
    """Of each dial: what its schema allows, the builder takes; what it forbids, the builder refuses."""
    for name, schema in DIALS.items():
        task = "inpaint" if name in ("resample", "expand", "mask_mode", "invert_mask") else "generate"
        for value in _allowed(schema):
            _build(task, {name: value})
        for value in _forbidden(schema):
            with pytest.raises(DalleError):
                _build(task, {name: value})


def _build(task: str, dials: dict[str, Any]) -> None:
    """The request with some dials, and with what they need beside them. Raises DalleError."""
    from dallecli.source import Source

    picture = Source(kind="picture", name="image", sha256="0" * 64, data=PICTURE)
    values: dict[str, Any] = {"model": "starter"}
    if task == "inpaint":
        values |= {"image": picture, "mask": ["0,0,9,9"], "prompt": "a fox"}
    elif not dials.keys() & {"fidelity", "inversion_steps", "class"}:
        values["prompt"] = "a fox"
    if dials.keys() & {"fidelity", "inversion_steps"}:
        task = "vary"
        values |= {"image": picture, "fidelity": 0.5}
    if "strength" in dials:
        values["init"] = picture
    build_request(task, {**values, **dials})


def _allowed(schema: Mapping[str, Any]) -> list[Any]:
    if "enum" in schema:
        return list(schema["enum"])
    kinds = set(schema["type"])
    if "integer" in kinds and "pattern" not in schema:
        return ["left=8", 8, None]
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + (0.5 if "number" in kinds else 1))
    most = schema.get("maximum", least + 3)
    if "integer" in kinds:
        return [least, most, str(least), f" {most} ", None]
    if "number" in kinds:
        return [least, most, str(least), "1e-3" if least < 1e-3 else "1", None]
    return ["some words", None]


def _forbidden(schema: Mapping[str, Any]) -> list[Any]:
    wrong: list[Any] = [[1], {"a": 1}]
    if "enum" in schema:
        return [*wrong, "nonsense", 7]
    if "pattern" in schema:
        wrong += [True, "nonsense"]
    if "minimum" in schema:
        wrong += [schema["minimum"] - 1, str(schema["minimum"] - 1)]
    if "exclusiveMinimum" in schema:
        wrong += [schema["exclusiveMinimum"]]
    if "maximum" in schema:
        wrong += [schema["maximum"] + 1]
    return wrong


NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)
KNOWN = st.sampled_from([*api_fields.FIELDS, *DIALS, "image", "mask", "nonsense"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(KNOWN, JUNK, max_size=4), route=st.sampled_from(api_fields.ROUTES))
def test_whatever_json_comes_the_answer_is_as_documented_and_nothing_is_painted_for_an_error(
    server, document, values, route
):
    before = server.metric("dalle_images_total")
    values.pop("stream", None)
    answer = server.post(f"/v1/images/{route}", {"prompt": "a fox", "n": 1, **values})
    documented = document["paths"][f"/v1/images/{route}"]["post"]["responses"]
    assert str(answer.status) in documented
    painted = server.metric("dalle_images_total") - before
    if answer.status == 200:
        assert painted == len(answer.data)
        assert set(document["components"]["schemas"]["Pictures"]["required"]) <= answer.json.keys()
    else:
        assert (400 <= answer.status < 500, painted) == (True, 0)
        assert set(answer.error) == {"message", "type", "param", "code", "dalle"}
