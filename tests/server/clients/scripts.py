"""What each client is asked to do: as programs do it, and as articles show it. A script that ends with 0 has worked.

Their arguments are the base URL, the token, a picture and a mask; the first two are also in the variables of OpenAI.
"""

from collections.abc import Mapping
from typing import Final

PYTHON = """
import base64, io, os, sys, warnings
warnings.simplefilter("ignore")
import openai
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
picture, mask = open(sys.argv[3], "rb").read(), open(sys.argv[4], "rb").read()
def is_png(entry):
    return base64.b64decode(entry.b64_json).startswith(b"\\x89PNG")
"""

OPENAI = {
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
assert "starter" in [model.id for model in client.models.list()]
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

OPENAI |= {
    "the first answer of the guide": """
# As DALL-E 3's guide and most articles have it, word for word: the URL and the key come from the environment.
client = OpenAI()

response = client.images.generate(
  model="dall-e-3",
  prompt="a white siamese cat",
  size="1024x1024",
  quality="standard",
  n=1,
)

image_url = response.data[0].url

import urllib.request
assert urllib.request.urlopen(image_url).read().startswith(b"\\x89PNG")
""",
    "the edit of the guide": """
client = OpenAI()
response = client.images.edit(
  model="dall-e-2",
  image=open(sys.argv[3], "rb"),
  mask=open(sys.argv[4], "rb"),
  prompt="A sunlit indoor lounge area with a pool containing a flamingo",
  n=1,
  size="1024x1024"
)
image_url = response.data[0].url
assert image_url.endswith(".png")
""",
    "the variation of the guide": """
client = OpenAI()
response = client.images.create_variation(
  model="dall-e-2",
  image=open(sys.argv[3], "rb"),
  n=1,
  size="1024x1024"
)

image_url = response.data[0].url
assert image_url.endswith(".png")
""",
    "the error of the guide": """
try:
  client.images.create_variation(image=io.BytesIO(b"no picture"), n=1, size="1024x1024")
  raise AssertionError("it was taken")
except openai.OpenAIError as e:
  assert e.http_status == 400 if hasattr(e, "http_status") else e.status_code == 400
  assert e.code == "invalid_image" and e.param == "image"
""",
    "a key that is its own request": """
headers = {"Idempotency-Key": "key-" + openai.__version__}
first = client.images.generate(prompt="a cat", extra_headers=headers)
again = client.images.generate(prompt="a cat", extra_headers=headers)
assert first.data[0].b64_json == again.data[0].b64_json and first.created == again.created
try:
    client.images.generate(prompt="a dog", extra_headers=headers)
except openai.UnprocessableEntityError as error:
    assert error.code == "idempotency_key_reused"
else:
    raise AssertionError("it was taken")
""",
}

OPENAI_0: dict[str, str] = {
    "the tutorial of its time": """
response = openai.Image.create(prompt="a white siamese cat", n=1, size="1024x1024")
image_url = response['data'][0]['url']
assert image_url.startswith("http://127.0.0.1:")
""",
    "an edit": """
response = openai.Image.create_edit(image=open(sys.argv[3], "rb"), mask=open(sys.argv[4], "rb"),
                                    prompt="a flamingo", n=2, size="256x256")
assert len(response["data"]) == 2 and response["data"][1]["url"]
""",
    "a variation": """
response = openai.Image.create_variation(image=open(sys.argv[3], "rb"), n=1, size="1024x1024")
assert response["data"][0]["url"]
""",
    "base64": """
response = openai.Image.create(prompt="a cat", n=2, size="256x256", response_format="b64_json")
assert all(base64.b64decode(one["b64_json"]).startswith(b"\\x89PNG") and "url" not in one for one in response["data"])
""",
    "errors": """
try:
    openai.Image.create(prompt="", n=1, size="1024x1024")
except openai.error.InvalidRequestError as error:
    assert error.http_status == 400 and error.param == "prompt", error
    assert "prompt" in str(error)
else:
    raise AssertionError("it was taken")
openai.api_key = "another"
try:
    openai.Image.create(prompt="a")
except openai.error.AuthenticationError:
    pass
else:
    raise AssertionError("it was taken")
""",
}

LANGCHAIN: dict[str, str] = {
    "as its page has it": """
assert DallEAPIWrapper().run("a cat").startswith("http://127.0.0.1:")
""",
    "several, of DALL-E 3": """
found = DallEAPIWrapper(model="dall-e-3", n=3, quality="hd", separator="|").run("a cat").split("|")
assert len(found) == 3 and all(url.endswith(".png") for url in found)
""",
    "under the name that answers with base64 alone": """
import openai
wrapper = DallEAPIWrapper(model="gpt-image-1")
try:
    wrapper.run("a cat")  # joins the URLs, of which there are none: this is why other names have both
except TypeError:
    pass
""",
    "errors": """
import openai
try:
    DallEAPIWrapper(size="big").run("a cat")
except openai.BadRequestError as error:
    assert error.code == "invalid_size"
else:
    raise AssertionError("it was taken")
""",
}

LITELLM: dict[str, str] = {
    "a picture": """
response = litellm.image_generation(model="openai/dall-e-3", prompt="a cat", size="1024x1024", **there)
assert response.data[0].url.startswith("http://127.0.0.1:")
""",
    "base64": """
response = litellm.image_generation(model="openai/dall-e-3", prompt="a cat", response_format="b64_json", **there)
assert base64.b64decode(response.data[0].b64_json).startswith(b"\\x89PNG")
""",
    "our own name of a model, and several": """
response = litellm.image_generation(model="openai/starter", prompt="a cat", n=2, **there)
assert len(response.data) == 2
""",
    "an edit": """
with open(sys.argv[3], "rb") as image, open(sys.argv[4], "rb") as mask:
    response = litellm.image_edit(model="openai/gpt-image-1", image=image, mask=mask, prompt="a couch", **there)
assert base64.b64decode(response.data[0].b64_json).startswith(b"\\x89PNG")
""",
    "a variation": """
with open(sys.argv[3], "rb") as image:
    response = litellm.image_variation(model="openai/dall-e-2", image=image, n=1, **there)
assert response.data[0].url or response.data[0].b64_json
""",
    "many at once": """
import asyncio
async def main():
    asked = [litellm.aimage_generation(model="openai/dall-e-3", prompt=f"{k}", **there) for k in range(4)]
    return await asyncio.gather(*asked)
assert [response.data[0].revised_prompt for response in asyncio.run(main())] == ["0", "1", "2", "3"]
""",
    "errors": """
try:
    litellm.image_generation(model="openai/dall-e-3", prompt="a cat", size="big", **there)
except litellm.BadRequestError as error:
    assert "big" in str(error)
else:
    raise AssertionError("it was taken")
try:
    litellm.image_generation(model="openai/dall-e-3", prompt="a cat", api_base=sys.argv[1], api_key="another")
except litellm.AuthenticationError:
    pass
else:
    raise AssertionError("it was taken")
""",
}

JAVASCRIPT: Final = """
import fs from "node:fs"; import assert from "node:assert/strict";
const [url, token, picture, mask] = process.argv.slice(-4);
const isPng = (text) => Buffer.from(text, "base64").subarray(1, 4).toString() === "PNG";
"""

NODE: dict[str, str] = {
    "the tutorial": """
const response = await client.images.generate({ model: "dall-e-3", prompt: "a white siamese cat", n: 1,
                                                size: "1024x1024" });
const image_url = response.data[0].url;
const file = await fetch(image_url);
assert.equal(file.headers.get("content-type"), "image/png");
""",
    "base64": """
const response = await client.images.generate({ model: "gpt-image-1", prompt: "a cat", size: "auto" });
assert(isPng(response.data[0].b64_json)); assert.equal(response.data[0].url, undefined);
""",
    "nulls, and several": """
const response = await client.images.generate({ prompt: "a cat", n: 3, size: null, model: null, seed: 5 });
assert.deepEqual(response.data.map((one) => one.dalle.seed), [5, 6, 7]);
""",
    "an edit": """
for (const image of [fs.createReadStream(picture), await toFile(fs.readFileSync(picture)),
                     [await toFile(fs.readFileSync(picture), "a.png", { type: "image/png" })]]) {
  const response = await client.images.edit({ image, mask: fs.createReadStream(mask), prompt: "a couch", n: 1,
                                              size: "256x256" });
  assert(isPng(response.data[0].b64_json));
}
""",
    "an edit without a mask": """
const image = [await toFile(fs.readFileSync(picture))];
const response = await client.images.edit({ model: "gpt-image-1", image, prompt: "a couch", quality: "high" });
assert(isPng(response.data[0].b64_json));
""",
    "a variation": """
const response = await client.images.createVariation({ image: fs.createReadStream(picture), n: 2, size: "1024x1024",
                                                       response_format: "b64_json" });
assert.equal(response.data.length, 2); assert(isPng(response.data[1].b64_json));
""",
    "models": """
assert((await client.models.list()).data.map((model) => model.id).includes("starter"));
assert.equal((await client.models.retrieve("dall-e-2")).id, "dall-e-2");
""",
    "a stream": """
const kinds = [];
const stream = await client.images.generate({ model: "gpt-image-1", prompt: "a cat", stream: true, partial_images: 2 });
for await (const event of stream) { kinds.push(event.type); assert(isPng(event.b64_json)); }
assert.deepEqual(kinds.map((kind) => kind.split(".")[1]), ["partial_image", "partial_image", "completed"]);
""",
    "a stream of an edit": """
const kinds = [];
const stream = await client.images.edit({ image: fs.createReadStream(picture), mask: fs.createReadStream(mask),
                                          prompt: "a cat", stream: true, partial_images: 1 });
for await (const event of stream) kinds.push(event.type);
assert.deepEqual(kinds, ["image_edit.partial_image", "image_edit.completed"]);
""",
    "errors": """
const refused = async (kind, call, code, param) => {
  const error = await call().then(() => null, (error) => error);
  assert(error instanceof kind, String(error)); assert.equal(error.code, code); assert.equal(error.param, param);
  assert(error.requestID);
};
const ask = (body) => () => client.images.generate(body);
await refused(OpenAI.BadRequestError, ask({ prompt: "" }), "invalid_prompt", "prompt");
await refused(OpenAI.BadRequestError, ask({ prompt: "a", size: "big" }), "invalid_size", "size");
await refused(OpenAI.NotFoundError, ask({ prompt: "a", model: "x" }), "model_not_found", "model");
const stranger = new OpenAI({ baseURL: url, apiKey: "another" });
await refused(OpenAI.AuthenticationError, () => stranger.models.list(), "invalid_api_key", null);
""",
    "one request for each error that is no use to repeat": """
let sent = 0;
const counting = new OpenAI({ baseURL: url, apiKey: token, fetch: (...all) => { sent += 1; return fetch(...all); } });
await counting.images.generate({ prompt: "a", size: "big" }).catch(() => {});
assert.equal(sent, 1);
""",
    "a client that is not patient": """
const error = await client.images.generate({ prompt: "slow", n: 10, steps: 500 }, { timeout: 500, maxRetries: 1 })
  .then(() => null, (error) => error);
assert(error instanceof OpenAI.APIConnectionTimeoutError || error instanceof OpenAI.InternalServerError, String(error));
""",
}

AI: dict[str, str] = {
    "of OpenAI's provider": """
const { image } = await generateImage({ model: openai.image("dall-e-3"), prompt: "a cat", size: "1024x1024" });
assert(isPng(image.base64)); assert.equal(image.mediaType, "image/png");
""",
    "of the compatible provider": """
const { image } = await generateImage({ model: compatible.imageModel("starter"), prompt: "a cat", size: "256x256" });
assert(isPng(image.base64));
""",
    "several, which it asks for one by one": """
const { images } = await generateImage({ model: openai.image("starter"), prompt: "a cat", n: 4 });
assert.equal(images.length, 4);
assert.equal(new Set(images.map((one) => one.base64)).size, 4);  // each has a seed of its own
""",
    "a seed": """
const ask = () => generateImage({ model: compatible.imageModel("starter"), prompt: "a cat",
                                  providerOptions: { dalle: { seed: 7 } } });
assert.equal((await ask()).image.base64, (await ask()).image.base64);
""",
    "an edit with a mask": """
const { image } = await generateImage({
  model: openai.image("gpt-image-1"),
  prompt: { text: "a couch", images: [fs.readFileSync(picture)], mask: fs.readFileSync(mask) },
});
assert(isPng(image.base64));
""",
    "an edit without a mask": """
const { image } = await generateImage({
  model: compatible.imageModel("starter"),
  prompt: { text: "a couch", images: [fs.readFileSync(picture)] },
});
assert(isPng(image.base64));
""",
    "errors": """
const error = await generateImage({ model: openai.image("dall-e-3"), prompt: "a cat", size: "0x0" })
  .then(() => null, (error) => error);
assert(APICallError.isInstance(error), String(error));
assert.equal(error.statusCode, 400); assert(error.message.includes("0x0"));
""",
}

_NODE_START: Final = """
import OpenAI, { toFile } from "openai";
const client = new OpenAI({ baseURL: url, apiKey: token });
"""

_AI_START: Final = """
import { APICallError, generateImage } from "ai";
import { createOpenAI } from "@ai-sdk/openai"; import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
const openai = createOpenAI({ baseURL: url, apiKey: token });
const compatible = createOpenAICompatible({ name: "dalle", baseURL: url, apiKey: token });
"""

STARTS: Final[Mapping[str, str]] = {
    "OPENAI": PYTHON,
    "OPENAI_0": """
import base64, sys
import openai
openai.api_base, openai.api_key = sys.argv[1], sys.argv[2]
""",
    "LANGCHAIN": """
import warnings
warnings.simplefilter("ignore")
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper
""",
    "LITELLM": """
import base64, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
there = {"api_base": sys.argv[1], "api_key": sys.argv[2]}
""",
    "NODE": JAVASCRIPT + _NODE_START,
    "AI": JAVASCRIPT + _AI_START,
}

SCRIPTS: Final[Mapping[str, Mapping[str, str]]] = {
    "OPENAI": OPENAI,
    "OPENAI_0": OPENAI_0,
    "LANGCHAIN": LANGCHAIN,
    "LITELLM": LITELLM,
    "NODE": NODE,
    "AI": AI,
}
