"""The official Python client, unchanged, against our server: what programs do is what these scripts do.

python -m venv /tmp/new && /tmp/new/bin/pip install openai==3.57.0
python -m venv /tmp/old && /tmp/old/bin/pip install openai==1.109.1
DALLE_CLIENTS=/tmp/new/bin/python:/tmp/old/bin/python pytest -m clients tests/server
"""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.server.talking import Talk, hole, png, process

pytestmark = pytest.mark.clients

PYTHONS = [path for path in os.environ.get("DALLE_CLIENTS", "").split(":") if path]

START = """
import base64, io, os, sys, warnings
warnings.simplefilter("ignore")
import openai
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
picture, mask = open(sys.argv[3], "rb").read(), open(sys.argv[4], "rb").read()
def is_png(entry):
    return base64.b64decode(entry.b64_json).startswith(b"\\x89PNG")
"""

SCRIPTS = {
    "the tutorial": """
response = client.images.generate(model="dall-e-3", prompt="a white siamese cat", size="1024x1024",
                                  quality="standard", n=1)
assert response.data[0].url.startswith("http://127.0.0.1:")
""",
    "base64": """
response = client.images.generate(model="gpt-image-1", prompt="a cat", size="auto", quality="auto", background="auto")
assert is_png(response.data[0]) and response.data[0].url is None
""",
    "nulls": """
response = client.images.generate(prompt="a cat", n=None, size=None, model=None, response_format=None)
assert is_png(response.data[0]) and response.data[0].revised_prompt == "a cat"
""",
    "several": """
response = client.images.generate(prompt="a cat", n=3, extra_body={"seed": 5})
assert [one.model_extra["dalle"]["seed"] for one in response.data] == [5, 6, 7]
assert response.model_extra["dalle"]["model"] == "starter"
""",
    "an edit": """
for image in (picture, io.BytesIO(picture), ("a.png", picture), open(sys.argv[3], "rb"), [picture]):
    response = client.images.edit(image=image, mask=mask, prompt="a couch", n=1, size="256x256")
    assert is_png(response.data[0])
""",
    "an edit without a mask": """
response = client.images.edit(model="gpt-image-1", image=[picture], prompt="a couch", quality="high")
assert is_png(response.data[0])
""",
    "a variation": """
response = client.images.create_variation(image=picture, n=2, size="1024x1024", response_format="b64_json")
assert len(response.data) == 2 and is_png(response.data[1])
""",
    "models": """
assert [model.id for model in client.models.list()] == ["starter"]
assert client.models.retrieve("dall-e-2").id == "dall-e-2"
""",
    "a stream": """
events = list(client.images.generate(prompt="a cat", model="gpt-image-1", stream=True, partial_images=2))
assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
assert all(is_png(event) for event in events)
events = list(client.images.edit(image=picture, mask=mask, prompt="a cat", stream=True))
assert [event.type for event in events] == ["image_edit.completed"]
""",
    "a stream that tells of steps": """
more = {"progress": True, "seed": 5}
events = list(client.images.generate(prompt="a cat", stream=True, partial_images=1, extra_body=more))
assert events[0].type == "dalle.progress" and events[-1].type == "image_generation.completed"
assert is_png(events[-1]) and events[-1].model_extra["dalle"]["seed"] == 5
""",
    "the way between two pictures": """
ends = [base64.b64encode(picture).decode()] * 2
body = {"image": ends, "frames": 3}
response = client.post("/images/interpolations", body=body, cast_to=openai.types.ImagesResponse)
assert len(response.data) == 3
""",
    "errors": """
def refused(kind, call, code, param):
    try:
        call()
    except kind as error:
        assert (error.code, error.param) == (code, param), (error.code, error.param)
        assert error.request_id
    else:
        raise AssertionError(code)
refused(openai.BadRequestError, lambda: client.images.generate(prompt=""), "invalid_prompt", "prompt")
refused(openai.BadRequestError, lambda: client.images.generate(prompt="a", size="big"), "invalid_size", "size")
refused(openai.NotFoundError, lambda: client.images.generate(prompt="a", model="gpt-5"), "model_not_found", "model")
refused(openai.BadRequestError, lambda: client.images.edit(image=b"x", prompt="a"), "invalid_image", "image")
no_mask = lambda: client.images.edit(image=picture, mask=picture, prompt="a")
refused(openai.BadRequestError, no_mask, "invalid_mask", "mask")
stranger = OpenAI(base_url=sys.argv[1], api_key="another")
refused(openai.AuthenticationError, lambda: stranger.models.list(), "invalid_api_key", None)
""",
    "many at once": """
import asyncio
from openai import AsyncOpenAI
async def main():
    client = AsyncOpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
    found = await asyncio.gather(*(client.images.generate(prompt="a", extra_body={"seed": k}) for k in range(8)))
    assert [one.data[0].model_extra["dalle"]["seed"] for one in found] == list(range(8))
asyncio.run(main())
""",
    "a client that is not patient": """
try:
    client.with_options(timeout=0.5, max_retries=2).images.generate(prompt="slow", n=10, extra_body={"steps": 500})
except (openai.APITimeoutError, openai.InternalServerError):
    pass
else:
    raise AssertionError("it waited")
""",
}

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "picture.png").write_bytes(png())
    (folder / "mask.png").write_bytes(hole())
    with process(folder, DALLE_TOKEN=TOKEN, seconds="0.001") as talk:
        talk.headers["Authorization"] = f"Bearer {TOKEN}"
        yield talk


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("python", PYTHONS if PYTHONS else [None])
def test_the_official_client_works(server, python, script):
    if python is None:
        pytest.skip("DALLE_CLIENTS names no Python with the package openai: see the top of this file")
    new = subprocess.run([python, "-c", "import openai; print(openai.__version__)"], capture_output=True, text=True)
    if script == "a stream" and new.stdout.startswith(("0.", "1.0", "1.1.")):
        pytest.skip("this version knows no streams of pictures")
    assert server.log is not None
    folder = server.log.parent
    arguments = [f"http://127.0.0.1:{server.port}/v1", TOKEN, str(folder / "picture.png"), str(folder / "mask.png")]
    done = subprocess.run([python, "-c", START + SCRIPTS[script], *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert server.get("/health").json["status"] == "ok"


def test_after_all_of_them_nothing_is_waiting(server):
    assert server.get("/health").json["waiting"] == 0
    assert server.metric("dalle_failures_total") == 0
